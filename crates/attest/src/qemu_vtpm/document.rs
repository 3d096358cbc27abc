//! The evidence document of `qemu-vtpm`: what the TPM states, and nothing that vouches for it.

use crate::vtpm::document::{DocumentError, TpmEvidence, documents};

/// What the TPM states is all there is.
pub type Document = TpmEvidence;

documents! {
    /// The same, as it stands in JSON.
    struct Alone of QemuVtpm {}
}

impl Document {
    /// Parses a `qemu-vtpm` document.
    ///
    /// # Errors
    /// When it is not of exactly this form, or a field is beyond its bound.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        Alone::parse(bytes).map(|it| it.tpm)
    }

    /// Writes a `qemu-vtpm` document.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        Alone { tpm: self.clone() }.to_json()
    }
}
