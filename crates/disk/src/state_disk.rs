//! The state disk of a node: everything a node keeps, encrypted and authenticated.
//!
//! # First boot
//!
//! | step | after it there is | if the machine stops |
//! |---|---|---|
//! | [`Step::Erase`] | no header on the disk | new disk |
//! | [`Step::Key`] | a random key in memory (`first-boot.key`) | new disk |
//! | [`Step::Format`] | a header *in memory*, integrity metadata on the disk | new disk |
//! | [`Step::Wipe`] | valid tags everywhere | new disk |
//! | [`Step::Open`] | `/dev/mapper/state` | new disk |
//! | [`Step::FileSystem`] | an empty ext4 on it | new disk |
//! | [`StateDisk::set_key`] | the header on the disk, under the node's key, marked initialised | see [`luks2::commit`](crate::luks2) |
//!
//! The header is written to the disk once, when the node has its key from init or join. Until then a header would be of no use to
//! anyone: the only key that opens it is in the memory of this boot. So there is no half-initialised disk: without a header
//! a disk is new, with one it has the node's key. (The original writes an uninitialised header first; such a disk is taken as
//! new as well.)
//!
//! # Why "no header" may mean "new disk"
//!
//! The host can zero a header, and then this program formats the disk. That destroys data, which the host can do anyhow; it
//! does not lead an existing node to trust an empty disk, because a formatted disk has a new UUID, a new volume key and no key from the cluster:
//! the machine is a new node that has to join, and the cluster's record of the old one still names the old UUID. A header that is there and
//! not accepted, or of which only the second copy is there, is never formatted over: the program stops and says why.
//!
//! # What it does not cover
//!
//! Integrity shows that a sector was changed, not that it was put back, with its tag, to what it was at an older time: neither the whole
//! disk nor a single sector.

mod files;
mod probe;
mod tools;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use keys::{DiskKey, FirstBootKey};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::luks2::{DATA_OFFSET, HEADERS_SIZE, HeaderError, Kind, VerifiedHeader, commit};
use crate::mounts::{self, MountError};
use crate::program::ProgramError;
use crate::wipe::{self, WipeError};
use files::{file, make_run_directory, remove, write_new};
use probe::read_keyslot;
use tools::{change_key, close, luks_format, make_file_system, mapped, open, test_key};

pub use files::RunFiles;
pub use probe::{Found, InitializedDisk, NewDisk, ProbeError, probe};

/// The device mapper's name of the opened state disk.
const NAME: &str = "state";
/// Its name while it is wiped. Another one, so that nobody who waits for the state disk takes it for that.
const WIPE_NAME: &str = "state-wipe";

/// A step of the first boot. A test can stop the machine as one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Takes away the header that may be there.
    Erase,
    /// Makes the random key.
    Key,
    /// Formats.
    Format,
    /// Gives every sector a valid tag.
    Wipe,
    /// Opens it for use.
    Open,
    /// Makes the file system.
    FileSystem,
}

impl Step {
    /// All of them, in order.
    pub const ALL: [Self; 6] = [
        Self::Erase,
        Self::Key,
        Self::Format,
        Self::Wipe,
        Self::Open,
        Self::FileSystem,
    ];
}

/// What [`StateDisk::format`] is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// A step begins.
    Begin(Step),
    /// So many of so many bytes are wiped.
    Wiped {
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
}

/// `state-disk.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Description {
    uuid: Uuid,
    device: PathBuf,
    first_boot: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mounted_at: Option<PathBuf>,
}

