//! A TPM 2.0: the kernel's resource manager, or swtpm's socket. One command at a time.
//!
//! Knows the few commands this system needs. The empty password authorizes all of them, as on every machine whose
//! hierarchies nobody has claimed.

mod activation;
mod nitro;
mod nv;
mod stored;
#[cfg(test)]
mod tests;
mod transport;

use std::io;
use std::path::Path;
use std::time::Duration;

use attest::{Digest, PcrIndex, PcrValues};
use thiserror::Error;
use tpm2_protocol::basic::TpmHandle;
use tpm2_protocol::constant::TPM_MAX_COMMAND_SIZE;
use tpm2_protocol::data::{
    Tpm2bData, Tpm2bEvent, Tpm2bPublic, TpmAlgId, TpmEccCurve, TpmRc, TpmRcBase, TpmRh, TpmSt,
    TpmaObject, TpmlPcrSelection, TpmsAuthCommand, TpmsEccParms, TpmsEccPoint, TpmsPcrSelect,
    TpmsPcrSelection, TpmsSchemeHash, TpmtEccScheme, TpmtKdfScheme, TpmtPublic, TpmtSigScheme,
    TpmtSymDefObject, TpmuAsymScheme, TpmuPublicId, TpmuPublicParms,
};
use tpm2_protocol::frame::{
    TpmCreatePrimaryCommand, TpmCreatePrimaryResponse, TpmFlushContextCommand,
    TpmFlushContextResponse, TpmFrame, TpmPcrEventCommand, TpmPcrEventResponse, TpmPcrReadCommand,
    TpmPcrReadResponse, TpmQuoteCommand, TpmQuoteResponse, TpmResponse, TpmUnmarshalBody,
    tpm_marshal_command,
};
use tpm2_protocol::{TpmError as FormatError, TpmMarshal, TpmWriter};

pub use activation::LoadedEk;
pub use nitro::NitroError;
pub use transport::TpmAddress;
use transport::Transport;

/// A TPM may ask to send a command again while it tests itself.
const MAX_RETRIES: u32 = 40;
const RETRY_AFTER: Duration = Duration::from_millis(50);
/// A TPM answers with at most 8 digests, so 24 PCRs need three reads, or a few more if it chooses to give less.
const MAX_READS: u32 = 24;

/// A command did not succeed.
#[derive(Debug, Error)]
pub enum TpmError {
    /// There is no TPM there, or it is not ours to use.
    #[error("cannot open the TPM at {address}")]
    Open {
        /// Where.
        address: TpmAddress,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It does not answer.
    #[error("cannot talk to the TPM while it runs {command}")]
    Transfer {
        /// The command.
        command: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A command or an answer is not of the form it must have.
    #[error("cannot encode or decode {command}: {detail}")]
    Format {
        /// The command.
        command: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// The TPM says no.
    #[error("the TPM refuses {command}: {code}")]
    Refused {
        /// The command.
        command: &'static str,
        /// `TPM_RC`.
        code: TpmRc,
    },
    /// It has no SHA-256 bank with 24 PCRs.
    #[error(
        "the TPM has no value for PCR {0} in a SHA-256 bank: allocate that bank in its firmware settings"
    )]
    NoSuchPcr(PcrIndex),
    /// More than any area holds that this system knows.
    #[error("the NV area {index:#010x} has {length} bytes, more than are read or written")]
    AreaTooLong {
        /// The area.
        index: u32,
        /// Its length.
        length: u16,
    },
    /// An area that is there, but is another's.
    #[error("the NV area {index:#010x} has {found} bytes, and must have {length}")]
    AreaLength {
        /// The area.
        index: u32,
        /// Its length.
        found: u16,
        /// What is to be written.
        length: u16,
    },
}

/// An open TPM.
#[derive(Debug)]
pub struct Tpm {
    transport: Transport,
}

/// A key that lives in the TPM until it is flushed, or for good.
#[derive(Debug)]
pub struct AttestationKey {
    handle: TpmHandle,
    is_persistent: bool,
    /// `TPM2B_PUBLIC`.
    pub public: Vec<u8>,
}

/// What `TPM2_Quote` answers.
#[derive(Debug)]
pub struct QuoteAnswer {
    /// `TPM2B_ATTEST`.
    pub quoted: Vec<u8>,
    /// `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
}

impl Tpm {
    /// Connects to the unix socket of an swtpm.
    ///
    /// # Errors
    /// When nothing listens there.
    pub fn connect_swtpm(socket: &Path) -> Result<Self, TpmError> {
        Self::open(&TpmAddress::Unix(socket.to_owned()))
    }

