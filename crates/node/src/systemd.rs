//! The service manager: starts units, reads the journal, reboots.

use crate::exec::{ExecError, Program};

/// A unit could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// The service manager.
    #[error("asking the service manager")]
    Ask(#[source] ExecError),
}

/// Tells the service manager of units that were written.
pub async fn reload() -> Result<(), SystemdError> {
    systemctl(&["daemon-reload"]).await
}

/// Starts units and waits until they have started. Units that run stay as they are.
pub async fn start(units: &[&str]) -> Result<(), SystemdError> {
    systemctl(&[&["start"], units].concat()).await
}

/// Stops a unit and starts it again.
pub async fn restart(unit: &str) -> Result<(), SystemdError> {
    systemctl(&["restart", unit]).await
}

/// Reboots the machine.
pub async fn reboot() -> Result<(), SystemdError> {
    systemctl(&["reboot"]).await
}

async fn systemctl(arguments: &[&str]) -> Result<(), SystemdError> {
    // containerd has started when it says so, and under software emulation it takes its time
    let deadline = std::time::Duration::from_secs(600);
    Program::new("systemctl")
        .args(arguments)
        .deadline(deadline)
        .run()
        .await
        .map_err(SystemdError::Ask)
}

/// The last lines of the journal of this boot, for an administrator who reads why an init failed.
pub async fn journal(lines: u32) -> Result<Vec<u8>, SystemdError> {
    Program::new("journalctl")
        .args([
            "--boot",
            "--no-pager",
            "--output=short-monotonic",
            "--lines",
        ])
        .arg(lines.to_string())
        .output()
        .await
        .map_err(SystemdError::Ask)
}
