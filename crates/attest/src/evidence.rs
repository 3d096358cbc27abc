//! Evidence as it travels: raw, foreign, bounded. And the joint behind which a machine makes it.

use std::error::Error as StdError;

use thiserror::Error;

use crate::{Binding, Variant};

/// The largest document that is accepted or sent.
pub const MAX_EVIDENCE: usize = 256 * 1024;

/// What a peer claims about itself. Says nothing until [`crate::appraise`] has looked at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    variant: Variant,
    document: Vec<u8>,
}

/// Why bytes cannot even be evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EvidenceError {
    /// Nothing was sent.
    #[error("the evidence document is empty")]
    Empty,
    /// More than [`MAX_EVIDENCE`].
    #[error("the evidence document has {0} bytes, more than {MAX_EVIDENCE}")]
    TooLong(usize),
}

impl Evidence {
    /// Takes foreign bytes as they are.
    ///
    /// # Errors
    /// When the document is empty or longer than [`MAX_EVIDENCE`].
    pub fn new(variant: Variant, document: Vec<u8>) -> Result<Self, EvidenceError> {
        match document.len() {
            0 => Err(EvidenceError::Empty),
            length if length > MAX_EVIDENCE => Err(EvidenceError::TooLong(length)),
            _ => Ok(Self { variant, document }),
        }
    }

    /// What the document claims to be.
    #[must_use]
    pub const fn variant(&self) -> Variant {
        self.variant
    }

    /// The bytes for the wire.
    #[must_use]
    pub fn document(&self) -> &[u8] {
        &self.document
    }
}

/// A machine that can make evidence. Blocking: a TPM takes tens of milliseconds, so callers with an executor hand the
/// call to a blocking thread.
pub trait Issue: Send + Sync {
    /// What kind of evidence [`Issue::issue`] makes.
    fn variant(&self) -> Variant;

    /// Makes evidence over `binding`.
    ///
    /// # Errors
    /// When the device fails.
    fn issue(&self, binding: &Binding) -> Result<Evidence, IssueError>;
}

/// The device could not make evidence.
#[derive(Debug, Error)]
#[error("cannot make {variant} evidence")]
pub struct IssueError {
    /// What was to be made.
    pub variant: Variant,
    /// What the device said.
    #[source]
    pub source: Box<dyn StdError + Send + Sync>,
}

impl IssueError {
    /// Wraps what the device said.
    pub fn new(variant: Variant, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self {
            variant,
            source: source.into(),
        }
    }
}