    /// Opens a TPM wherever it is.
    ///
    /// # Errors
    /// When it is not there, or the program may not use it.
    pub fn open(address: &TpmAddress) -> Result<Self, TpmError> {
        let transport = Transport::open(address).map_err(|source| TpmError::Open {
            address: address.clone(),
            source,
        })?;
        Ok(Self { transport })
    }

    /// Reads all 24 PCRs of the SHA-256 bank.
    ///
    /// # Errors
    /// When the TPM fails, or has no such bank.
    pub fn read_pcrs(&mut self) -> Result<PcrValues, TpmError> {
        const COMMAND: &str = "TPM2_PCR_Read";
        let mut values = PcrValues::at_reset();
        let mut wanted: Vec<PcrIndex> = PcrIndex::all().collect();
        for _ in 0..MAX_READS {
            let Some(first) = wanted.first().copied() else {
                return Ok(values);
            };
            let command = TpmPcrReadCommand {
                handles: [],
                pcr_selection_in: selection(COMMAND, &wanted)?,
            };
            let answer: TpmPcrReadResponse = self.run(COMMAND, &command, false)?;
            let read: Vec<PcrIndex> = answer
                .pcr_selection_out
                .iter()
                .filter(|bank| bank.hash == TpmAlgId::Sha256)
                .flat_map(|bank| selected(&bank.pcr_select))
                .filter(|index| wanted.contains(index))
                .collect();
            if read.is_empty() || read.len() != answer.pcr_values.len() {
                return Err(TpmError::NoSuchPcr(first));
            }
            for (index, value) in read.iter().zip(answer.pcr_values.iter()) {
                let bytes = <[u8; 32]>::try_from(value.as_ref())
                    .map_err(|_| TpmError::NoSuchPcr(*index))?;
                values.set(*index, Digest::from_bytes(bytes));
            }
            wanted.retain(|index| !read.contains(index));
        }
        wanted
            .first()
            .map_or(Ok(values), |index| Err(TpmError::NoSuchPcr(*index)))
    }

    /// `TPM2_PCR_Event`: the TPM hashes `data` itself for each bank and extends the digests, so that no bank is left
    /// behind for somebody else to extend.
    ///
    /// # Errors
    /// When the TPM fails, or `data` is longer than 1024 bytes.
    pub fn extend_event(&mut self, pcr: PcrIndex, data: &[u8]) -> Result<(), TpmError> {
        const COMMAND: &str = "TPM2_PCR_Event";
        let command = TpmPcrEventCommand {
            handles: [TpmHandle::new(pcr.number().into())],
            event_data: Tpm2bEvent::try_from(data).map_err(format_error(COMMAND))?,
        };
        let _: TpmPcrEventResponse = self.run(COMMAND, &command, true)?;
        Ok(())
    }

    /// Makes the attestation key: a primary of the endorsement hierarchy, so that the same TPM makes the same key again
    /// after each boot without storing anything. Restricted: it signs nothing but what the TPM itself states.
    ///
    /// # Errors
    /// When the TPM fails, or has no ECC P-256.
    pub fn create_attestation_key(&mut self) -> Result<AttestationKey, TpmError> {
        self.create_attestation_key_of(attestation_key_template(
            TpmAlgId::Sha256,
            TpmEccCurve::NistP256,
            TpmAlgId::Sha256,
        ))
    }

