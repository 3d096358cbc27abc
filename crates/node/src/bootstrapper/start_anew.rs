//! How every failure after the lock ends: no header on the state disk, time to read why, a reboot.

use std::time::Duration;

use cluster::plan::Failed;

use crate::host::Host;
use crate::state_disk::NodeDisk;
use crate::systemd::SystemdError;

/// How long the machine stays up, so that a person can read its console.
const REBOOT_AFTER: Duration = Duration::from_secs(60);

/// How long the header may take to go. Setting a key, which it waits for, takes seconds.
const RESET_DEADLINE: Duration = Duration::from_secs(120);

/// Takes the header off the state disk, so that the next boot makes a new one, and reboots. The disk has to be the one whose key may
/// still be on its way: another look at it would not wait for that.
pub async fn start_anew(
    host: &Host,
    disk: &NodeDisk,
    failed: Failed,
    reboot: impl AsyncFnOnce() -> Result<(), SystemdError>,
) -> Result<(), SystemdError> {
    host.console.say(format_args!(
        "the state disk is reset and the machine reboots in {} s",
        REBOOT_AFTER.as_secs()
    ));
    match tokio::time::timeout(RESET_DEADLINE, disk.reset(failed)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => host.console.complain("resetting the state disk", &error),
        Err(late) => host.console.complain("resetting the state disk", &late),
    }
    tokio::time::sleep(REBOOT_AFTER).await;
    reboot().await
}
