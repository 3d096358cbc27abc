//! configfs-tsm: the kernel's one interface for reports of SEV-SNP, TDX and Arm CCA guests (Linux 6.7 and later).
//!
//! Specification: Linux, `Documentation/ABI/testing/configfs-tsm-report`. A directory made below `report` is one request:
//! what is written to its `inblob` is signed into what is read from its `outblob`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use thiserror::Error;

/// Where configfs is mounted.
pub const CONFIGFS: &str = "/sys/kernel/config";
/// What a report is made over.
pub const REPORT_DATA: usize = 64;
/// Larger than any report or quote, and than any table of certificates.
const MAX_BLOB: u64 = 64 * 1024;
const MAX_LINE: u64 = 256;
/// Names somebody else may have taken before.
const MAX_NAMES: u32 = 64;
/// The kernel makes an entry's files with the entry; a file system that somebody else serves may be a moment later.
const GRACE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(5);

/// Why there is no report.
#[derive(Debug, Error)]
pub enum TsmError {
    /// No such interface, or it is not ours to use.
    #[error("configfs-tsm is not at {path:?}: {}", hint(.source))]
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file of a request cannot be used.
    #[error("cannot use {path:?} of configfs-tsm")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More than any report.
    #[error("{path:?} of configfs-tsm has more than {MAX_BLOB} bytes")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Nothing where the report should be.
    #[error("{path:?} of configfs-tsm is empty")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Something that is not text or not a number.
    #[error("{path:?} of configfs-tsm holds something else than it should")]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else wrote into the request.
    #[error(
        "somebody else used this request of configfs-tsm at the same time: it was written {found} times, not {expected}"
    )]
    Raced {
        /// The generation there must be.
        expected: u64,
        /// The generation there is.
        found: u64,
    },
    /// All names are taken.
    #[error(
        "{MAX_NAMES} requests of configfs-tsm are open: whoever made them died; remove them with rmdir"
    )]
    Full,
}

impl TsmError {
    /// Whether the kernel has no such interface, or no driver behind it, and not that this program may not use it.
    pub(crate) fn is_absence(&self) -> bool {
        match self {
            Self::Missing { source, .. } => {
                source.kind() == io::ErrorKind::NotFound
                    || Errno::from_io_error(source) == Some(Errno::NXIO)
            }
            _ => false,
        }
    }
}

fn hint(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => {
            "this machine is no confidential guest, or its kernel is older than 6.7, or configfs is not mounted"
        }
        io::ErrorKind::PermissionDenied => "only root may use it",
        _ => "it cannot be used",
    }
}

/// Who makes the reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// AMD SEV-SNP.
    SevGuest,
    /// Intel TDX.
    TdxGuest,
    /// Another one, by the kernel's name for it.
    Other(String),
}

impl Provider {
    fn of(name: &str) -> Self {
        match name {
            "sev_guest" => Self::SevGuest,
            "tdx_guest" => Self::TdxGuest,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl std::fmt::Display for Provider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::SevGuest => f.pad("AMD SEV-SNP (sev_guest)"),
            Self::TdxGuest => f.pad("Intel TDX (tdx_guest)"),
            Self::Other(name) => f.pad(&format!("{:?}", name)),
        }
    }
}

/// A report with what came along. Says nothing until `attest` has looked at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TsmReport {
    /// Who made it.
    pub provider: Provider,
    /// `outblob`: an SNP report or a TD quote.
    pub report: Vec<u8>,
    /// `auxblob`: for SNP the host's table of certificates, if it has one.
    pub auxiliary: Option<Vec<u8>>,
}

/// The interface of one configfs.
#[derive(Clone, Debug)]
pub struct Tsm {
    reports: PathBuf,
}

