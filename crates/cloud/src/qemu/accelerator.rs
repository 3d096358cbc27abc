//! Whether this host's KVM can run our guests, found out by trying.
//!
//! `/dev/kvm` being there says little: on a virtual machine without real nesting it may lack 64-bit mode or emulate so
//! little that a guest spins for ever. So the firmware every machine begins with is started on it, and must have written
//! to its console before a deadline.

use std::fmt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::machine::{Firmware, PROGRAM};

/// A working KVM has the firmware at its console in about a second.
const DEADLINE: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(50);

/// What executes a machine's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU's translator: correct, and ten to thirty times slower.
    Tcg,
}

impl Accelerator {
    /// QEMU's arguments for it.
    pub fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host"],
            Self::Tcg => ["-accel", "tcg,thread=multi,tb-size=1024", "-cpu", "max"],
        }
    }

    /// Whether machines run at the processor's speed.
    pub fn is_emulated(self) -> bool {
        self == Self::Tcg
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kvm => "KVM",
            Self::Tcg => "software emulation",
        })
    }
}

/// A verdict with its reason, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// What machines will run on.
    pub accelerator: Accelerator,
    /// Why.
    pub reason: String,
}

/// Tries KVM. Falls back on emulation for every failure: the worst it costs is time.
pub fn probe(firmware: &Firmware) -> Probe {
    match try_kvm(Path::new("/dev/kvm"), firmware) {
        Ok(took) => Probe {
            accelerator: Accelerator::Kvm,
            reason: format!("/dev/kvm ran the firmware in {} ms", took.as_millis()),
        },
        Err(reason) => Probe {
            accelerator: Accelerator::Tcg,
            reason,
        },
    }
}

fn try_kvm(device: &Path, firmware: &Firmware) -> Result<Duration, String> {
    if let Err(error) = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(device)
    {
        return Err(unusable(device, &error));
    }
    let scratch =
        tempfile::tempdir().map_err(|error| format!("KVM could not be tried: {error}"))?;
    let console = scratch.path().join("console");
    let variables = scratch.path().join("vars.fd");
    std::fs::copy(&firmware.variables, &variables)
        .map_err(|error| format!("KVM could not be tried: {error}"))?;
    let mut command = tied_to_us(PROGRAM);
    command
        .args([
            "-nodefaults",
            "-no-user-config",
            "-machine",
            "q35",
            "-m",
            "256",
            "-display",
            "none",
        ])
        .args(Accelerator::Kvm.arguments())
        .args(firmware.arguments(&variables))
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let started = Instant::now();
    let child = command
        .spawn()
        .map_err(|error| format!("KVM could not be tried: {error}"))?;
    let mut guest = Guest(child);
    while started.elapsed() < DEADLINE {
        match guest.0.try_wait() {
            Ok(None) => {}
            Ok(Some(_)) => return Err("/dev/kvm is there, but QEMU gives up on it".to_owned()),
            Err(error) => return Err(format!("KVM could not be tried: {error}")),
        }
        if std::fs::metadata(&console).is_ok_and(|metadata| metadata.len() > 0) {
            return Ok(started.elapsed());
        }
        std::thread::sleep(STEP);
    }
    Err(format!(
        "/dev/kvm is there, but a guest on it did nothing for {} s",
        DEADLINE.as_secs()
    ))
}

/// The trial guest; ends with its scope.
struct Guest(Child);

impl Drop for Guest {
    fn drop(&mut self) {
        // both fail only when it has ended already
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A command that the kernel ends when the thread that started it does, however this program ends: a guest that spins
/// on a broken KVM would burn a processor for ever.
fn tied_to_us(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", program]);
    command
}

fn unusable(device: &Path, error: &std::io::Error) -> String {
    let hint = match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "; for KVM put your user into the group kvm (`sudo usermod -aG kvm $USER`) and log in again"
        }
        _ => "",
    };
    format!("{} can not be opened: {error}{hint}", device.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_guest_ends_with_whoever_started_it() {
        let guest = std::thread::spawn(|| {
            let guest = tied_to_us("sleep").arg("600").spawn().unwrap();
            let arguments = format!("/proc/{}/cmdline", guest.id());
            while std::fs::read(&arguments).unwrap() != b"sleep\x00600\0" {
                std::thread::yield_now();
            }
            guest
        });
        let mut guest = guest.join().unwrap();
        let begun = Instant::now();
        while guest.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it still runs");
            std::thread::sleep(STEP);
        }
    }

    #[test]
    fn a_device_of_another_group_is_told_with_what_to_do() {
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        assert!(unusable(Path::new("/dev/kvm"), &denied).contains("into the group kvm"));
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        assert!(!unusable(Path::new("/dev/kvm"), &missing).contains("group"));
    }
}