/// An operation on the state disk failed.
#[derive(Debug, thiserror::Error)]
pub enum StateDiskError {
    /// A file in memory could not be used.
    #[error("cannot {what} {}", path.display())]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The description of the disk that the initrd left is not readable.
    #[error("{} is not what the initrd writes", path.display())]
    Description {
        /// The file.
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    /// The system gave no random bytes.
    #[error("cannot make a random key")]
    Random(#[source] keys::RandomError),
    /// The first-boot key in memory has a wrong length.
    #[error("the first-boot key is damaged")]
    FirstBootKey(#[source] keys::LengthError),
    /// The device could not be written.
    #[error("cannot write the header of {} (step \"{step}\")", device.display())]
    Header {
        /// The device.
        device: PathBuf,
        /// The step that failed.
        step: &'static str,
        #[source]
        source: io::Error,
    },
    /// A header that cryptsetup made here is not of the accepted shape.
    #[error("cryptsetup made a header that is not accepted")]
    OwnHeader(#[source] HeaderError),
    /// A program failed while doing this.
    #[error("cannot {what}")]
    Program {
        /// What it was run for.
        what: &'static str,
        #[source]
        source: ProgramError,
    },
    /// Mounting failed.
    #[error("cannot use the state disk's file system")]
    Mount(#[source] MountError),
    /// Wiping failed.
    #[error("cannot make the integrity tags")]
    Wipe(#[source] WipeError),
    /// Something failed after the device was opened, and closing it failed as well.
    #[error(
        "the state disk stays open ({close}): it takes no key until the machine was switched off"
    )]
    StaysOpen {
        /// Why it could not be closed.
        close: Box<Self>,
        /// What failed before.
        #[source]
        failure: Box<Self>,
    },
    /// The disk has its key already.
    #[error("the state disk {0} has its key already")]
    HasKey(Uuid),
}

/// An opened state disk.
#[derive(Debug)]
pub struct StateDisk {
    device: PathBuf,
    files: RunFiles,
    uuid: Uuid,
    first_boot: bool,
    mounted_at: Option<PathBuf>,
}

impl StateDisk {
    /// Makes a new state disk out of a device: everything on it is lost.
    ///
    /// Takes what [`probe`] said about it, so that no disk is formatted that was not looked at.
    pub fn format(
        device: &Path,
        files: RunFiles,
        _found: NewDisk,
        report: &mut dyn FnMut(Progress),
    ) -> Result<Self, StateDiskError> {
        report(Progress::Begin(Step::Erase));
        apply(device, &commit::erase())?;

        report(Progress::Begin(Step::Key));
        let key = FirstBootKey::generate().map_err(StateDiskError::Random)?;
        make_run_directory(&files)?;
        for left_over in [files.first_boot_key(), files.header()] {
            remove(&left_over)?;
        }
        write_new(&files.first_boot_key(), 0o400, key.expose_bytes())?;

        report(Progress::Begin(Step::Format));
        let uuid = Uuid::new_v4();
        luks_format(device, &files.header(), uuid, &key)?;
        let header = rewrite(&files.header(), |header| header.with_token(false))?;

        report(Progress::Begin(Step::Wipe));
        // Without the journal while wiping: it would write everything twice, and a crash leaves a new disk anyhow.
        let input = [key.expose_bytes().as_slice()];
        open(
            device,
            &files.header(),
            WIPE_NAME,
            &["--integrity-no-journal"],
            &input,
        )?;
        let wiped = wipe::wipe(&mapped(WIPE_NAME), &mut |done, total| {
            report(Progress::Wiped { done, total });
        });
        close(WIPE_NAME)?;
        wiped.map_err(StateDiskError::Wipe)?;

        report(Progress::Begin(Step::Open));
        open(device, &files.header(), NAME, &[], &input)?;

        closed_on_failure(NAME, || {
            report(Progress::Begin(Step::FileSystem));
            make_file_system(&mapped(NAME))?;

            let disk = Self {
                device: device.to_owned(),
                files,
                uuid: header.uuid(),
                first_boot: true,
                mounted_at: None,
            };
            disk.describe()?;
            Ok(disk)
        })
    }

    /// Opens an initialised disk with its key. A key that does not open it changes nothing and may be followed by another; so may one
    /// that opens it where something fails afterwards.
    pub fn open(
        device: &Path,
        files: RunFiles,
        disk: &InitializedDisk,
        key: &DiskKey,
    ) -> Result<Self, StateDiskError> {
        make_run_directory(&files)?;
        remove(&files.header())?;
        write_detached(&files.header(), &disk.header, &disk.keyslot)?;
        open(device, &files.header(), NAME, &[], &[key.expose_bytes()])?;
        closed_on_failure(NAME, || {
            if disk.header.secondary_is_blank() {
                apply(device, &[commit::complete(&disk.header)])?;
            }
            let opened = Self {
                device: device.to_owned(),
                files,
                uuid: disk.uuid(),
                first_boot: false,
                mounted_at: None,
            };
            opened.describe()?;
            Ok(opened)
        })
    }

    /// Mounts the file system.
    pub fn mount(&mut self, target: &Path) -> Result<(), StateDiskError> {
        mounts::mount_ext4(&self.mapped(), target).map_err(StateDiskError::Mount)?;
        self.mounted_at = Some(target.to_owned());
        self.describe()
    }

    /// The disk that the initrd has opened.
    pub fn load(files: RunFiles) -> Result<Self, StateDiskError> {
        let path = files.description();
        let text = fs::read(&path).map_err(file("read", &path))?;
        let Description {
            uuid,
            device,
            first_boot,
            mounted_at,
        } = serde_json::from_slice(&text)
            .map_err(|source| StateDiskError::Description { path, source })?;
        Ok(Self {
            device,
            files,
            uuid,
            first_boot,
            mounted_at,
        })
    }

    /// Gives a new disk its key: the node is now a node of a cluster, and this key opens the disk at the next boot.
    ///
    /// The last step of becoming a node: all that was written to the file system before is durable when the disk is marked.
    /// The key is changed in a copy in memory, which is then put on the disk in an order in which a crash leaves either a new disk or
    /// an initialised one. If it fails it can be called again, also with another key.
    pub fn set_key(&mut self, key: &DiskKey) -> Result<(), StateDiskError> {
        if !self.first_boot {
            return Err(StateDiskError::HasKey(self.uuid));
        }
        let first_boot_key = self.first_boot_key()?;
        self.files.remove_new_headers()?;
        let copy = self.files.new_header();
        fs::copy(self.files.header(), &copy).map_err(file("write", &copy))?;
        change_key(&copy, &first_boot_key, key)?;
        let header = rewrite(&copy, |header| header.with_token(true))?;
        let keyslot = File::open(&copy)
            .and_then(|copy| read_keyslot(&copy, &header))
            .map_err(file("read", &copy))?;
        // What goes on the disk is opened once before, as the next boot will.
        test_key(&copy, key)?;

        // An initialised disk is one on which the node is complete: what was written to its file system has to be on the device before.
        self.sync()?;
        // A header is there if an earlier call stopped after writing it; no step may change what a visible header refers to.
        apply(&self.device, &commit::erase())?;
        apply(&self.device, &commit::create(&header, &keyslot))?;

        // The description before the copy it describes: a process that comes after one that was killed here goes by it, and must not
        // try the first boot's key on a header that has the node's.
        self.first_boot = false;
        self.describe()?;
        fs::rename(&copy, self.files.header()).map_err(file("replace", &copy))?;
        remove(&self.files.first_boot_key())
    }

    /// Takes the header off the disk: whatever it is now, the next boot makes a new disk of it. For a machine that failed on its
    /// way into a cluster. No key can be set afterwards: what it would be set with is gone.
    pub fn reset(&mut self) -> Result<(), StateDiskError> {
        let key = remove(&self.files.first_boot_key());
        // The description before the disk, so that a process that comes after one that was killed here does not take the disk for
        // one that has its key; and the disk whatever happens to the files.
        self.first_boot = true;
        let described = self.describe();
        apply(&self.device, &commit::erase())?;
        described.and(key)
    }

    /// The UUID, which names the disk's key.
    pub fn uuid(&self) -> Uuid {
        self.uuid
    }

    /// Whether no node's key was set on it, or taken away again: the next boot makes a new disk of it.
    pub fn is_first_boot(&self) -> bool {
        self.first_boot
    }

    /// The device with the file system.
    pub fn mapped(&self) -> PathBuf {
        mapped(NAME)
    }

    /// Closes it again. The file system has to be unmounted.
    pub fn close(self) -> Result<(), StateDiskError> {
        close(NAME)
    }

    /// Makes durable what was written to the file system.
    fn sync(&self) -> Result<(), StateDiskError> {
        let Some(path) = &self.mounted_at else {
            return Ok(());
        };
        let mounted = File::open(path).map_err(file("open", path))?;
        rustix::fs::syncfs(mounted).map_err(|source| file("flush", path)(source.into()))
    }

    fn first_boot_key(&self) -> Result<FirstBootKey, StateDiskError> {
        let path = self.files.first_boot_key();
        let bytes = fs::read(&path).map_err(file("read", &path))?;
        FirstBootKey::from_vec(bytes).map_err(StateDiskError::FirstBootKey)
    }

    fn describe(&self) -> Result<(), StateDiskError> {
        let description = Description {
            uuid: self.uuid,
            device: self.device.clone(),
            first_boot: self.first_boot,
            mounted_at: self.mounted_at.clone(),
        };
        let path = self.files.description();
        let temporary = path.with_extension("new");
        remove(&temporary)?;
        let text =
            serde_json::to_vec(&description).map_err(|source| StateDiskError::Description {
                path: path.clone(),
                source,
            })?;
        write_new(&temporary, 0o644, &text)?;
        fs::rename(&temporary, &path).map_err(file("replace", &path))
    }
}

/// Does what comes after a device was opened under this name. If it fails the device is closed again: while it is open nobody can open
/// it, with whatever key.
fn closed_on_failure<T>(
    name: &str,
    after: impl FnOnce() -> Result<T, StateDiskError>,
) -> Result<T, StateDiskError> {
    after().map_err(|failure| match close(name) {
        Ok(()) => failure,
        Err(close) => StateDiskError::StaysOpen {
            close: close.into(),
            failure: failure.into(),
        },
    })
}

/// Reads a detached header that cryptsetup has written, checks it like any other, and writes it anew with a change.
fn rewrite(
    path: &Path,
    change: impl FnOnce(VerifiedHeader) -> VerifiedHeader,
) -> Result<VerifiedHeader, StateDiskError> {
    let copy = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(file("open", path))?;
    let mut bytes = vec![0; HEADERS_SIZE];
    copy.read_exact_at(&mut bytes, 0)
        .map_err(file("read", path))?;
    let header =
        VerifiedHeader::parse(Kind::StateDisk, &bytes).map_err(StateDiskError::OwnHeader)?;
    let header = change(header);
    copy.write_all_at(&header.encode(), 0)
        .map_err(file("write", path))?;
    Ok(header)
}

fn write_detached(
    path: &Path,
    header: &VerifiedHeader,
    keyslot: &[u8],
) -> Result<(), StateDiskError> {
    write_new(path, 0o600, &header.encode())?;
    let write = |copy: File| {
        copy.write_all_at(keyslot, header.keyslot_area().start)?;
        copy.set_len(DATA_OFFSET)
    };
    OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(write)
        .map_err(file("write", path))
}

fn apply(device: &Path, steps: &[commit::Step]) -> Result<(), StateDiskError> {
    let error = |step: &'static str| {
        move |source| StateDiskError::Header {
            device: device.to_owned(),
            step,
            source,
        }
    };
    let opened = OpenOptions::new()
        .write(true)
        .open(device)
        .map_err(error("open"))?;
    steps
        .iter()
        .try_for_each(|step| commit::apply(&opened, step).map_err(error(step.name)))
}
