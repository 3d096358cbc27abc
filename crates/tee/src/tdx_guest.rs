//! Quotes of TDX by `/dev/tdx_guest`, for kernels without configfs-tsm: the device makes a TDREPORT, which only this platform can check,
//! and the host's service makes a quote of it.
//!
//! Specification: Linux, `Documentation/virt/coco/tdx-guest.rst`.

use std::io;

use rustix::io::Errno;
use thiserror::Error;

use crate::devices::{CallFailure, GuestDevices, TD_REPORT};
use crate::quote_service::{QuoteService, QuoteServiceError};
use crate::tsm::{Provider, REPORT_DATA, TsmReport};

/// Another request may be under way.
const MAX_ATTEMPTS: u32 = 5;

/// Why there is no quote.
#[derive(Debug, Error)]
pub enum TdxGuestError {
    /// No such device, or it is not ours to use.
    #[error("cannot open tdx_guest: {}", open_hint(.0))]
    Open(#[source] io::Error),
    /// The driver takes no request of this kind.
    #[error(
        "tdx_guest does not know the request: it is another device, or of a kernel before Linux 6.2"
    )]
    Unknown(#[source] io::Error),
    /// The TDX module says no.
    #[error("the TDX module makes no TDREPORT")]
    Module(#[source] io::Error),
    /// Anything else.
    #[error("cannot ask tdx_guest for a TDREPORT")]
    Call(#[source] io::Error),
    /// The service.
    #[error(transparent)]
    Service(#[from] QuoteServiceError),
}

fn open_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "this machine is no TDX guest, or its kernel lacks the driver (CONFIG_TDX_GUEST_DRIVER)"
        }
        io::ErrorKind::PermissionDenied => "only root may use it",
        _ => "it cannot be used",
    }
}

/// A TDREPORT over `data`, for whoever makes quotes of it.
///
/// # Errors
/// When the device is not there or refuses.
pub fn td_report(
    devices: &dyn GuestDevices,
    data: &[u8; REPORT_DATA],
) -> Result<[u8; TD_REPORT], TdxGuestError> {
    let mut attempts = 1;
    loop {
        let error = match devices.td_report(data) {
            Ok(report) => return Ok(report),
            Err(CallFailure::Open(error)) => return Err(TdxGuestError::Open(error)),
            Err(CallFailure::Call { error, .. }) => error,
        };
        match Errno::from_io_error(&error) {
            Some(Errno::INTR | Errno::AGAIN | Errno::BUSY) if attempts < MAX_ATTEMPTS => {
                attempts += 1;
            }
            Some(Errno::NOTTY) => return Err(TdxGuestError::Unknown(error)),
            Some(Errno::IO) => return Err(TdxGuestError::Module(error)),
            _ => return Err(TdxGuestError::Call(error)),
        }
    }
}

/// A quote over `data`, in the form that configfs-tsm has.
///
/// # Errors
/// When there is no TDREPORT, or the service makes no quote of it.
pub fn quote(
    devices: &dyn GuestDevices,
    service: &QuoteService,
    data: &[u8; REPORT_DATA],
) -> Result<TsmReport, TdxGuestError> {
    let td_report = td_report(devices, data)?;
    Ok(TsmReport {
        provider: Provider::TdxGuest,
        report: service.quote(&td_report)?,
        auxiliary: None,
    })
}
