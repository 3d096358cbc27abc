//! Reports of SEV-SNP by `/dev/sev-guest`, for kernels without configfs-tsm.
//!
//! The driver encrypts the request for the firmware and hands it to the hypervisor, which can withhold an answer and make none. Where it fails
//! in the middle the driver gives its key up, rather than use a number twice, and the device is of no use until the machine starts anew.
//!
//! Specification: Linux, `Documentation/virt/coco/sev-guest.rst`; AMD 56860 (SEV-SNP firmware ABI), 7.3 and table 25 (`MSG_REPORT_RSP`);
//! AMD 56421 (GHCB), 4.1.7 and 4.1.8.

use std::io;
use std::time::Duration;

use attest::certificate_table::MAX_TABLE;
use attest::sev_snp::REPORT_SIZE;
use rustix::io::Errno;
use thiserror::Error;

use crate::devices::{CallFailure, GuestDevice, GuestDevices, SNP_RESPONSE};
use crate::tsm::{Provider, REPORT_DATA, TsmReport};

/// `SEV_FW_BLOB_MAX_SIZE`: what the driver takes for certificates, and no more.
const TABLE: usize = 16 * 1024;
const PAGE: usize = 4096;
/// Of the machine's own software. Where a paravisor or an SVSM runs above it the firmware refuses.
const VMPL: u32 = 0;
/// A hypervisor lets a guest ask only every so often. Where that is its answer, newer drivers wait themselves, for a minute, and all of them
/// give their key up in the end: only what was put off before the hypervisor was asked is asked again.
const MAX_ATTEMPTS: u32 = 5;
/// What the driver waits.
const PAUSE: Duration = Duration::from_secs(2);
/// Of `MSG_REPORT_RSP`: status, size, and what is reserved.
const HEADER: usize = 32;
/// `SNP_GUEST_VMM_ERR_INVALID_LEN`.
const TOO_SHORT: u32 = 1;
/// `SNP_GUEST_VMM_ERR_BUSY`.
const BUSY: u32 = 2;
/// The driver's word for "not asked", of Linux 6.1 and of 6.3 (`SEV_RET_NO_FW_CALL`).
const NOT_ASKED: [u32; 2] = [0xff, u32::MAX];
/// `SEV_RET_INVALID_PARAM`.
const INVALID_PARAMETER: u32 = 0x16;
/// An entry of the host's table: GUID, offset, length.
const ENTRY: usize = 24;

/// Why there is no report.
#[derive(Debug, Error)]
pub enum SevGuestError {
    /// No such device, or it is not ours to use.
    #[error("cannot open sev-guest: {}", open_hint(.0))]
    Open(#[source] io::Error),
    /// The driver takes no request.
    #[error(
        "the driver of sev-guest takes no request: it gave its key up after an earlier failure, so restart the machine (or the file is another device)"
    )]
    NoKey(#[source] io::Error),
    /// The driver puts it off.
    #[error(
        "the driver of sev-guest put the request for a report off {MAX_ATTEMPTS} times; try again later"
    )]
    Busy(#[source] io::Error),
    /// The hypervisor put it off, and the driver gave up.
    #[error(
        "the hypervisor put the request for a report off until the driver gave up, and its key with it: a hypervisor limits how often a machine may ask; restart the machine, and ask less often"
    )]
    TimedOut(#[source] io::Error),
    /// The hypervisor says no.
    #[error("the hypervisor refuses the request for a report with code {code:#x}")]
    Hypervisor {
        /// GHCB, 4.1.7.
        code: u32,
        /// `errno`.
        #[source]
        source: io::Error,
    },
    /// The firmware says no.
    #[error("AMD's firmware refuses the request for a report with code {code:#x}")]
    Firmware {
        /// AMD 56860, table 5.
        code: u32,
        /// `errno`.
        #[source]
        source: io::Error,
    },
    /// The firmware says no to what was asked for.
    #[error("AMD's firmware makes no report: status {0:#x}{hint}", hint = status_hint(*.0))]
    Status(u32),
    /// Another length than a report has.
    #[error("AMD's firmware answers with a report of {0} bytes, not {REPORT_SIZE}")]
    Size(u32),
    /// Anything else.
    #[error("cannot ask sev-guest for a report")]
    Call(#[source] io::Error),
}

fn open_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "this machine is no SEV-SNP guest, or its kernel lacks the driver (CONFIG_SEV_GUEST)"
        }
        io::ErrorKind::PermissionDenied => "only root may use it",
        _ => "it cannot be used",
    }
}

