//! This machine's TPM: issues evidence
