//! The vendor command of AWS's NitroTPM: a request in an NV area, a document in the same area.

use attest::aws::MAX_DOCUMENT;
use attest::aws::nsm::{NsmError, attestation_request, attestation_response};
use thiserror::Error;
use tpm2_protocol::basic::TpmHandle;
use tpm2_protocol::data::{TpmRcBase, TpmRh, TpmaNv};
use tpm2_protocol::frame::{TpmNvUndefineSpaceCommand, TpmNvUndefineSpaceResponse, TpmResponse};

use super::{Tpm, TpmError, format_error};

/// `TPM_CC_VENDOR_AWS_NSM_REQUEST`.
const COMMAND_CODE: u32 = 0x2000_0001;
const COMMAND: &str = "AWS_NSM_Request";
/// The first area of an owner's (TCG, "Registry of Reserved TPM 2.0 Handles").
const FIRST_AREA: u32 = 0x0180_0000;
const MAX_TRIES: u32 = 16;
/// Larger than any document, of which a quarter is certificates.
const AREA: u16 = 8192;

/// Why there is no document of a NitroTPM.
#[derive(Debug, Error)]
pub enum NitroError {
    /// The TPM.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// A TPM of somebody else.
    #[error("this TPM has no command of AWS: it is no NitroTPM, or one of a time before documents")]
    NoNitroTpm,
    /// The module's answer.
    #[error(transparent)]
    Answer(#[from] NsmError),
    /// Too many areas of others.
    #[error("the NV areas from {FIRST_AREA:#010x} on are taken")]
    NoFreeArea,
}

impl Tpm {
    /// A document of this machine's NitroTPM over this data.
    ///
    /// # Errors
    /// When this TPM is none, or fails, or the module refuses.
    pub fn nitro_document(
        &mut self,
        nonce: Option<&[u8]>,
        user_data: Option<&[u8]>,
        public_key: Option<&[u8]>,
    ) -> Result<Vec<u8>, NitroError> {
        let request = attestation_request(nonce, user_data, public_key);
        let index = self.free_area()?;
        self.nv_define(index, AREA, TpmaNv::AUTHWRITE | TpmaNv::AUTHREAD)?;
        let answer = self.asked(index, &request);
        // whatever was answered: an area that stays would take the next one's place
        let removed = self.nv_undefine(index);
        let answer = answer?;
        removed?;
        let document = attestation_response(&answer)?;
        debug_assert!(document.len() <= MAX_DOCUMENT);
        Ok(document.to_vec())
    }

    /// Whether this TPM knows the command, which it is asked without a request. Nothing is written.
    ///
    /// # Errors
    /// When the TPM fails.
    pub fn has_nitro_command(&mut self) -> Result<bool, TpmError> {
        match self.vendor_command(FIRST_AREA) {
            Ok(()) => Ok(true),
            Err(NitroError::NoNitroTpm) => Ok(false),
            // it knows the command, and says what is wrong with this one
            Err(NitroError::Tpm(TpmError::Refused { .. })) => Ok(true),
            Err(NitroError::Tpm(error)) => Err(error),
            // of an answer, which a command alone does not have
            Err(NitroError::Answer(_) | NitroError::NoFreeArea) => Ok(false),
        }
    }

    fn asked(&mut self, index: u32, request: &[u8]) -> Result<Vec<u8>, NitroError> {
        self.nv_write_as(index, index, request)?;
        self.vendor_command(index)?;
        Ok(self.nv_read_as(index, index, AREA)?)
    }

    fn free_area(&mut self) -> Result<u32, NitroError> {
        for index in FIRST_AREA..FIRST_AREA + MAX_TRIES {
            if self.nv_length(index)?.is_none() {
                return Ok(index);
            }
        }
        Err(NitroError::NoFreeArea)
    }

    /// The protocol crate knows the commands of TCG only.
    fn vendor_command(&mut self, index: u32) -> Result<(), NitroError> {
        let mut body = Vec::new();
        body.extend(index.to_be_bytes()); // authorization
        body.extend(index.to_be_bytes());
        body.extend(9_u32.to_be_bytes()); // size of the authorization
        body.extend((TpmRh::Pw as u32).to_be_bytes());
        body.extend([0; 5]); // no nonce, no attributes, the empty password
        let mut frame = 0x8002_u16.to_be_bytes().to_vec(); // TPM_ST_SESSIONS
        frame.extend(
            u32::try_from(10 + body.len())
                .unwrap_or(u32::MAX)
                .to_be_bytes(),
        );
        frame.extend(COMMAND_CODE.to_be_bytes());
        frame.extend(body);
        let answer = self
            .transport
            .exchange(&frame)
            .map_err(|source| TpmError::Transfer {
                command: COMMAND,
                source,
            })?;
        let answer = TpmResponse::cast(&answer).map_err(format_error(COMMAND))?;
        let code = answer.rc().map_err(format_error(COMMAND))?;
        match code.base() {
            TpmRcBase::Success => Ok(()),
            TpmRcBase::CommandCode => Err(NitroError::NoNitroTpm),
            _ => Err(TpmError::Refused {
                command: COMMAND,
                code,
            }
            .into()),
        }
    }

    fn nv_undefine(&mut self, index: u32) -> Result<(), TpmError> {
        let command = TpmNvUndefineSpaceCommand {
            handles: [TpmHandle::new(TpmRh::Owner as u32), TpmHandle::new(index)],
        };
        let _: TpmNvUndefineSpaceResponse = self.run("TPM2_NV_UndefineSpace", &command, true)?;
        Ok(())
    }
}
