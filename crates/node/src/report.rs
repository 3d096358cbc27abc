//! What this machine is, in plain words, for whoever stands in front of its console: TPM, registers, what it has to prove itself with,
//! state disk, membership.

use std::fmt::{self, Display};

use cluster::node_state::NodeState;
use serde::Serialize;
use tee::TpmAddress;
use tee::detect::{Detected, Places, detect};
use tee::report::Report;

use crate::host::{Host, Paths};

/// A report. Never an error: what can not be read is part of what it says.
#[derive(Serialize)]
pub struct BootReport {
    #[serde(serialize_with = "as_text")]
    tpm: Report,
    hardware: Detected,
    disk: String,
    state: String,
}

impl BootReport {
    /// Of this machine.
    pub fn of(host: &Host) -> Self {
        let address = TpmAddress::of_this_machine();
        Self {
            tpm: tee::report::of(&address, tee::KERNEL_EVENT_LOG.as_ref()),
            hardware: detect(&Places::of_this_machine()),
            disk: disk(&host.paths),
            state: state(&host.paths),
        }
    }
}

impl Display for BootReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.tpm)?;
        writeln!(f, "{}", self.hardware)?;
        writeln!(f, "state disk: {}", self.disk)?;
        write!(f, "node: {}", self.state)
    }
}

/// What the TPM holds is for a person; a program reads evidence.
fn as_text<S: serde::Serializer>(report: &Report, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(report)
}

fn disk(paths: &Paths) -> String {
    match disk::StateDisk::load(disk::RunFiles::new(&paths.run)) {
        Ok(disk) if disk.is_first_boot() => {
            format!(
                "{}, new: a reboot makes another one until this machine is a member of a cluster",
                disk.uuid()
            )
        }
        Ok(disk) => format!("{}, has its key", disk.uuid()),
        Err(error) => format!("not known: {}", runtime::chain(&error)),
    }
}

fn state(paths: &Paths) -> String {
    match std::fs::read(paths.node_state()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            "no member of a cluster".to_owned()
        }
        Err(error) => format!("not known: {error}"),
        Ok(json) => match NodeState::from_json(&json) {
            Err(error) => format!("not known: {}", runtime::chain(&error)),
            Ok(state) if state.is_member() => format!(
                "{} ({}), member of a cluster",
                state.node_name(),
                state.role()
            ),
            Ok(state) => format!(
                "{} ({}), on its way into a cluster",
                state.node_name(),
                state.role()
            ),
        },
    }
}
