//! A local cluster: QEMU machines of this host, a background process for their metadata and their network.
//!
//! Everything lies in two directories: `constellation-mini` in the workspace (disks, logs, records, pid files) and a run
//! directory (sockets), whose place is in the record. Both are made by `up`, taken over by the next `up` after an interruption, and removed by `down`.

pub(crate) mod capture;
mod checks;
pub(crate) mod down;
pub(crate) mod logs;
mod phases;
mod plan;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod up;

use cloud::qemu::process::Handle;
use cloud::qemu::{METADATA_URL, Seat};

use crate::failure::Failure;
use crate::workspace::Workspace;

pub(crate) use plan::Plan;

/// Where the machines of a local cluster find the components.
pub(crate) fn mirror_url() -> String {
    format!("{METADATA_URL}/components")
}

/// The machines of the workspace's local cluster; none if it has no local cluster.
pub(crate) fn seats(workspace: &Workspace) -> Result<Vec<Seat>, Failure> {
    Ok(Plan::read(workspace)?
        .map(|plan| plan.seats())
        .transpose()?
        .unwrap_or_default())
}

/// The background process.
fn server(workspace: &Workspace) -> Handle {
    Handle {
        pid_file: workspace.mini().join(serve::PID),
        arguments: serve::arguments(workspace),
    }
}
