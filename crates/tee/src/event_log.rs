//! The event log of this machine's boot, as the kernel shows it in securityfs.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use attest::event_log::MAX_LOG;
use thiserror::Error;

/// Where Linux shows the log of the first TPM. securityfs must be mounted.
pub const KERNEL_EVENT_LOG: &str = "/sys/kernel/security/tpm0/binary_bios_measurements";

/// The log cannot be had.
#[derive(Debug, Error)]
pub enum EventLogError {
    /// The file cannot be read.
    #[error("cannot read the event log {path:?}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A verifier would refuse it.
    #[error("the event log {path:?} is longer than {MAX_LOG} bytes")]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

/// Reads a log, at most as much of it as evidence may hold.
///
/// # Errors
/// When the file cannot be read or is longer than that.
pub fn read_event_log(path: &Path) -> Result<Vec<u8>, EventLogError> {
    let failed = |source| EventLogError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mut log = Vec::new();
    file.take(MAX_LOG as u64 + 1)
        .read_to_end(&mut log)
        .map_err(failed)?;
    if log.len() > MAX_LOG {
        return Err(EventLogError::TooLong {
            path: path.to_owned(),
        });
    }
    Ok(log)
}
