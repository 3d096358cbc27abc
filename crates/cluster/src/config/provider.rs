//! `provider`: exactly one section.

use std::path::PathBuf;

use crate::yaml::Value;

use super::one_of;

const ALLOWED: &str = "qemu";
const NOT_YET: [&str; 4] = ["aws", "azure", "gcp", "openstack"];

/// Where the machines run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provider {
    /// QEMU machines on this host.
    Qemu(QemuProvider),
}

/// `provider.qemu`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QemuProvider {
    /// Virtual processors of each machine.
    pub vcpus: u32,
    /// Memory of each machine in MiB.
    pub memory_mib: u32,
    /// UEFI code, in place of the distribution's.
    pub firmware: Option<PathBuf>,
    /// Template of the UEFI variables, in place of the distribution's.
    pub nvram: Option<PathBuf>,
}

/// What a machine has when the file does not say.
const VCPUS: u32 = 2;
const MEMORY_MIB: u32 = 3072;

impl Default for QemuProvider {
    fn default() -> Self {
        Self {
            vcpus: VCPUS,
            memory_mib: MEMORY_MIB,
            firmware: None,
            nvram: None,
        }
    }
}

pub(super) fn read(value: &Value<'_>) -> Option<Provider> {
    let mut section = value.section()?;
    for provider in NOT_YET {
        section.refuse(
            provider,
            || format!("provider {provider} is not in this release"),
            ALLOWED,
        );
    }
    let qemu = section
        .required("qemu", "a section with imageFormat, vcpus and memory")
        .and_then(|value| qemu(&value));
    section.finish();
    qemu.map(Provider::Qemu)
}

fn qemu(value: &Value<'_>) -> Option<QemuProvider> {
    let mut section = value.section()?;
    let format = section
        .optional("imageFormat")
        .map(|value| one_of(&value, &["raw"]));
    let vcpus = section
        .optional("vcpus")
        .map_or(Some(VCPUS), |value| value.number(1, 256));
    let memory = section
        .optional("memory")
        .map_or(Some(MEMORY_MIB), |value| value.number(1536, 1 << 20));
    let firmware = section
        .optional("firmware")
        .filter(|value| !value.is_empty_text())
        .map(|value| path(&value));
    let nvram = section
        .optional("nvram")
        .filter(|value| !value.is_empty_text())
        .map(|value| path(&value));
    for name in [
        "metadataAPIServer",
        "libvirtSocket",
        "libvirtContainerImage",
    ] {
        section.refuse(
            name,
            || "machines are started without libvirt".to_owned(),
            "nothing: remove this field",
        );
    }
    section.finish();
    if format.is_some_and(|format| format.is_none()) {
        return None;
    }
    Some(QemuProvider {
        vcpus: vcpus?,
        memory_mib: memory?,
        firmware: match firmware {
            None => None,
            Some(path) => Some(path?),
        },
        nvram: match nvram {
            None => None,
            Some(path) => Some(path?),
        },
    })
}

fn path(value: &Value<'_>) -> Option<PathBuf> {
    let rule = "an absolute path";
    value.parse(rule, |text| {
        let path = PathBuf::from(text);
        if path.is_absolute() {
            Ok(path)
        } else {
            Err(format!("{text:?} is not absolute"))
        }
    })
}