    fn create_attestation_key_of(
        &mut self,
        template: TpmtPublic,
    ) -> Result<AttestationKey, TpmError> {
        const COMMAND: &str = "TPM2_CreatePrimary";
        let command = TpmCreatePrimaryCommand {
            handles: [TpmHandle::new(TpmRh::Endorsement as u32)],
            in_sensitive: tpm2_protocol::data::Tpm2bSensitiveCreate::default(),
            in_public: Tpm2bPublic { inner: template },
            outside_info: Tpm2bData::default(),
            creation_pcr: TpmlPcrSelection::default(),
        };
        let answer: TpmCreatePrimaryResponse = self.run(COMMAND, &command, true)?;
        let [handle] = answer.handles;
        match marshalled(COMMAND, &answer.out_public) {
            Ok(public) => Ok(AttestationKey {
                handle,
                is_persistent: false,
                public,
            }),
            Err(error) => {
                self.flush(handle)?;
                Err(error)
            }
        }
    }

    /// Quotes all 24 PCRs of the SHA-256 bank over `qualifying_data`.
    ///
    /// # Errors
    /// When the TPM fails.
    pub fn quote(
        &mut self,
        key: &AttestationKey,
        qualifying_data: &Digest,
    ) -> Result<QuoteAnswer, TpmError> {
        const COMMAND: &str = "TPM2_Quote";
        let all: Vec<PcrIndex> = PcrIndex::all().collect();
        let command = TpmQuoteCommand {
            handles: [key.handle],
            qualifying_data: Tpm2bData::try_from(qualifying_data.as_bytes().as_slice())
                .map_err(format_error(COMMAND))?,
            // the key has its own scheme
            in_scheme: TpmtSigScheme::default(),
            pcr_select: selection(COMMAND, &all)?,
        };
        let answer: TpmQuoteResponse = self.run(COMMAND, &command, true)?;
        Ok(QuoteAnswer {
            quoted: marshalled(COMMAND, &answer.quoted)?,
            signature: marshalled(COMMAND, &answer.signature)?,
        })
    }

    /// Removes a key from the TPM's few slots. One that the TPM keeps for good takes none, and stays.
    ///
    /// # Errors
    /// When the TPM fails.
    pub fn flush_key(&mut self, key: AttestationKey) -> Result<(), TpmError> {
        if key.is_persistent {
            return Ok(());
        }
        self.flush(key.handle)
    }

    fn flush(&mut self, handle: TpmHandle) -> Result<(), TpmError> {
        let command = TpmFlushContextCommand {
            handles: [],
            flush_handle: handle,
        };
        let _: TpmFlushContextResponse = self.run("TPM2_FlushContext", &command, false)?;
        Ok(())
    }

    fn run<C: TpmFrame, R: TpmUnmarshalBody>(
        &mut self,
        name: &'static str,
        command: &C,
        with_password: bool,
    ) -> Result<R, TpmError> {
        let password = [password()];
        let sessions = if with_password {
            password.as_slice()
        } else {
            &[]
        };
        self.run_with(name, command, sessions)
    }