fn status_hint(status: u32) -> &'static str {
    match status {
        INVALID_PARAMETER => {
            " (invalid parameter): this system does not run at VMPL 0, so a paravisor or an SVSM is above it"
        }
        0x27 => " (invalid key)",
        _ => "",
    }
}

/// The device, with what it is waited for.
#[derive(Debug)]
pub struct SevGuest<'a> {
    devices: &'a dyn GuestDevices,
    pause: Duration,
}

impl<'a> SevGuest<'a> {
    /// Of these devices.
    #[must_use]
    pub const fn new(devices: &'a dyn GuestDevices) -> Self {
        Self {
            devices,
            pause: PAUSE,
        }
    }

    /// Waits so long, and not two seconds, before a request that was put off is made again.
    #[must_use]
    pub const fn with_pause(self, pause: Duration) -> Self {
        Self { pause, ..self }
    }

    /// Looks whether the device can be opened, and asks it nothing: on kernels of before Linux 6.3 a request that the hypervisor puts off
    /// costs the driver its key, and the machine its evidence until it starts anew.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn look(&self) -> Result<(), SevGuestError> {
        self.devices
            .can_be_opened(GuestDevice::Sev)
            .map_err(error_of)
    }

    /// A report over `data` with the host's certificates, in the form that configfs-tsm has. A table that is longer than the driver takes
    /// is left out: AMD publishes what is in it.
    ///
    /// # Errors
    /// When the device is not there, or driver, hypervisor or firmware refuse, or the answer is no report.
    pub fn report(&self, data: &[u8; REPORT_DATA]) -> Result<TsmReport, SevGuestError> {
        let mut table = vec![0; TABLE];
        let mut answer = self.patiently(|| {
            self.devices
                .snp_extended_report(data, VMPL, table.as_mut_slice())
        });
        if let Err(failure) = &answer
            && let Some(needed) = needed_table(failure)
        {
            table = vec![0; needed];
            answer = self.patiently(|| {
                self.devices
                    .snp_extended_report(data, VMPL, table.as_mut_slice())
            });
        }
        let response = match answer {
            Err(failure) if is_about_the_table(&failure) => {
                table.clear();
                self.patiently(|| self.devices.snp_report(data, VMPL))
                    .map_err(error_of)?
            }
            other => other.map_err(error_of)?,
        };
        Ok(TsmReport {
            provider: Provider::SevGuest,
            report: report_in(&response)?,
            auxiliary: used(table),
        })
    }

    /// Asks again while the driver puts it off, a few times.
    fn patiently<T>(
        &self,
        mut ask: impl FnMut() -> Result<T, CallFailure>,
    ) -> Result<T, CallFailure> {
        let mut attempts = 1;
        loop {
            match ask() {
                Err(failure) if attempts < MAX_ATTEMPTS && is_busy(&failure) => {
                    attempts += 1;
                    std::thread::sleep(self.pause);
                }
                other => return other,
            }
        }
    }
}

/// The firmware's code and the hypervisor's.
fn codes(exit_info2: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = exit_info2.to_le_bytes();
    (
        u32::from_le_bytes([a, b, c, d]),
        u32::from_le_bytes([e, f, g, h]),
    )
}

