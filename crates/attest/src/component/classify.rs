//! Which part of the machine an event of the log is about, by what its writer says. A name for a person, no more.

use super::{Component, ComponentDigest};
use crate::event_log::{Event, EventLog, event_type};
use crate::{Digest, PcrIndex};

/// Linux's EFI stub tags what it measures into PCR 9 (`drivers/firmware/efi/libstub/efi-stub-helper.c`).
pub(super) const INITRD_TAG: u32 = 0x8f3b_22ec;
pub(super) const LOAD_OPTIONS_TAG: u32 = 0x8f3b_22ed;

/// The sections systemd-stub measures into PCR 11, each as its name and then its content.
const SECTIONS: [(&str, Component); 13] = [
    (".linux", Component::Kernel),
    (".osrel", Component::OsRelease),
    (".cmdline", Component::CommandLine),
    (".initrd", Component::Initrd),
    (".ucode", Component::Microcode),
    (".splash", Component::Splash),
    (".dtb", Component::DeviceTree),
    (".dtbauto", Component::DeviceTree),
    (".uname", Component::Uname),
    (".sbat", Component::Sbat),
    (".pcrpkey", Component::PcrSignatureKey),
    (".pcrkey", Component::PcrSignatureKey),
    (".profile", Component::UkiSection),
];

/// A log's events with names, in order, as a policy lists them.
pub(crate) fn of_log(log: &EventLog<'_>) -> Vec<ComponentDigest> {
    PcrIndex::all()
        .flat_map(|pcr| {
            named(log, pcr).map(move |(name, event)| ComponentDigest {
                pcr,
                name,
                digest: event.digest,
            })
        })
        .collect()
}

/// The events of one PCR with their names. A section's name is measured before its content; that event carries no
/// content and is left out.
pub(super) fn named<'l>(
    log: &'l EventLog<'_>,
    pcr: PcrIndex,
) -> impl Iterator<Item = (Component, &'l Event<'l>)> {
    let mut applications = 0_usize;
    log.of_pcr(pcr).filter_map(move |event| {
        if event.kind == event_type::EFI_BOOT_SERVICES_APPLICATION {
            applications += 1;
        }
        classify(event, applications).map(|name| (name, event))
    })
}

fn classify(event: &Event<'_>, applications: usize) -> Option<Component> {
    let by_owner = Component::of_register(event.pcr);
    match (event.pcr.number(), event.kind) {
        (_, event_type::SEPARATOR) => Some(Component::Separator),
        (4, event_type::EFI_ACTION) => Some(Component::BootAttempt),
        // the firmware starts the UKI, the UKI starts the kernel inside it
        (4, event_type::EFI_BOOT_SERVICES_APPLICATION) => Some(match applications {
            0 | 1 => Component::BootLoader,
            2 => Component::Kernel,
            _ => Component::Unknown,
        }),
        (4, _) => Some(Component::Unknown),
        (9, event_type::EVENT_TAG) => Some(match tag(event.data) {
            Some(INITRD_TAG) => Component::Initrd,
            Some(LOAD_OPTIONS_TAG) => Component::CommandLine,
            Some(_) | None => Component::Unknown,
        }),
        (9, _) => Some(Component::Unknown),
        (11, event_type::IPL) => {
            let Some((section, component)) = section(event.data) else {
                return Some(Component::UkiSection);
            };
            let is_name = event.digest == Digest::of_parts(&[section.as_bytes(), &[0]]);
            (!is_name).then_some(component)
        }
        (_, _) => Some(by_owner),
    }
}

pub(super) fn tag(data: &[u8]) -> Option<u32> {
    data.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

/// systemd-stub describes the event with the section's name in UTF-16.
pub(super) fn section(data: &[u8]) -> Option<(&'static str, Component)> {
    let text = ascii_of_utf16(data);
    SECTIONS.into_iter().find(|(name, _)| {
        text.as_deref() == Some(*name) || data.strip_suffix(&[0]) == Some(name.as_bytes())
    })
}

fn ascii_of_utf16(data: &[u8]) -> Option<String> {
    /// Longer than any section's name.
    const MAX: usize = 64;
    let (units, rest) = data.as_chunks::<2>();
    if !rest.is_empty() || units.len() > MAX {
        return None;
    }
    let units: Vec<u16> = units
        .iter()
        .map(|unit| u16::from_le_bytes(*unit))
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16(&units).ok()
}
