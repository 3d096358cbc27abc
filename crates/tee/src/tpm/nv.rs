//! NV areas: where clouds and makers keep certificates and reports.

use tpm2_protocol::basic::{TpmHandle, TpmUint16};
use tpm2_protocol::data::{
    Tpm2bAuth, Tpm2bMaxNvBuffer, Tpm2bNvPublic, TpmAlgId, TpmRcBase, TpmRh, TpmaNv, TpmsNvPublic,
};
use tpm2_protocol::frame::{
    TpmNvDefineSpaceCommand, TpmNvDefineSpaceResponse, TpmNvReadCommand, TpmNvReadPublicCommand,
    TpmNvReadPublicResponse, TpmNvReadResponse, TpmNvWriteCommand, TpmNvWriteResponse,
};

use super::{Tpm, TpmError, format_error};

/// What every TPM reads and writes at once.
const CHUNK: u16 = 512;
/// Larger than any area that is read here: Azure's report has 2600 bytes, certificates less.
const MAX_AREA: u16 = 16 * 1024;

impl Tpm {
    /// How long an area is, or nothing if there is none.
    ///
    /// # Errors
    /// When the TPM fails.
    pub fn nv_length(&mut self, index: u32) -> Result<Option<u16>, TpmError> {
        const COMMAND: &str = "TPM2_NV_ReadPublic";
        let command = TpmNvReadPublicCommand {
            handles: [TpmHandle::new(index)],
        };
        let answer: Result<TpmNvReadPublicResponse, TpmError> = self.run(COMMAND, &command, false);
        match answer {
            Ok(answer) => Ok(Some(u16::from_be_bytes(
                answer.nv_public.inner.data_size.to_be_bytes(),
            ))),
            Err(TpmError::Refused { code, .. }) if code.base() == TpmRcBase::Handle => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a whole area, as the owner or, where the owner may not, with the area's own empty password. Nothing if
    /// there is no such area.
    ///
    /// # Errors
    /// When the TPM fails, or the area is longer than 16 KiB, or nobody without a password may read it.
    pub fn nv_read(&mut self, index: u32) -> Result<Option<Vec<u8>>, TpmError> {
        let Some(length) = self.nv_length(index)? else {
            return Ok(None);
        };
        if length > MAX_AREA {
            return Err(TpmError::AreaTooLong { index, length });
        }
        match self.nv_read_as(TpmRh::Owner as u32, index, length) {
            Err(TpmError::Refused { code, .. }) if code.base() == TpmRcBase::NvAuthorization => {
                self.nv_read_as(index, index, length).map(Some)
            }
            other => other.map(Some),
        }
    }

    pub(super) fn nv_read_as(
        &mut self,
        authorization: u32,
        index: u32,
        length: u16,
    ) -> Result<Vec<u8>, TpmError> {
        const COMMAND: &str = "TPM2_NV_Read";
        let mut bytes = Vec::with_capacity(usize::from(length));
        let mut offset = 0;
        while offset < length {
            let size = CHUNK.min(length - offset);
            let command = TpmNvReadCommand {
                handles: [TpmHandle::new(authorization), TpmHandle::new(index)],
                size: TpmUint16::from_be_bytes(size.to_be_bytes()),
                offset: TpmUint16::from_be_bytes(offset.to_be_bytes()),
            };
            let answer: TpmNvReadResponse = self.run(COMMAND, &command, true)?;
            let read = answer.data.as_ref();
            if read.len() != usize::from(size) {
                return Err(TpmError::Format {
                    command: COMMAND,
                    detail: format!("{} bytes of {size} were read", read.len()),
                });
            }
            bytes.extend_from_slice(read);
            offset += size;
        }
        Ok(bytes)
    }

    /// Writes a whole area as the owner. Makes the area if there is none.
    ///
    /// # Errors
    /// When the TPM fails, or the area has another length than `bytes`.
    pub fn nv_write(&mut self, index: u32, bytes: &[u8]) -> Result<(), TpmError> {
        let length = u16::try_from(bytes.len())
            .ok()
            .filter(|length| *length <= MAX_AREA)
            .ok_or(TpmError::AreaTooLong {
                index,
                length: u16::MAX,
            })?;
        match self.nv_length(index)? {
            None => self.nv_define(index, length, TpmaNv::OWNERWRITE | TpmaNv::OWNERREAD)?,
            Some(found) if found == length => {}
            Some(found) => {
                return Err(TpmError::AreaLength {
                    index,
                    found,
                    length,
                });
            }
        }
        self.nv_write_as(TpmRh::Owner as u32, index, bytes)
    }

    /// `bytes` are no longer than an area.
    pub(super) fn nv_write_as(
        &mut self,
        authorization: u32,
        index: u32,
        bytes: &[u8],
    ) -> Result<(), TpmError> {
        const COMMAND: &str = "TPM2_NV_Write";
        let mut offset = 0_u16;
        for chunk in bytes.chunks(usize::from(CHUNK)) {
            let command = TpmNvWriteCommand {
                handles: [TpmHandle::new(authorization), TpmHandle::new(index)],
                data: Tpm2bMaxNvBuffer::try_from(chunk).map_err(format_error(COMMAND))?,
                offset: TpmUint16::from_be_bytes(offset.to_be_bytes()),
            };
            let _: TpmNvWriteResponse = self.run(COMMAND, &command, true)?;
            // a chunk is at most `CHUNK`, and all of them are `length`
            offset = offset.saturating_add(CHUNK);
        }
        Ok(())
    }

    pub(super) fn nv_define(
        &mut self,
        index: u32,
        length: u16,
        attributes: TpmaNv,
    ) -> Result<(), TpmError> {
        const COMMAND: &str = "TPM2_NV_DefineSpace";
        let command = TpmNvDefineSpaceCommand {
            handles: [TpmHandle::new(TpmRh::Owner as u32)],
            auth: Tpm2bAuth::default(),
            public_info: Tpm2bNvPublic {
                inner: TpmsNvPublic {
                    nv_index: TpmHandle::new(index),
                    name_alg: TpmAlgId::Sha256,
                    attributes,
                    data_size: TpmUint16::from_be_bytes(length.to_be_bytes()),
                    ..TpmsNvPublic::default()
                },
            },
        };
        let _: TpmNvDefineSpaceResponse = self.run(COMMAND, &command, true)?;
        Ok(())
    }
}
