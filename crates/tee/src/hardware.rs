//! A report of this machine's processor, by the interface that its kernel has: configfs-tsm, or the older guest devices.

use thiserror::Error;

use crate::detect::Places;
use crate::devices::GuestDevice;
use crate::sev_guest::{SevGuest, SevGuestError};
use crate::tdx_guest::{self, TdxGuestError};
use crate::tsm::{REPORT_DATA, Tsm, TsmError, TsmReport};

/// Why there is no report.
#[derive(Debug, Error)]
pub enum HardwareError {
    /// configfs-tsm.
    #[error(transparent)]
    Tsm(TsmError),
    /// `/dev/sev-guest`, on a kernel without configfs-tsm.
    #[error(transparent)]
    SevGuest(#[from] SevGuestError),
    /// `/dev/tdx_guest`, on a kernel without configfs-tsm.
    #[error(transparent)]
    TdxGuest(#[from] TdxGuestError),
    /// No interface at all.
    #[error(
        "this machine has neither configfs-tsm nor sev-guest nor tdx_guest, so its processor makes no report: start it as a confidential VM, with a kernel that has the drivers"
    )]
    None(#[source] TsmError),
}

/// A report or quote over `data`. The devices are asked only where configfs-tsm is missing: both are one driver.
///
/// # Errors
/// When there is no interface, or the one there is fails.
pub fn report(places: &Places, data: &[u8; REPORT_DATA]) -> Result<TsmReport, HardwareError> {
    let missing = match Tsm::new(&places.configfs).report(data) {
        Ok(report) => return Ok(report),
        Err(error) if error.is_absence() => error,
        Err(error) => return Err(HardwareError::Tsm(error)),
    };
    let devices = places.devices.as_ref();
    if devices.is_there(GuestDevice::Sev) {
        return Ok(SevGuest::new(devices).report(data)?);
    }
    if devices.is_there(GuestDevice::Tdx) {
        return Ok(tdx_guest::quote(devices, &places.quote_service, data)?);
    }
    Err(HardwareError::None(missing))
}