fn is_busy(failure: &CallFailure) -> bool {
    match failure {
        CallFailure::Open(_) => false,
        CallFailure::Call {
            error, exit_info2, ..
        } => {
            matches!(errno(error), Some(Errno::AGAIN | Errno::BUSY | Errno::INTR))
                // after that answer the driver has no key left to ask with
                && codes(*exit_info2).1 != BUSY
        }
    }
}

/// The buffer was too short, or is longer than the driver takes: the driver keeps its key, and a report without certificates can be had.
fn is_about_the_table(failure: &CallFailure) -> bool {
    match failure {
        CallFailure::Open(_) => false,
        CallFailure::Call {
            error, exit_info2, ..
        } => codes(*exit_info2).1 == TOO_SHORT || errno(error) == Some(Errno::INVAL),
    }
}

/// How long the buffer must be, if that can be believed.
fn needed_table(failure: &CallFailure) -> Option<usize> {
    match failure {
        CallFailure::Call {
            exit_info2,
            certificates_length,
            ..
        } if codes(*exit_info2).1 == TOO_SHORT => usize::try_from(*certificates_length)
            .ok()
            .filter(|needed| (TABLE + 1..=MAX_TABLE).contains(needed) && needed % PAGE == 0),
        _ => None,
    }
}

fn error_of(failure: CallFailure) -> SevGuestError {
    let (error, exit_info2) = match failure {
        CallFailure::Open(error) => return SevGuestError::Open(error),
        CallFailure::Call {
            error, exit_info2, ..
        } => (error, exit_info2),
    };
    let (firmware, hypervisor) = codes(exit_info2);
    match errno(&error) {
        Some(Errno::NOTTY) => return SevGuestError::NoKey(error),
        Some(Errno::TIMEDOUT) => return SevGuestError::TimedOut(error),
        _ if hypervisor == BUSY => return SevGuestError::TimedOut(error),
        Some(Errno::AGAIN | Errno::BUSY | Errno::INTR) => return SevGuestError::Busy(error),
        _ => {}
    }
    // the hypervisor writes all of it when it answers in the firmware's place
    match (hypervisor, firmware) {
        (0 | u32::MAX, code) if code != 0 && !NOT_ASKED.contains(&code) => {
            SevGuestError::Firmware {
                code,
                source: error,
            }
        }
        (0 | u32::MAX, _) => SevGuestError::Call(error),
        (code, _) => SevGuestError::Hypervisor {
            code,
            source: error,
        },
    }
}

fn errno(error: &io::Error) -> Option<Errno> {
    Errno::from_io_error(error)
}

/// The report in a `MSG_REPORT_RSP`.
fn report_in(response: &[u8; SNP_RESPONSE]) -> Result<Vec<u8>, SevGuestError> {
    let number = |offset: usize| {
        response
            .get(offset..)
            .and_then(|rest| rest.first_chunk::<4>())
            .map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    let (status, size) = (number(0), number(4));
    if status != 0 {
        return Err(SevGuestError::Status(status));
    }
    response
        .get(HEADER..HEADER + REPORT_SIZE)
        .filter(|_| usize::try_from(size) == Ok(REPORT_SIZE))
        .map(<[u8]>::to_vec)
        .ok_or(SevGuestError::Size(size))
}

/// What of the buffer is the host's table: up to the end of the entry that is last in it, as configfs-tsm hands it on. Nothing if there
/// is no entry. Entries that point elsewhere are `attest`'s business.
fn used(mut table: Vec<u8>) -> Option<Vec<u8>> {
    let mut end = 0_usize;
    for entry in table.chunks_exact(ENTRY) {
        if entry.iter().all(|byte| *byte == 0) {
            break;
        }
        let [.., o0, o1, o2, o3, l0, l1, l2, l3] = entry else {
            break;
        };
        let number = |bytes| usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX);
        let offset = number([*o0, *o1, *o2, *o3]);
        end = end.max(offset.saturating_add(number([*l0, *l1, *l2, *l3])));
    }
    table.truncate(end);
    Some(table).filter(|table| !table.is_empty())
}
