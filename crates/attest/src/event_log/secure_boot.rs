//! Secure Boot as firmware measured it (PC Client Platform Firmware Profile, 3.3.4.8): state, keys and lists, from before
//! firmware drew its line.
//!
//! The kind of an event is covered by nothing, and what runs later can extend the same register. So the line is found by
//! its digest, whatever an event calls itself; there is exactly one; and only what precedes it counts.

use thiserror::Error;

use super::explained::is_action;
use super::{
    BankDigest, Explained, Guid, Measured, Register, SignatureDatabase, Variable, event_type,
};
use crate::tpm::ParseError;

const GLOBAL: Guid = Guid::from_fields(
    0x8be4_df61,
    0x93ca,
    0x11d2,
    [0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c],
);
const IMAGE_SECURITY: Guid = Guid::from_fields(
    0xd719_b2cb,
    0x3d3a,
    0x4596,
    [0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f],
);

const DEBUG_MODE: &[u8] = b"UEFI Debug Mode";
const DMA_PROTECTION_DISABLED: &[u8] = b"DMA Protection Disabled";
const EXIT_INVOKED: &[u8] = b"Exit Boot Services Invocation";
const EXIT_RETURNED: &[u8] = b"Exit Boot Services Returned with Success";

/// The PCR that Secure Boot is measured into, and the one that is told of the end of boot services.
const POLICY_PCR: u8 = 7;
const EXIT_PCR: u8 = 5;

/// Whether firmware checked what it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecureBootState {
    /// It did.
    Enabled,
    /// It did not.
    Disabled,
}

/// Whether firmware kept devices out of memory before the operating system did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmaProtection {
    /// Firmware says nothing.
    Unmentioned,
    /// Firmware says that it did not.
    Disabled,
}

/// The entry of a list that let an image run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority<'a> {
    /// Measured as it is.
    Measured(Variable<'a>),
    /// Old shims and firmware measure something else than they write down: only the digest is known.
    Unverified(BankDigest),
}

/// What firmware measured about Secure Boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecureBoot<'a> {
    /// Whether it was on.
    pub state: SecureBootState,
    /// PK.
    pub platform_key: SignatureDatabase<'a>,
    /// KEK.
    pub key_exchange_keys: SignatureDatabase<'a>,
    /// db.
    pub allowed: SignatureDatabase<'a>,
    /// dbx.
    pub forbidden: SignatureDatabase<'a>,
    /// What let images run, in order.
    pub authorities: Vec<Authority<'a>>,
    /// Whether devices could read and write memory meanwhile.
    pub dma_protection: DmaProtection,
}

