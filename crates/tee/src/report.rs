//! What was found on this machine, in plain words, for an administrator on its console.

use std::fmt;
use std::path::Path;

use attest::component::Component;
use attest::event_log::EventLog;
use attest::tpm::PublicArea;
use attest::{Digest, PcrIndex, PcrValues};

use crate::event_log::read_event_log;
use crate::tpm::{Tpm, TpmAddress};

/// What was found. Prints as text; nothing in it decides anything.
#[derive(Debug)]
pub struct Report {
    address: TpmAddress,
    tpm: Result<Found, String>,
    log: Result<usize, String>,
}

#[derive(Debug)]
struct Found {
    pcrs: PcrValues,
    key: Result<Digest, String>,
    /// PCRs that the log does not lead to, if there is a log.
    unexplained: Vec<PcrIndex>,
}

/// Looks at a TPM and its event log. Never fails: what is missing is what the report is about.
#[must_use]
pub fn of(address: &TpmAddress, event_log: &Path) -> Report {
    let bytes = read_event_log(event_log).map_err(|error| chain(&error));
    let parsed = bytes
        .as_ref()
        .map_err(Clone::clone)
        .and_then(|bytes| EventLog::parse(bytes).map_err(|e| e.to_string()));
    let tpm = look(address, parsed.as_ref().ok());
    Report {
        address: address.clone(),
        tpm,
        log: parsed.map(|log| log.events().len()),
    }
}

fn look(address: &TpmAddress, log: Option<&EventLog<'_>>) -> Result<Found, String> {
    let mut tpm = Tpm::open(address).map_err(|error| chain(&error))?;
    let pcrs = tpm.read_pcrs().map_err(|error| chain(&error))?;
    let key = attestation_key(&mut tpm);
    let unexplained = log.map(|log| log.unexplained(&pcrs)).unwrap_or_default();
    Ok(Found {
        pcrs,
        key,
        unexplained,
    })
}

fn attestation_key(tpm: &mut Tpm) -> Result<Digest, String> {
    let key = tpm
        .create_attestation_key()
        .map_err(|error| chain(&error))?;
    let id = PublicArea::parse(&key.public)
        .map(|area| area.id())
        .map_err(|error| error.to_string());
    tpm.flush_key(key).map_err(|error| chain(&error))?;
    id
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tpm {
            Err(error) => writeln!(f, "no usable TPM at {}: {error}", self.address)?,
            Ok(found) => {
                writeln!(
                    f,
                    "TPM at {}: answers, SHA-256 bank with 24 PCRs",
                    self.address
                )?;
                match &found.key {
                    Ok(id) => writeln!(f, "attestation key: ECC P-256, restricted, id {id}")?,
                    Err(error) => writeln!(f, "attestation key: cannot be made: {error}")?,
                }
                writeln!(
                    f,
                    "hardware root of trust: none checked (qemu-vtpm): this machine is not confidential"
                )?;
            }
        }
        match &self.log {
            Err(error) => writeln!(f, "event log: none: {error}")?,
            Ok(events) => writeln!(f, "event log: {events} measurements")?,
        }
        let Ok(found) = &self.tpm else { return Ok(()) };
        if self.log.is_ok() {
            match found.unexplained.as_slice() {
                [] => writeln!(f, "event log leads to the PCRs")?,
                pcrs => {
                    let names: Vec<String> = pcrs.iter().map(PcrIndex::to_string).collect();
                    writeln!(f, "event log does not lead to PCR {}", names.join(", "))?;
                }
            }
        }
        let joined = found.pcrs.get(PcrIndex::CLUSTER_MARK) != Digest::ZERO;
        writeln!(
            f,
            "cluster mark (PCR 15): {}",
            if joined {
                "set: belongs to a cluster"
            } else {
                "not set"
            }
        )?;
        write!(f, "{}", PcrTable(&found.pcrs))
    }
}

/// PCRs with their owners, one a line.
#[derive(Clone, Copy, Debug)]
pub struct PcrTable<'a>(pub &'a PcrValues);

impl fmt::Display for PcrTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, value) in self.0.iter() {
            writeln!(
                f,
                "PCR {:>2}  {value}  {}",
                index.number(),
                Component::measured_into(index)
            )?;
        }
        Ok(())
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}
