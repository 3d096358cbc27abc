//! Tests across programs and machines; see `tests/`.