impl Tsm {
    /// Of this machine.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self::new(Path::new(CONFIGFS))
    }

    /// Below another configfs.
    #[must_use]
    pub fn new(configfs: &Path) -> Self {
        Self {
            reports: configfs.join("tsm/report"),
        }
    }

    /// Whether the interface is there. That it works shows in a report.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.reports.is_dir()
    }

    /// A report over `data`.
    ///
    /// # Errors
    /// When the interface is not there or fails, or somebody else used the request at the same time.
    pub fn report(&self, data: &[u8; REPORT_DATA]) -> Result<TsmReport, TsmError> {
        let request = Request::new(&self.reports)?;
        let provider = Provider::of(&request.line("provider")?);
        let before = request.generation()?;
        request.write("inblob", data)?;
        let report = request.read("outblob")?;
        let auxiliary = request.optional("auxblob")?;
        // one write of ours, and none of anybody else: else the report may be over somebody else's data
        let (expected, found) = (before.saturating_add(1), request.generation()?);
        if found != expected {
            return Err(TsmError::Raced { expected, found });
        }
        if report.is_empty() {
            return Err(TsmError::Empty {
                path: request.file("outblob"),
            });
        }
        Ok(TsmReport {
            provider,
            report,
            auxiliary,
        })
    }
}

/// A directory that is removed with the value.
#[derive(Debug)]
struct Request {
    directory: PathBuf,
}

impl Request {
    fn new(reports: &Path) -> Result<Self, TsmError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        for _ in 0..MAX_NAMES {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let directory = reports.join(format!("constellation-{}-{number}", std::process::id()));
            match fs::create_dir(&directory) {
                Ok(()) => return Ok(Self { directory }),
                Err(source) if source.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => {
                    return Err(TsmError::Missing {
                        path: reports.to_owned(),
                        source,
                    });
                }
            }
        }
        Err(TsmError::Full)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn open(&self, name: &str) -> Result<File, TsmError> {
        let path = self.file(name);
        let started = Instant::now();
        loop {
            match File::open(&path) {
                Ok(file) => return Ok(file),
                Err(source)
                    if source.kind() == io::ErrorKind::NotFound && started.elapsed() < GRACE =>
                {
                    std::thread::sleep(PAUSE);
                }
                Err(source) => return Err(TsmError::File { path, source }),
            }
        }
    }

    fn bounded(&self, name: &str, file: File, most: u64) -> Result<Vec<u8>, TsmError> {
        let path = self.file(name);
        let mut bytes = Vec::new();
        match file.take(most + 1).read_to_end(&mut bytes) {
            Err(source) => Err(TsmError::File { path, source }),
            Ok(_) if bytes.len() as u64 > most => Err(TsmError::TooLong { path }),
            Ok(_) => Ok(bytes),
        }
    }

    fn read(&self, name: &str) -> Result<Vec<u8>, TsmError> {
        let file = self.open(name)?;
        self.bounded(name, file, MAX_BLOB)
    }

    /// What not every provider has.
    fn optional(&self, name: &str) -> Result<Option<Vec<u8>>, TsmError> {
        let path = self.file(name);
        match File::open(&path) {
            Ok(file) => {
                let bytes = self.bounded(name, file, MAX_BLOB)?;
                Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(TsmError::File { path, source }),
        }
    }

    fn line(&self, name: &str) -> Result<String, TsmError> {
        let file = self.open(name)?;
        let bytes = self.bounded(name, file, MAX_LINE)?;
        String::from_utf8(bytes)
            .map(|text| text.trim_end().to_owned())
            .map_err(|_| TsmError::Format {
                path: self.file(name),
            })
    }

    fn generation(&self) -> Result<u64, TsmError> {
        self.line("generation")?
            .parse()
            .map_err(|_| TsmError::Format {
                path: self.file("generation"),
            })
    }

    /// One write, because the kernel takes what one write holds.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TsmError> {
        let path = self.file(name);
        OpenOptions::new()
            .write(true)
            .open(&path)
            .and_then(|mut file| file.write_all(bytes))
            .map_err(|source| TsmError::File { path, source })
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // the kernel removes an entry's files with it; that it stays harms nobody but who looks for a free name
        drop(fs::remove_dir(&self.directory));
    }
}
