//! The checks of a GPU's evidence.

use std::fmt;

/// One check of a GPU's evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckName {
    /// The report is an SPDM 1.1 request for all measurements and its response.
    ReportFormat,
    /// The chain is a row of certificates.
    ChainFormat,
    /// The device's certificate leads to NVIDIA's root, now, and nothing on the way is revoked.
    Chain,
    /// The device's key signed request and response.
    Signature,
    /// The request carried the nonce of this session.
    Nonce,
    /// The device's certificate says which firmware its key belongs to.
    CertifiedFirmware,
    /// The report is of that firmware.
    FirmwareId,
    /// The driver is of an accepted version.
    Driver,
    /// The VBIOS is of an accepted version.
    Vbios,
    /// The measurement of this index has an accepted value.
    Measurement(u8),
}

impl fmt::Display for CheckName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ReportFormat => "GPU report format",
            Self::ChainFormat => "GPU certificate chain format",
            Self::Chain => "GPU certificate chain",
            Self::Signature => "GPU report signature",
            Self::Nonce => "GPU report bound to this session",
            Self::CertifiedFirmware => "firmware in the GPU's certificate",
            Self::FirmwareId => "GPU firmware identity",
            Self::Driver => "GPU driver version",
            Self::Vbios => "GPU VBIOS version",
            Self::Measurement(index) => return f.pad(&format!("GPU measurement {index}")),
        })
    }
}
