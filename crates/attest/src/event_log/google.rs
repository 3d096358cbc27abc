//! What Google's firmware measures about its machine into PCR 0, before it draws its line: a version, and the technology
//! that guards the machine.

use thiserror::Error;

use super::variable::utf16_text;
use super::{Explained, Register, event_type};

const VERSION_PREFIX: &str = "GCE Virtual Firmware v";
const TECHNOLOGY_SIGNATURE: &[u8; 16] = b"GCE NonHostInfo\0";

/// What guards a machine of Google's, as its firmware says. Whether it does is for a report of the hardware to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Technology {
    /// Nothing.
    None,
    /// AMD SEV.
    Sev,
    /// AMD SEV-ES.
    SevEs,
    /// Intel TDX.
    Tdx,
    /// AMD SEV-SNP.
    SevSnp,
    /// A number that this release does not know.
    Unknown(u8),
}

/// What Google's firmware says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GoogleFirmware {
    /// Its version.
    pub version: u32,
    /// What it says guards the machine.
    pub technology: Technology,
}

/// Why a log does not show Google's firmware, or not the one that is demanded.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum GoogleFirmwareError {
    /// PCR 0 must be explained.
    #[error("{0} was not compared with a quote")]
    NotExplained(Register),
    /// No firmware version of Google's was measured.
    #[error("no version of Google's firmware was measured")]
    MissingVersion,
    /// No technology was measured.
    #[error("no technology was measured")]
    MissingTechnology,
    /// The event was measured twice.
    #[error("the {0} was measured twice")]
    Twice(&'static str),
    /// The digest is not over the data.
    #[error("the digest of the {0} is not over its content")]
    NotCovered(&'static str),
    /// Older than demanded.
    #[error("the firmware has version {found}, at least {least} is demanded")]
    TooOld {
        /// The version.
        found: u32,
        /// What is demanded.
        least: u32,
    },
    /// Another technology than demanded.
    #[error("the firmware says {found:?}, {demanded:?} is demanded")]
    OtherTechnology {
        /// The technology.
        found: Technology,
        /// What is demanded.
        demanded: Technology,
    },
}

const VERSION: &str = "firmware version";
const TECHNOLOGY: &str = "technology";

impl GoogleFirmware {
    /// Reads both from PCR 0, of what precedes its separator.
    ///
    /// # Errors
    /// When one is missing, doubled or not covered by its digest.
    pub fn of(log: &Explained<'_>) -> Result<Self, GoogleFirmwareError> {
        let events = log
            .of(log.register(0))
            .map_err(GoogleFirmwareError::NotExplained)?;
        let mut version = None;
        let mut technology = None;
        // found by its digest: what runs later can extend the register and call an event whatever it likes
        for event in
            events.take_while(|event| !event.is_over(&[0; 4]) && !event.is_over(&[0xff; 4]))
        {
            let twice = match event.kind {
                event_type::S_CRTM_VERSION => {
                    if !event.covers_data() {
                        return Err(GoogleFirmwareError::NotCovered(VERSION));
                    }
                    let found =
                        version_of(event.data).ok_or(GoogleFirmwareError::MissingVersion)?;
                    version.replace(found).map(|_| VERSION)
                }
                event_type::NONHOST_INFO => {
                    if !event.covers_data() {
                        return Err(GoogleFirmwareError::NotCovered(TECHNOLOGY));
                    }
                    let found =
                        technology_of(event.data).ok_or(GoogleFirmwareError::MissingTechnology)?;
                    technology.replace(found).map(|_| TECHNOLOGY)
                }
                _ => None,
            };
            if let Some(what) = twice {
                return Err(GoogleFirmwareError::Twice(what));
            }
        }
        Ok(Self {
            version: version.ok_or(GoogleFirmwareError::MissingVersion)?,
            technology: technology.ok_or(GoogleFirmwareError::MissingTechnology)?,
        })
    }

    /// Demands a version and a technology.
    ///
    /// # Errors
    /// When the firmware is older, or says something else.
    pub fn demand(&self, least: u32, technology: Technology) -> Result<(), GoogleFirmwareError> {
        if self.version < least {
            return Err(GoogleFirmwareError::TooOld {
                found: self.version,
                least,
            });
        }
        if self.technology != technology {
            return Err(GoogleFirmwareError::OtherTechnology {
                found: self.technology,
                demanded: technology,
            });
        }
        Ok(())
    }
}

fn version_of(data: &[u8]) -> Option<u32> {
    let text = utf16_text(data)?;
    let digits = text.strip_prefix(VERSION_PREFIX)?;
    // parse() would take a sign
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

fn technology_of(data: &[u8]) -> Option<Technology> {
    let [technology, reserved @ ..] = data.strip_prefix(TECHNOLOGY_SIGNATURE)? else {
        return None;
    };
    if reserved.len() != 15 {
        return None;
    }
    Some(match technology {
        0 => Technology::None,
        1 => Technology::Sev,
        2 => Technology::SevEs,
        3 => Technology::Tdx,
        4 => Technology::SevSnp,
        other => Technology::Unknown(*other),
    })
}