    fn run_with<C: TpmFrame, R: TpmUnmarshalBody>(
        &mut self,
        name: &'static str,
        command: &C,
        sessions: &[TpmsAuthCommand],
    ) -> Result<R, TpmError> {
        let frame = encoded(name, command, sessions)?;
        let mut retries = 0;
        loop {
            let answer = self
                .transport
                .exchange(&frame)
                .map_err(|source| TpmError::Transfer {
                    command: name,
                    source,
                })?;
            let answer = TpmResponse::cast(&answer).map_err(format_error(name))?;
            let code = answer.rc().map_err(format_error(name))?;
            match code.base() {
                TpmRcBase::Success => return answer.unmarshal().map_err(format_error(name)),
                TpmRcBase::Retry | TpmRcBase::Testing | TpmRcBase::Yielded
                    if retries < MAX_RETRIES =>
                {
                    retries += 1;
                    std::thread::sleep(RETRY_AFTER);
                }
                _ => {
                    return Err(TpmError::Refused {
                        command: name,
                        code,
                    });
                }
            }
        }
    }
}

fn encoded<C: TpmFrame>(
    name: &'static str,
    command: &C,
    sessions: &[TpmsAuthCommand],
) -> Result<Vec<u8>, TpmError> {
    let tag = if sessions.is_empty() {
        TpmSt::NoSessions
    } else {
        TpmSt::Sessions
    };
    let mut buffer = [0; TPM_MAX_COMMAND_SIZE];
    let mut writer = TpmWriter::new(&mut buffer);
    tpm_marshal_command(command, tag, sessions, &mut writer).map_err(format_error(name))?;
    Ok(writer.as_bytes().to_vec())
}

/// The empty password.
fn password() -> TpmsAuthCommand {
    TpmsAuthCommand {
        session_handle: TpmHandle::new(TpmRh::Pw as u32),
        ..TpmsAuthCommand::default()
    }
}

fn marshalled<T: TpmMarshal>(name: &'static str, value: &T) -> Result<Vec<u8>, TpmError> {
    let mut buffer = [0; TPM_MAX_COMMAND_SIZE];
    let mut writer = TpmWriter::new(&mut buffer);
    value.marshal(&mut writer).map_err(format_error(name))?;
    Ok(writer.as_bytes().to_vec())
}

/// The protocol crate's error is no `std::error::Error` of a kind worth keeping: its text is all there is.
fn format_error(command: &'static str) -> impl Fn(FormatError) -> TpmError {
    move |error| TpmError::Format {
        command,
        detail: error.to_string(),
    }
}

fn selection(command: &'static str, indices: &[PcrIndex]) -> Result<TpmlPcrSelection, TpmError> {
    let mut bitmap = [0_u8; 3];
    for index in indices {
        if let Some(byte) = bitmap.get_mut(usize::from(index.number() / 8)) {
            *byte |= 1 << (index.number() % 8);
        }
    }
    let bank = TpmsPcrSelection {
        hash: TpmAlgId::Sha256,
        pcr_select: TpmsPcrSelect::try_from(bitmap.as_slice()).map_err(format_error(command))?,
    };
    let mut list = TpmlPcrSelection::default();
    list.try_push(bank).map_err(format_error(command))?;
    Ok(list)
}

fn selected(bitmap: &[u8]) -> impl Iterator<Item = PcrIndex> {
    PcrIndex::all().filter(|index| {
        bitmap
            .get(usize::from(index.number() / 8))
            .is_some_and(|byte| byte >> (index.number() % 8) & 1 == 1)
    })
}

fn attestation_key_template(name_alg: TpmAlgId, curve: TpmEccCurve, hash: TpmAlgId) -> TpmtPublic {
    TpmtPublic {
        object_type: TpmAlgId::Ecc,
        name_alg,
        object_attributes: TpmaObject::FIXED_TPM
            | TpmaObject::FIXED_PARENT
            | TpmaObject::SENSITIVE_DATA_ORIGIN
            | TpmaObject::USER_WITH_AUTH
            | TpmaObject::NO_DA
            | TpmaObject::RESTRICTED
            | TpmaObject::SIGN_ENCRYPT,
        parameters: TpmuPublicParms::Ecc(TpmsEccParms {
            symmetric: TpmtSymDefObject::default(),
            scheme: TpmtEccScheme {
                scheme: TpmAlgId::Ecdsa,
                details: TpmuAsymScheme::Hash(TpmsSchemeHash { hash_alg: hash }),
            },
            curve_id: curve,
            kdf: TpmtKdfScheme::default(),
        }),
        unique: TpmuPublicId::Ecc(TpmsEccPoint::default()),
        ..TpmtPublic::default()
    }
}
