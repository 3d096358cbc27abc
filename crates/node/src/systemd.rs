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

/// Stops a unit, and waits until it has stopped. One that does not run stays as it is.
pub async fn stop(unit: &str) -> Result<(), SystemdError> {
    systemctl(&["stop", unit]).await
}

/// Stops a unit and starts it again.
pub async fn restart(unit: &str) -> Result<(), SystemdError> {
    systemctl(&["restart", unit]).await
}

/// The same with a unit that runs; one that does not stays as it is.
pub async fn try_restart(unit: &str) -> Result<(), SystemdError> {
    systemctl(&["try-restart", unit]).await
}

/// When a unit became active, by the clock of that moment; `None` if it is not active.
pub async fn started_at(unit: &str) -> Result<Option<jiff::Timestamp>, SystemdError> {
    let shown = Program::new("systemctl")
        .args(["show", "--property=ActiveState,ActiveEnterTimestamp"])
        .args(["--timestamp=unix", unit])
        .output()
        .await
        .map_err(SystemdError::Ask)?;
    Ok(active_since(&String::from_utf8_lossy(&shown)))
}

/// Reads `ActiveState=active` and `ActiveEnterTimestamp=@seconds`.
fn active_since(shown: &str) -> Option<jiff::Timestamp> {
    let value = |name: &str| {
        let mut lines = shown.lines().filter_map(|line| line.split_once('='));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value)
    };
    if value("ActiveState") != Some("active") {
        return None;
    }
    let seconds = value("ActiveEnterTimestamp")?.strip_prefix('@')?;
    jiff::Timestamp::from_second(seconds.parse().ok()?).ok()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_runs_has_a_time_and_others_have_none() {
        let shown = "ActiveState=active\nActiveEnterTimestamp=@1764140000\n";
        assert_eq!(
            active_since(shown),
            jiff::Timestamp::from_second(1_764_140_000).ok()
        );
        for shown in [
            "",
            "ActiveState=active\nActiveEnterTimestamp=\n",
            "ActiveState=activating\nActiveEnterTimestamp=@1764140000\n",
            "ActiveState=active\nActiveEnterTimestamp=Thu 2026-11-26\n",
        ] {
            assert_eq!(active_since(shown), None, "{shown}");
        }
    }
}
