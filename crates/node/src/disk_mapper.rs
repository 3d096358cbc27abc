//! The initrd's program: finds the state disk, makes a new one of it or asks the cluster for its key, and mounts it at `/run/state`.
//!
//! It runs before anything that needs the disk, and never formats a disk that belongs to a node or whose header it does not accept.
//! Only for a disk that belongs to a node it talks to anybody: it asks the join services for the key, and lets an administrator give it. Specification: `docs/life-of-a-key.md`.

use std::fmt;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use cluster::disk_uuid::DiskUuidError;
use cluster::{DiskUuid, NodeName};
use disk::mounts::{self, MountError};
use disk::{
    Found, InitializedDisk, NewDisk, ProbeError, Progress, RunFiles, StateDisk, StateDiskError,
    Step,
};
use futures::FutureExt;
use k8s::files::{File, SecretText};
use keys::DiskKey;
use tokio::runtime::Handle;

use crate::bootstrapper::machine::MeasuredMachine;
use crate::console::Console;
use crate::host::Paths;
use crate::join_services::{JOIN_SERVICE_PORT, JoinServices};
use recovery::RecoveryServer;
use unlock::{Unlock, UnlockError};

pub mod recovery;
pub mod rejoin;
pub mod unlock;
mod uplink;

/// The state disk of every machine of the QEMU provider.
const DEVICE: &str = "/dev/vdb";
/// Where its file system goes. `/run` is carried over to the root file system.
const STATE: &str = "/run/state";
/// How long the device may take to appear. An emulated machine is slow.
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(200);
/// How long a failure stays on the console before the unit's failure restarts the machine.
const TIME_TO_READ: Duration = Duration::from_secs(60);

/// What the root file system binds or uses of the state disk: name and mode.
const DIRECTORIES: [(&str, u32); 6] = [
    ("var", 0o755),
    ("kubernetes", 0o755),
    ("cni", 0o755),
    ("opt", 0o755),
    ("bin", 0o755),
    ("etcd", 0o700),
];

