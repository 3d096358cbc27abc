//! Attestation keys of clouds: one that a TPM keeps at a handle, and one that it makes of a template it keeps in an area.

use tpm2_protocol::TpmUnmarshal as _;
use tpm2_protocol::basic::TpmHandle;
use tpm2_protocol::data::{TpmRcBase, TpmtPublic};
use tpm2_protocol::frame::{TpmReadPublicCommand, TpmReadPublicResponse};

use super::{AttestationKey, Tpm, TpmError, format_error, marshalled};

impl Tpm {
    /// The key that the TPM keeps at a handle, or nothing if there is none.
    ///
    /// # Errors
    /// When the TPM fails.
    pub fn persistent_key(&mut self, handle: u32) -> Result<Option<AttestationKey>, TpmError> {
        const COMMAND: &str = "TPM2_ReadPublic";
        let handle = TpmHandle::new(handle);
        let command = TpmReadPublicCommand { handles: [handle] };
        let answer: Result<TpmReadPublicResponse, TpmError> = self.run(COMMAND, &command, false);
        match answer {
            Ok(answer) => Ok(Some(AttestationKey {
                handle,
                is_persistent: true,
                public: marshalled(COMMAND, &answer.out_public)?,
            })),
            Err(TpmError::Refused { code, .. }) if code.base() == TpmRcBase::Handle => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes the key of a template (`TPMT_PUBLIC`; padding may follow) as a primary of the endorsement hierarchy.
    ///
    /// # Errors
    /// When the template is none, or the TPM fails or makes no such key.
    pub fn create_key_of_template(&mut self, template: &[u8]) -> Result<AttestationKey, TpmError> {
        let (template, _) = TpmtPublic::unmarshal(template)
            .map_err(format_error("the template of an attestation key"))?;
        self.create_attestation_key_of(template)
    }
}
