//! Names for the measurements of a TD's log. Several PCRs share one register there, so the kind of an event says which
//! part it is about. A name for a person, no more.

use super::Component;
use super::classify::{INITRD_TAG, LOAD_OPTIONS_TAG, section, tag};
use crate::event_log::{BankLog, Measured, Register, Rtmr, event_type};

/// The digest one part has in one register of a TD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdComponent {
    /// The register it is measured into.
    pub rtmr: Rtmr,
    /// What it is.
    pub name: Component,
    /// What is extended.
    pub digest: [u8; 48],
}

/// A TD's events with names, in order. A section's name is measured before its content; that event carries no content
/// and is left out. Nothing for the log of a TPM.
#[must_use]
pub fn of_td_log(log: &BankLog<'_>) -> Vec<TdComponent> {
    let mut applications = 0_usize;
    log.events()
        .iter()
        .filter_map(|event| {
            let Register::Rtmr(rtmr) = event.register else {
                return None;
            };
            if event.kind == event_type::EFI_BOOT_SERVICES_APPLICATION {
                applications += 1;
            }
            Some(TdComponent {
                rtmr,
                name: classify(event, rtmr, applications)?,
                digest: *event.digest.as_bytes().first_chunk()?,
            })
        })
        .collect()
}

fn classify(event: &Measured<'_>, rtmr: Rtmr, applications: usize) -> Option<Component> {
    Some(match (rtmr, event.kind) {
        (_, event_type::SEPARATOR) => Component::Separator,
        (Rtmr::Rtmr0 | Rtmr::Rtmr1, event_type::EFI_ACTION) => Component::BootAttempt,
        (Rtmr::Rtmr0, event_type::EFI_VARIABLE_DRIVER_CONFIG)
        | (Rtmr::Rtmr0, event_type::EFI_VARIABLE_AUTHORITY) => Component::SecureBootPolicy,
        (Rtmr::Rtmr0, _) => Component::FirmwareConfiguration,
        (Rtmr::Rtmr1, event_type::EFI_GPT_EVENT) => Component::PartitionTable,
        // the firmware starts the UKI, the UKI starts the kernel inside it
        (Rtmr::Rtmr1, event_type::EFI_BOOT_SERVICES_APPLICATION) => match applications {
            0 | 1 => Component::BootLoader,
            2 => Component::Kernel,
            _ => Component::Unknown,
        },
        (Rtmr::Rtmr2, event_type::EVENT_TAG) => match tag(event.data) {
            Some(INITRD_TAG) => Component::Initrd,
            Some(LOAD_OPTIONS_TAG) => Component::CommandLine,
            Some(_) | None => Component::Unknown,
        },
        (Rtmr::Rtmr2, event_type::IPL) => match section(event.data) {
            Some((name, component)) => {
                let is_name = event.is_over(&[name.as_bytes(), &[0]].concat());
                return (!is_name).then_some(component);
            }
            None => Component::Unknown,
        },
        (_, _) => Component::Unknown,
    })
}
