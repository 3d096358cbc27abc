//! The documents people write, `config` and `state`, as [`attest::yaml`] reads them.

#[cfg(test)]
pub(crate) mod cases;

#[cfg(test)]
pub(crate) use attest::yaml::MAX_DOCUMENT;
pub use attest::yaml::{Position, Problem, Problems};
pub(crate) use attest::yaml::{Section, Value};

/// Reads a document; a field without a value counts as one that is not there.
pub(crate) fn document<T>(
    file: &str,
    text: &str,
    read: impl FnOnce(&mut Section<'_>) -> Option<T>,
) -> Result<T, Problems> {
    attest::yaml::document(file, text, attest::yaml::Null::IsAbsent, read)
}