/// Why a log does not show the state of Secure Boot.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SecureBootError {
    /// A register that must be explained is not.
    #[error("{0} was not compared with a quote")]
    NotExplained(Register),
    /// Firmware draws one line per register. A second one means that something else wrote it, and before which of the
    /// two firmware measured cannot be told.
    #[error("{0} has more than one separator")]
    DuplicateSeparator(Register),
    /// Firmware drew no line.
    #[error("{0} has no separator")]
    MissingSeparator(Register),
    /// The separator says that firmware failed.
    #[error("the separator of {0} says that an error occurred")]
    ErrorSeparator(Register),
    /// The digest of a configuration event is not over its data.
    #[error("the digest of a Secure Boot variable is not over its content")]
    NotCovered,
    /// The event is no variable.
    #[error("an event about Secure Boot cannot be read")]
    Malformed(#[source] ParseError),
    /// The variable's lists cannot be read.
    #[error("the signature lists of {variable} cannot be read")]
    Lists {
        /// The variable.
        variable: &'static str,
        /// Why.
        #[source]
        source: ParseError,
    },
    /// The variable was measured twice.
    #[error("{0} was measured twice")]
    DuplicateVariable(&'static str),
    /// The variable was not measured.
    #[error("{0} was not measured")]
    MissingVariable(&'static str),
    /// The variable was measured after firmware drew its line.
    #[error("{0} was measured after the separator")]
    LateVariable(&'static str),
    /// `SecureBoot` is neither 0 nor 1.
    #[error("the variable SecureBoot is neither 0 nor 1")]
    State,
    /// Secure Boot cannot be on without a platform key.
    #[error("Secure Boot is on without a platform key")]
    NoPlatformKey,
    /// Firmware was in debug mode.
    #[error("firmware was in debug mode")]
    DebugMode,
    /// The log ends before firmware handed the machine over, so it is not all that firmware measured.
    #[error("the log does not show that boot services ended")]
    MissingExitBootServices {
        /// What it shows of Secure Boot up to its end.
        state: SecureBootState,
    },
}

/// The variables that decide, in the order of the specification.
const VARIABLES: [(&str, Guid); 5] = [
    ("SecureBoot", GLOBAL),
    ("PK", GLOBAL),
    ("KEK", GLOBAL),
    ("db", IMAGE_SECURITY),
    ("dbx", IMAGE_SECURITY),
];

impl<'a> SecureBoot<'a> {
    /// Reads it. Of a TPM PCR 5 and 7 must be explained, of a TD RTMR0 and RTMR1.
    ///
    /// # Errors
    /// When anything is missing, doubled, out of order or not covered by its digest. That the end is missing is told if nothing else is wrong.
    pub fn of(log: &Explained<'a>) -> Result<Self, SecureBootError> {
        let register = log.register(POLICY_PCR);
        let events: Vec<&Measured<'a>> = log
            .of(register)
            .map_err(SecureBootError::NotExplained)?
            .collect();
        one_line_each(log)?;
        let line = events
            .iter()
            .position(|event| is_separator(event))
            .ok_or(SecureBootError::MissingSeparator(register))?;
        let (before, after) = events.split_at_checked(line).unwrap_or((&events, &[]));
        if events.iter().any(|event| event.is_over(DEBUG_MODE)) {
            return Err(SecureBootError::DebugMode);
        }
        for event in after {
            if let Some(name) = variable_of(event)?.and_then(|variable| decides(&variable)) {
                return Err(SecureBootError::LateVariable(name));
            }
        }

        let mut found: [Option<&'a [u8]>; 5] = [None; 5];
        for event in before {
            let Some(variable) = variable_of(event)? else {
                continue;
            };
            let Some(name) = decides(&variable) else {
                continue;
            };
            let at = VARIABLES.iter().position(|(known, _)| *known == name);
            if let Some(slot) = at.and_then(|at| found.get_mut(at))
                && slot.replace(variable.data).is_some()
            {
                return Err(SecureBootError::DuplicateVariable(name));
            }
        }
        let [state, platform_key, key_exchange_keys, allowed, forbidden] = found;
        let secure_boot = Self {
            state: state_of(state)?,
            platform_key: lists("PK", platform_key)?,
            key_exchange_keys: lists("KEK", key_exchange_keys)?,
            allowed: lists("db", allowed)?,
            forbidden: lists("dbx", forbidden)?,
            authorities: events.iter().filter_map(|event| authority(event)).collect(),
            dma_protection: if events
                .iter()
                .any(|event| event.is_over(DMA_PROTECTION_DISABLED))
            {
                DmaProtection::Disabled
            } else {
                DmaProtection::Unmentioned
            },
        };
        if secure_boot.state == SecureBootState::Enabled
            && secure_boot.platform_key.signatures().is_empty()
        {
            return Err(SecureBootError::NoPlatformKey);
        }
        // last: a log that is only short is told from one in which something is wrong
        if shows_exit(log)? {
            Ok(secure_boot)
        } else {
            let state = secure_boot.state;
            Err(SecureBootError::MissingExitBootServices { state })
        }
    }
}

const LINES: [[u8; 4]; 2] = [[0; 4], [0xff; 4]];
const ERROR_LINE: [u8; 4] = [1, 0, 0, 0];

fn is_separator(event: &Measured<'_>) -> bool {
    LINES.iter().any(|line| event.is_over(line))
}

/// At most one line in every explained register that firmware owns.
fn one_line_each(log: &Explained<'_>) -> Result<(), SecureBootError> {
    let mut seen: Vec<Register> = Vec::new();
    for event in log.events() {
        let register = event.register;
        let is_firmwares = (0..=7).any(|pcr| log.register(pcr) == register);
        if !is_firmwares {
            continue;
        }
        // by its kind: a boot order may be the same four bytes. Called something else it leaves the register without a line
        if event.kind == event_type::SEPARATOR && event.is_over(&ERROR_LINE) {
            return Err(SecureBootError::ErrorSeparator(register));
        }
        if is_separator(event) {
            if seen.contains(&register) {
                return Err(SecureBootError::DuplicateSeparator(register));
            }
            seen.push(register);
        }
    }
    Ok(())
}

/// Whether firmware says that it was asked to end, and then that it did.
fn shows_exit(log: &Explained<'_>) -> Result<bool, SecureBootError> {
    let mut events = log
        .of(log.register(EXIT_PCR))
        .map_err(SecureBootError::NotExplained)?;
    let is_invoked = events.any(|event| is_action(event, EXIT_INVOKED));
    let is_done = events.any(|event| is_action(event, EXIT_RETURNED));
    Ok(is_invoked && is_done)
}

/// The variable of a configuration event, which must be what was measured.
fn variable_of<'a>(event: &Measured<'a>) -> Result<Option<Variable<'a>>, SecureBootError> {
    if event.kind != event_type::EFI_VARIABLE_DRIVER_CONFIG {
        return Ok(None);
    }
    if !event.covers_data() {
        return Err(SecureBootError::NotCovered);
    }
    Variable::parse(event.data)
        .map(Some)
        .map_err(SecureBootError::Malformed)
}

fn decides(variable: &Variable<'_>) -> Option<&'static str> {
    VARIABLES
        .into_iter()
        .find(|(name, vendor)| *name == variable.name && *vendor == variable.vendor)
        .map(|(name, _)| name)
}

fn state_of(value: Option<&[u8]>) -> Result<SecureBootState, SecureBootError> {
    match value {
        None => Err(SecureBootError::MissingVariable("SecureBoot")),
        Some([1]) => Ok(SecureBootState::Enabled),
        // firmware without keys has no such variable and measures it empty
        Some([0] | []) => Ok(SecureBootState::Disabled),
        Some(_) => Err(SecureBootError::State),
    }
}

fn lists<'a>(
    variable: &'static str,
    value: Option<&'a [u8]>,
) -> Result<SignatureDatabase<'a>, SecureBootError> {
    let value = value.ok_or(SecureBootError::MissingVariable(variable))?;
    SignatureDatabase::parse(value).map_err(|source| SecureBootError::Lists { variable, source })
}

fn authority<'a>(event: &Measured<'a>) -> Option<Authority<'a>> {
    if event.kind != event_type::EFI_VARIABLE_AUTHORITY {
        return None;
    }
    let variable = Variable::parse(event.data).ok();
    Some(match variable.filter(|_| event.covers_data()) {
        Some(variable) => Authority::Measured(variable),
        None => Authority::Unverified(event.digest),
    })
}
