//! The devices by which older kernels make reports: `/dev/sev-guest` (Linux 5.19) and `/dev/tdx_guest` (Linux 6.2).
//!
//! Only the calls themselves, so that a test can answer in a kernel's place; what the answers mean is told in [`crate::sev_guest`] and
//! [`crate::tdx_guest`].

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::sys;

pub use crate::tsm::REPORT_DATA;

/// Bytes of the answer to a request for an SNP report, whatever is in them.
pub const SNP_RESPONSE: usize = sys::SNP_RESPONSE;
/// Bytes of a `TDREPORT_STRUCT`.
pub const TD_REPORT: usize = sys::TD_REPORT;

/// Which device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestDevice {
    /// `sev-guest`.
    Sev,
    /// `tdx_guest`.
    Tdx,
}

impl GuestDevice {
    /// The name of its file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sev => "sev-guest",
            Self::Tdx => "tdx_guest",
        }
    }
}

impl fmt::Display for GuestDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A call that did not succeed, as the kernel leaves it.
#[derive(Debug)]
pub enum CallFailure {
    /// The device cannot be opened.
    Open(io::Error),
    /// The call fails.
    Call {
        /// `errno`.
        error: io::Error,
        /// Of SEV-SNP: the firmware's code below, the hypervisor's above. 0 where the driver says nothing.
        exit_info2: u64,
        /// Of an extended report: how long the buffer for certificates must be, if it is too short.
        certificates_length: u32,
    },
}

/// What the guest devices of a machine are asked.
pub trait GuestDevices: fmt::Debug + Send + Sync {
    /// Whether there is such a device. That it works shows in a report.
    fn is_there(&self, device: GuestDevice) -> bool;

    /// Opens it and asks nothing.
    ///
    /// # Errors
    /// When it cannot be opened, or is no device.
    fn can_be_opened(&self, device: GuestDevice) -> Result<(), CallFailure>;

    /// `SNP_GET_REPORT` over `data`, of the privilege level `vmpl`.
    ///
    /// # Errors
    /// When the device cannot be opened or the call fails.
    fn snp_report(
        &self,
        data: &[u8; REPORT_DATA],
        vmpl: u32,
    ) -> Result<[u8; SNP_RESPONSE], CallFailure>;

    /// `SNP_GET_EXT_REPORT`: the same, and the host's certificates written to the begin of `certificates`, whose length is in whole pages.
    ///
    /// # Errors
    /// As [`GuestDevices::snp_report`].
    fn snp_extended_report(
        &self,
        data: &[u8; REPORT_DATA],
        vmpl: u32,
        certificates: &mut [u8],
    ) -> Result<[u8; SNP_RESPONSE], CallFailure>;

    /// `TDX_CMD_GET_REPORT0` over `data`.
    ///
    /// # Errors
    /// As [`GuestDevices::snp_report`].
    fn td_report(&self, data: &[u8; REPORT_DATA]) -> Result<[u8; TD_REPORT], CallFailure>;
}

/// The kernel's device files. Each call opens its device, so that one that broke once is not kept.
#[derive(Clone, Debug)]
pub struct DeviceFiles(PathBuf);

impl DeviceFiles {
    /// Of this machine.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self::new(Path::new("/dev"))
    }

    /// In another directory than `/dev`.
    #[must_use]
    pub fn new(directory: &Path) -> Self {
        Self(directory.to_owned())
    }

    fn open(&self, device: GuestDevice) -> Result<sys::Device, CallFailure> {
        sys::Device::open(&self.0.join(device.name())).map_err(CallFailure::Open)
    }
}

impl From<sys::SnpFailure> for CallFailure {
    fn from(failure: sys::SnpFailure) -> Self {
        Self::Call {
            error: failure.error,
            exit_info2: failure.exit_info2,
            certificates_length: failure.certificates_length,
        }
    }
}

impl GuestDevices for DeviceFiles {
    fn is_there(&self, device: GuestDevice) -> bool {
        self.0.join(device.name()).exists()
    }

    fn can_be_opened(&self, device: GuestDevice) -> Result<(), CallFailure> {
        self.open(device).map(drop)
    }

    fn snp_report(
        &self,
        data: &[u8; REPORT_DATA],
        vmpl: u32,
    ) -> Result<[u8; SNP_RESPONSE], CallFailure> {
        let device = self.open(GuestDevice::Sev)?;
        Ok(sys::snp_report(&device, data, vmpl)?)
    }

    fn snp_extended_report(
        &self,
        data: &[u8; REPORT_DATA],
        vmpl: u32,
        certificates: &mut [u8],
    ) -> Result<[u8; SNP_RESPONSE], CallFailure> {
        let device = self.open(GuestDevice::Sev)?;
        Ok(sys::snp_extended_report(&device, data, vmpl, certificates)?)
    }

    fn td_report(&self, data: &[u8; REPORT_DATA]) -> Result<[u8; TD_REPORT], CallFailure> {
        let device = self.open(GuestDevice::Tdx)?;
        sys::td_report(&device, data).map_err(|error| CallFailure::Call {
            error,
            exit_info2: 0,
            certificates_length: 0,
        })
    }
}