/// The state disk could not be made ready. The unit fails and with it the boot.
#[derive(Debug, thiserror::Error)]
pub enum DiskMapperError {
    /// The machine has no such disk.
    #[error("no state disk at {} after {} s: does this machine have a second disk?", device.display(), PATIENCE.as_secs())]
    NoDevice {
        /// Where it was waited for.
        device: PathBuf,
    },
    /// Looking for the device failed.
    #[error("cannot look for {}", device.display())]
    Look {
        /// The device.
        device: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The disk can not be read, or its header is not accepted. It was not changed.
    #[error("the state disk was not touched, because it can not be accepted")]
    Probe(#[source] ProbeError),
    /// A name that no disk of a node has.
    #[error("the state disk's UUID")]
    Uuid(#[source] DiskUuidError),
    /// The key could not be had or used.
    #[error("cannot get the state disk's key; the disk was not changed")]
    Unlock(#[source] UnlockError),
    /// Making the new disk failed.
    #[error("cannot make the new state disk")]
    Format(#[source] StateDiskError),
    /// Mounting failed.
    #[error("cannot mount the state disk")]
    Mount(#[source] StateDiskError),
    /// A directory on it could not be made.
    #[error("cannot prepare the state disk")]
    Directory(#[source] MountError),
}

/// Runs until the state disk is mounted. To be called on a thread that may block, of a runtime.
pub fn run() -> Result<(), DiskMapperError> {
    let console = Console::of_this_machine();
    let device = Path::new(DEVICE);
    prepare(device, &console).inspect_err(|error| {
        console.complain(
            "the state disk is not ready and this machine can not start",
            error,
        );
        sleep(TIME_TO_READ);
    })
}

fn prepare(device: &Path, console: &Console) -> Result<(), DiskMapperError> {
    wait_for(device, PATIENCE, console)?;
    let mut disk = match disk::probe(device).map_err(DiskMapperError::Probe)? {
        Found::New(reason) => format(device, reason, console)?,
        Found::Initialized(disk) => Handle::current().block_on(unlock(device, &disk, console))?,
    };
    mount(&mut disk)?;
    console.say(format_args!("state disk {} is ready", disk.uuid()));
    Ok(())
}

/// Opens the disk of a node with the key that its cluster has for it: another control plane gives it, or an administrator.
async fn unlock(
    device: &Path,
    disk: &InitializedDisk,
    console: &Console,
) -> Result<StateDisk, DiskMapperError> {
    let disk_uuid = DiskUuid::new(disk.uuid()).map_err(DiskMapperError::Uuid)?;
    let machine = MeasuredMachine::this_machine();
    let name = Arc::default();
    let serving = RecoveryServer::listen(machine.issuer(), disk_uuid, Arc::clone(&name)).await;
    let recovery = match serving {
        Ok(recovery) => {
            console.say(format_args!(
                "the state disk {disk_uuid} belongs to a node; asking the other control planes of its cluster for its key; \
                 if none of them can answer, an administrator gives it with `constellation recover`"
            ));
            Some(recovery)
        }
        Err(error) => {
            console.say(format_args!(
                "the state disk {disk_uuid} belongs to a node; asking the other control planes of its cluster for its key"
            ));
            console.complain("no administrator can recover this machine", &error);
            None
        }
    };
    let unlock = Unlock {
        join_services: join_services(machine.clone(), console.clone(), name).boxed(),
        machine,
        console: console.clone(),
        disk_uuid,
        recovery,
    };
    let open =
        |key: &DiskKey| StateDisk::open(device, RunFiles::new(RunFiles::DIRECTORY), disk, key);
    let unlocked = unlock.run(open).await.map_err(DiskMapperError::Unlock)?;
    let (disk, token) = unlocked.into_parts();
    if let Some(token) = token {
        let path = Paths::of_the_image().rejoin_token();
        let text = SecretText::new(token.expose_text().to_owned());
        // most nodes do not need it, and one that does says that it has no certificate
        if let Err(error) = File::secret(path, text).write() {
            console.complain("the token for this node's kubelet is lost", &error);
        }
    }
    Ok(disk)
}

async fn join_services(
    machine: MeasuredMachine,
    console: Console,
    name: Arc<OnceLock<NodeName>>,
) -> JoinServices {
    let (metadata, own) = uplink::insist_on(&Paths::of_the_image(), &console, &name).await;
    JoinServices {
        machine,
        metadata,
        own,
        port: JOIN_SERVICE_PORT,
        console,
    }
}

fn wait_for(device: &Path, patience: Duration, console: &Console) -> Result<(), DiskMapperError> {
    let start = Instant::now();
    loop {
        match std::fs::metadata(device) {
            Ok(metadata) if metadata.file_type().is_block_device() => return Ok(()),
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(DiskMapperError::Look {
                    device: device.to_owned(),
                    source,
                });
            }
            Ok(_) | Err(_) => {}
        }
        if start.elapsed() >= patience {
            return Err(DiskMapperError::NoDevice {
                device: device.to_owned(),
            });
        }
        console.say_once(format_args!(
            "waiting for the state disk {}",
            device.display()
        ));
        sleep(POLL);
    }
}

fn format(device: &Path, reason: NewDisk, console: &Console) -> Result<StateDisk, DiskMapperError> {
    let why = match reason {
        NewDisk::NoHeader => "it has no header",
        NewDisk::NotInitialized => "no node ever set its key on it",
    };
    console.say(format_args!(
        "{} becomes a new state disk: {why}",
        device.display()
    ));
    let mut telling = Telling::default();
    StateDisk::format(
        device,
        RunFiles::new(RunFiles::DIRECTORY),
        reason,
        &mut |progress| {
            if let Some(words) = telling.words(progress) {
                console.say(words);
            }
        },
    )
    .map_err(DiskMapperError::Format)
}

fn mount(disk: &mut StateDisk) -> Result<(), DiskMapperError> {
    let state = Path::new(STATE);
    disk.mount(state).map_err(DiskMapperError::Mount)?;
    for (name, mode) in DIRECTORIES {
        mounts::make_directory(&state.join(name), mode).map_err(DiskMapperError::Directory)?;
    }
    Ok(())
}

/// Turns progress into lines: one per step, and one per tenth of the wipe, which takes minutes on an emulated machine.
#[derive(Default)]
struct Telling {
    tenths: u64,
}

impl Telling {
    fn words(&mut self, progress: Progress) -> Option<Words> {
        match progress {
            Progress::Begin(step) => Some(Words::Step(step)),
            Progress::Wiped { done, total } => {
                let tenths = done.saturating_mul(10).checked_div(total).unwrap_or(10);
                let more = tenths > self.tenths;
                self.tenths = self.tenths.max(tenths);
                more.then_some(Words::Wiped {
                    percent: tenths * 10,
                })
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Words {
    Step(Step),
    Wiped { percent: u64 },
}

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(step) => f.write_str(match step {
                Step::Erase => "state disk: taking away what its header was",
                Step::Key => {
                    "state disk: making a random key, kept in memory until this machine is a node"
                }
                Step::Format => "state disk: formatting",
                Step::Wipe => {
                    "state disk: writing every sector once, so that each can be authenticated"
                }
                Step::Open => "state disk: opening",
                Step::FileSystem => "state disk: making the file system",
            }),
            Self::Wiped { percent } => write!(f, "state disk: {percent} % written"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::tests::Heard;

    #[test]
    fn a_machine_without_a_disk_says_so() {
        let heard = Heard::default();
        let console = Console::to(Box::new(heard.clone()));
        let error = wait_for(
            Path::new("/dev/no-such-disk"),
            Duration::from_millis(300),
            &console,
        )
        .unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("no state disk at /dev/no-such-disk after"),
            "{error}"
        );
        assert_eq!(
            heard.text(),
            "constellation: waiting for the state disk /dev/no-such-disk\r\n"
        );
    }

    /// A file in the place of the device is no disk.
    #[test]
    fn a_file_is_no_disk() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let console = Console::to(Box::new(Heard::default()));
        let error = wait_for(file.path(), Duration::ZERO, &console).unwrap_err();
        assert!(matches!(error, DiskMapperError::NoDevice { .. }), "{error}");
    }

    #[test]
    fn the_wipe_tells_every_tenth_once() {
        let mut telling = Telling::default();
        let told: Vec<String> = (1..=100)
            .filter_map(|done| telling.words(Progress::Wiped { done, total: 100 }))
            .map(|words| words.to_string())
            .collect();
        let expected: Vec<String> = (1..=10)
            .map(|tenth| format!("state disk: {} % written", tenth * 10))
            .collect();
        assert_eq!(told, expected);
        // A disk without a sector is done.
        let mut telling = Telling::default();
        assert_eq!(
            telling.words(Progress::Wiped { done: 0, total: 0 }),
            Some(Words::Wiped { percent: 100 })
        );
    }

    #[test]
    fn every_step_has_words_of_its_own() {
        let words: std::collections::BTreeSet<String> = Step::ALL
            .into_iter()
            .map(|step| Words::Step(step).to_string())
            .collect();
        assert_eq!(words.len(), Step::ALL.len());
    }
}
