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
        return Err(format!("{} can not be opened: {error}", device.display()));
    }
    let scratch = Scratch::new().map_err(|error| format!("KVM could not be tried: {error}"))?;
    let console = scratch.0.join("console");
    let variables = scratch.0.join("vars.fd");
    std::fs::copy(&firmware.variables, &variables)
        .map_err(|error| format!("KVM could not be tried: {error}"))?;
    let mut command = Command::new(PROGRAM);
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

/// A directory that goes away with its scope.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("constellation-kvm-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(%error, "remove {}", self.0.display());
        }
    }
}
