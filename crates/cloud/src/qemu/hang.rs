//! Emulated machines that hang while their kernel starts.
//!
//! QEMU's translator, with a thread for each processor, now and then loses the end of an interrupt: a processor's local APIC has its
//! timer's interrupt in service for ever, no other of that level gets through, and the kernel waits for a timer that never fires
//! (QEMU 10.0.2, about one boot in twenty). Nothing inside of the machine can mend that; its reset button can.
//!
//! What is looked for is the kernel's own statement, in a boot in which no program of ours has spoken yet: such a machine has
//! got no secret and formatted no disk, so a reset takes nothing from it.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use super::Seat;
use super::machine::Machine;

/// The firmware's last words before the kernel's first.
const BOOT: &[u8] = b"BdsDxe: starting Boot";
/// The kernel, once it has waited for 21 seconds.
const HANGS: &[u8] = b"kthread timer wakeup didn't happen";
/// Every line of our programs on the console has it.
const OURS: &[u8] = b"constellation";
/// A kernel that hangs says little.
const TAIL: u64 = 256 * 1024;
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// After a reset the old boot is on the console until the firmware has started the next one.
const SETTLE: Duration = Duration::from_secs(120);

/// Whether the last boot on this console hangs.
fn hangs(console: &[u8]) -> bool {
    let find = |text: &[u8], word: &[u8]| text.windows(word.len()).rposition(|w| w == word);
    let boot = find(console, BOOT).map_or(&[][..], |at| &console[at..]);
    find(boot, HANGS).is_some() && find(boot, OURS).is_none()
}

/// Presses the reset button of machines that hang.
#[derive(Debug, Default)]
pub struct ResetButton {
    pressed: HashMap<Seat, Instant>,
}

impl ResetButton {
    /// Looks at one machine, and resets it if it hangs. A machine that can not be looked at or reset now is left for the next time.
    pub async fn look(&mut self, machine: &Machine) {
        let seat = machine.seat();
        let settles = self.pressed.get(&seat);
        if settles.is_some_and(|pressed| pressed.elapsed() < SETTLE) {
            return;
        }
        if !tail(&machine.console()).is_ok_and(|console| hangs(&console)) {
            return;
        }
        let Ok(mut control) = machine.control().await else {
            return;
        };
        match control.reset().await {
            Ok(()) => {
                tracing::warn!(%seat, "hung in its boot: the emulator lost an interrupt; reset");
                self.pressed.insert(seat, Instant::now());
            }
            Err(error) => tracing::warn!(%seat, %error, "hangs in its boot and can not be reset"),
        }
    }
}

/// Looks after machines for as long as it is polled.
pub async fn look_after(machines: &[Machine]) -> std::convert::Infallible {
    let mut button = ResetButton::default();
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        for machine in machines {
            button.look(machine).await;
        }
    }
}

fn tail(console: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(console)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
    let mut end = Vec::new();
    file.take(TAIL).read_to_end(&mut end)?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTS: &str = "BdsDxe: starting Boot0001 \"UEFI Misc Device\"\r\nEFI stub: Measured initrd data into PCR 9\r\n";
    const STALL: &str =
        "[   23.8] rcu: rcu_preempt kthread timer wakeup didn't happen for 5249 jiffies!\r\n";
    const SPEAKS: &str = "constellation: waiting for the state disk /dev/vdb\r\n";

    #[test]
    fn a_kernel_that_waits_for_its_timer_hangs_until_our_programs_speak() {
        for (console, expected) in [
            (String::new(), false),
            (STALL.to_owned(), false),
            (STARTS.to_owned(), false),
            (format!("{STARTS}{STALL}"), true),
            (format!("{STARTS}{STALL}{STALL}"), true),
            (format!("{STARTS}{SPEAKS}{STALL}"), false),
            (format!("{STARTS}{STALL}{SPEAKS}"), false),
            (format!("{STARTS}{STALL}{STARTS}"), false),
            (format!("{STARTS}{SPEAKS}{STARTS}{STALL}"), true),
        ] {
            assert_eq!(hangs(console.as_bytes()), expected, "{console}");
        }
    }

    /// A control socket that answers as QEMU's does, and the commands it was given.
    fn control(machine: &Machine) -> tokio::sync::mpsc::UnboundedReceiver<String> {
        use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
        let listener = tokio::net::UnixListener::bind(machine.control_socket()).unwrap();
        let (sender, commands) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (read, mut write) = stream.into_split();
                write.write_all(b"{\"QMP\": {}}\n").await.unwrap();
                let mut lines = BufReader::new(read).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    let command: serde_json::Value = serde_json::from_str(&line).unwrap();
                    let name = command["execute"].as_str().unwrap().to_owned();
                    sender.send(name).unwrap();
                    write.write_all(b"{\"return\": {}}\n").await.unwrap();
                }
            }
        });
        commands
    }

    #[tokio::test]
    async fn a_machine_that_hangs_is_reset_once_and_another_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let seat = Seat::new(cluster::Role::Worker, 0).unwrap();
        let machine = Machine::new(seat, directory.path(), directory.path());
        let mut commands = control(&machine);
        let mut button = ResetButton::default();
        button.look(&machine).await;
        std::fs::create_dir(directory.path().join(seat.to_string())).unwrap();
        std::fs::write(machine.console(), format!("{STARTS}{SPEAKS}{STALL}")).unwrap();
        button.look(&machine).await;
        assert!(commands.try_recv().is_err(), "nothing hangs yet");

        std::fs::write(machine.console(), format!("{STARTS}{STALL}")).unwrap();
        button.look(&machine).await;
        button.look(&machine).await;
        let mut given = Vec::new();
        while let Ok(command) = commands.try_recv() {
            given.push(command);
        }
        assert_eq!(given, ["qmp_capabilities", "system_reset"]);
    }
}
