//! What PCR 4, 8, 9, 11, 12, 13 hold after an image booted, computed from its UKI alone.
//!
//! It does not know the firmware (PCR 0 to 3, 5 to 7), nor the cluster (PCR 15, extended by the node).
//!
//! - PCR 4, by the firmware: the boot attempt, a separator, the Authenticode digests of the UKI and of the kernel in it.
//! - PCR 9, by the kernel's EFI stub: the command line as UTF-16 with its zero, and the initrd.
//! - PCR 11, by the boot stub: name and content of each section.
//! - PCR 8, 12, 13 stay zero: nothing may be added to the command line, no credential, no extension.
//!
//! Specification: TCG PC Client Platform Firmware Profile 3.3.4; `systemd-stub(7)`; Linux
//! `drivers/firmware/efi/libstub/efi-stub-helper.c`.

use std::collections::BTreeMap;

use attest::{Component, ComponentDigest, Digest, PcrIndex};
use thiserror::Error;

use crate::pe::{Pe, PeError};
use crate::uki::MEASURED_SECTIONS;

#[cfg(test)]
mod tests;

/// The event that the firmware measures before it starts a boot option.
const BOOT_ATTEMPT: &[u8] = b"Calling EFI Application from Boot Option";
const SEPARATOR: &[u8] = &[0; 4];
/// Sections that the boot stub makes part of the initrd that it hands to the kernel (systemd 257, `stub.c`).
const ADDED_TO_INITRD: [&str; 5] = [".osrel", ".profile", ".pcrpkey", ".pcrsig", ".ucode"];

/// The registers after boot, and the named parts they are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prediction {
    /// SHA-256 bank.
    pub pcrs: BTreeMap<PcrIndex, Digest>,
    /// The parts in the order in which they are extended, and the root file system, which the command line pins.
    pub components: Vec<ComponentDigest>,
}

/// Why a UKI can not be predicted.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum PredictError {
    /// The UKI is not a PE file.
    #[error("the UKI is not a usable PE file")]
    Uki(#[source] PeError),
    /// The kernel is not a PE file, so the firmware could not start it.
    #[error("the kernel in the UKI is not a usable PE file")]
    Kernel(#[source] PeError),
    /// A section that every UKI has is not there.
    #[error("the UKI has no section {0}")]
    NoSection(&'static str),
    /// The UKI has a section that the boot stub puts together with the initrd, so that the kernel measures other bytes than the
    /// initrd's.
    #[error("the UKI has a section {0}, which the boot stub adds to the initrd")]
    AddsToInitrd(&'static str),
    /// The command line is not plain ASCII.
    #[error("the command line is not plain ASCII without control characters")]
    CommandLine,
    /// The command line has no root hash, or more than one.
    #[error("the command line does not have exactly one roothash= of 64 hexadecimal digits")]
    RootHash,
}

/// Predicts the registers for a machine that boots `uki`.
///
/// # Errors
///
/// When `uki` is not a UKI as this project builds it.
pub fn predict(uki: &[u8]) -> Result<Prediction, PredictError> {
    let pe = Pe::parse(uki).map_err(PredictError::Uki)?;
    let section = |name: &'static str| pe.section(name).map_err(PredictError::Uki);
    let required = |name: &'static str| section(name)?.ok_or(PredictError::NoSection(name));
    for name in ADDED_TO_INITRD {
        if section(name)?.is_some() {
            return Err(PredictError::AddsToInitrd(name));
        }
    }
    let kernel = Pe::parse(required(".linux")?).map_err(PredictError::Kernel)?;
    let command_line = command_line(required(".cmdline")?)?;
    let root_hash = root_hash(command_line)?;

    let mut log = Log::default();
    log.measure(
        PCR_BOOT_LOADER,
        Component::BootAttempt,
        Digest::of(BOOT_ATTEMPT),
    );
    log.measure(PCR_BOOT_LOADER, Component::Separator, Digest::of(SEPARATOR));
    log.measure(
        PCR_BOOT_LOADER,
        Component::BootLoader,
        Digest::from_bytes(pe.authenticode()),
    );
    log.measure(
        PCR_BOOT_LOADER,
        Component::Kernel,
        Digest::from_bytes(kernel.authenticode()),
    );
    log.measure(
        PCR_KERNEL,
        Component::CommandLine,
        Digest::of(&utf16(command_line)),
    );
    log.measure(
        PCR_KERNEL,
        Component::Initrd,
        Digest::of(required(".initrd")?),
    );
    for name in MEASURED_SECTIONS {
        if let Some(content) = section(name)? {
            log.extend(PCR_STUB, &Digest::of_parts(&[name.as_bytes(), &[0]]));
            log.measure(PCR_STUB, component(name), Digest::of(content));
        }
    }
    log.name(PCR_KERNEL, Component::RootFileSystem, root_hash);
    Ok(Prediction {
        pcrs: log.pcrs,
        components: log.components,
    })
}

const PCR_BOOT_LOADER: PcrIndex = pcr(4);
const PCR_KERNEL: PcrIndex = pcr(9);
const PCR_STUB: PcrIndex = pcr(11);
/// Registers into which nothing may be measured.
const UNUSED: [PcrIndex; 3] = [pcr(8), pcr(12), pcr(13)];

const fn pcr(number: u32) -> PcrIndex {
    match PcrIndex::new(number) {
        Ok(index) => index,
        Err(_) => panic!("no such register"),
    }
}

struct Log {
    pcrs: BTreeMap<PcrIndex, Digest>,
    components: Vec<ComponentDigest>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            pcrs: UNUSED.into_iter().map(|pcr| (pcr, Digest::ZERO)).collect(),
            components: Vec::new(),
        }
    }
}

impl Log {
    fn extend(&mut self, pcr: PcrIndex, digest: &Digest) {
        let register = self.pcrs.entry(pcr).or_insert(Digest::ZERO);
        *register = register.extended_by(digest);
    }

    fn name(&mut self, pcr: PcrIndex, name: Component, digest: Digest) {
        self.components.push(ComponentDigest { pcr, name, digest });
    }

    fn measure(&mut self, pcr: PcrIndex, name: Component, digest: Digest) {
        self.extend(pcr, &digest);
        self.name(pcr, name, digest);
    }
}

/// What the section is to a person.
fn component(section: &str) -> Component {
    match section {
        ".linux" => Component::Kernel,
        ".cmdline" => Component::CommandLine,
        ".initrd" => Component::Initrd,
        ".splash" => Component::Splash,
        ".dtb" | ".dtbauto" => Component::DeviceTree,
        ".uname" => Component::Uname,
        ".sbat" => Component::Sbat,
        _ => Component::UkiSection,
    }
}

/// The command line without its trailing zero. The stub replaces control characters and trims white space before it hands the
/// line on; a line where that would change something is refused, so that what is measured is what was built.
fn command_line(section: &[u8]) -> Result<&str, PredictError> {
    let line = section.strip_suffix(&[0]).unwrap_or(section);
    let line = std::str::from_utf8(line).map_err(|_| PredictError::CommandLine)?;
    let plain =
        !line.is_empty() && line.trim() == line && line.chars().all(|c| (' '..='~').contains(&c));
    if plain {
        Ok(line)
    } else {
        Err(PredictError::CommandLine)
    }
}

fn root_hash(command_line: &str) -> Result<Digest, PredictError> {
    let mut values = command_line
        .split(' ')
        .filter_map(|word| word.strip_prefix("roothash="));
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(PredictError::RootHash);
    };
    value.parse().map_err(|_| PredictError::RootHash)
}

fn utf16(line: &str) -> Vec<u8> {
    line.encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect()
}
