//! What a TD's firmware measures about what the host gave it, into RTMR0: the hand-off block (TD HOB) with the memory map,
//! and the volume with the variables (CFV).

use thiserror::Error;

use super::{BankDigest, Explained, Register, event_type};
use crate::tpm::{ParseError, Reader};

const HOB_DESCRIPTION: &[u8] = b"TdxTable\0";

/// The volume with the firmware's variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationVolume {
    /// The digest of its content.
    pub digest: BankDigest,
    /// Its name, by the writer of the log.
    pub claimed_name: String,
    /// Where it lay, by the writer of the log.
    pub claimed_base: u64,
    /// Its size in bytes, by the writer of the log.
    pub claimed_length: u64,
}

/// What the host gave a TD's firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TdFirmware {
    /// The digest of the hand-off block: differs with the machine's memory and processors.
    pub hand_off_block: BankDigest,
    /// The volume with the variables.
    pub configuration_volume: ConfigurationVolume,
}

/// Why a log does not show it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TdFirmwareError {
    /// Not the log of a TD.
    #[error("not the log of a TD")]
    NotOfTd,
    /// RTMR0 must be explained.
    #[error("{0} was not compared with a quote")]
    NotExplained(Register),
    /// The event is missing.
    #[error("the {0} was not measured")]
    Missing(&'static str),
    /// The event was measured twice.
    #[error("the {0} was measured twice")]
    Twice(&'static str),
    /// The event cannot be read.
    #[error("the event of the configuration volume cannot be read")]
    Malformed(#[source] ParseError),
}

const HOB: &str = "hand-off block";
const VOLUME: &str = "configuration volume";

impl TdFirmware {
    /// Reads both from RTMR0. The digests are certain; which is which is what the writer of the log says, so they are for
    /// comparison with expected ones.
    ///
    /// # Errors
    /// When one is missing or doubled, or this is no log of a TD.
    pub fn of(log: &Explained<'_>) -> Result<Self, TdFirmwareError> {
        if !log.is_of_td() {
            return Err(TdFirmwareError::NotOfTd);
        }
        let events = log
            .of(log.register(7))
            .map_err(TdFirmwareError::NotExplained)?;
        let mut hand_off_block = None;
        let mut volume = None;
        for event in events {
            let twice = match event.kind {
                event_type::EFI_HANDOFF_TABLES2 if is_hob(event.data) => {
                    hand_off_block.replace(event.digest).map(|_| HOB)
                }
                event_type::EFI_PLATFORM_FIRMWARE_BLOB2 => {
                    let found =
                        volume_of(event.digest, event.data).map_err(TdFirmwareError::Malformed)?;
                    volume.replace(found).map(|_| VOLUME)
                }
                _ => None,
            };
            if let Some(what) = twice {
                return Err(TdFirmwareError::Twice(what));
            }
        }
        Ok(Self {
            hand_off_block: hand_off_block.ok_or(TdFirmwareError::Missing(HOB))?,
            configuration_volume: volume.ok_or(TdFirmwareError::Missing(VOLUME))?,
        })
    }
}

/// `UEFI_HANDOFF_TABLE_POINTERS2`: begins with the length of a description and the description.
fn is_hob(data: &[u8]) -> bool {
    data.split_first().is_some_and(|(length, rest)| {
        usize::from(*length) == HOB_DESCRIPTION.len() && rest.starts_with(HOB_DESCRIPTION)
    })
}

/// `UEFI_PLATFORM_FIRMWARE_BLOB2`.
fn volume_of(digest: BankDigest, data: &[u8]) -> Result<ConfigurationVolume, ParseError> {
    let mut reader = Reader::little_endian(data);
    let length = usize::from(reader.u8("BlobDescriptionSize")?);
    let name = reader.bytes("BlobDescription", length)?;
    let volume = ConfigurationVolume {
        digest,
        claimed_name: String::from_utf8_lossy(name.strip_suffix(&[0]).unwrap_or(name)).into_owned(),
        claimed_base: reader.u64("BlobBase")?,
        claimed_length: reader.u64("BlobLength")?,
    };
    reader.finish("UEFI_PLATFORM_FIRMWARE_BLOB2")?;
    Ok(volume)
}
