//! What a TDX module reports about a trust domain: `TDREPORT` as it is in a quote (TDX module ABI, "TDREPORT_STRUCT";
//! quote format appendix A.3.2 for TD 1.0 and A.4.2 for TD 1.5).

use std::fmt;

use serde::{Serialize, Serializer};
use subtle::ConstantTimeEq as _;

use super::attributes::TdAttributes;
use crate::tpm::{ParseError, Reader};

/// A 48-byte value of a TDX report: MRTD, an RTMR (SHA-384), or an identity that the host gave. Hex outside.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Register([u8; 48]);

impl Register {
    /// What a register holds that nobody wrote.
    pub const ZERO: Self = Self([0; 48]);

    /// A value that somebody else computed.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 48]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 48] {
        &self.0
    }

    /// The value of 96 hexadecimal digits, if that is what the text is.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 48];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Register {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The 64 bytes that the trust domain chose: what a report is bound to. There is no way to make one of fewer bytes.
#[derive(Clone, Copy)]
pub struct ReportData([u8; 64]);

impl ReportData {
    /// Exactly these bytes. Who binds a shorter value says what the rest is.
    #[must_use]
    pub const fn new(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// Compares all bytes in the same time wherever they differ.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for ReportData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ReportData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The SVNs of the TDX module and what it stands on. Byte 0 is the module's SVN, byte 1 its major version; from major version 1 on
/// both are judged by the module's identity and not as components.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TeeTcbSvn(pub [u8; 16]);

impl TeeTcbSvn {
    /// SVN of the TDX module.
    #[must_use]
    pub const fn module_svn(&self) -> u8 {
        let [svn, ..] = self.0;
        svn
    }

    /// Major version of the TDX module: 0 for TDX 1.0.
    #[must_use]
    pub const fn module_version(&self) -> u8 {
        let [_, version, ..] = self.0;
        version
    }
}

impl fmt::Display for TeeTcbSvn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TeeTcbSvn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a body of TD 1.5 has beside TD 1.0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Td15 {
    /// The SVNs of what runs now; `tee_tcb_svn` is of when the trust domain started.
    pub tee_tcb_svn_2: TeeTcbSvn,
    /// Measurement of the service trust domains that are bound to this one, such as a migration domain; zero if none is.
    pub mr_service_td: Register,
}

/// A TD report.
#[derive(Clone, Debug)]
pub struct TdReport {
    /// `TEE_TCB_SVN`.
    pub tee_tcb_svn: TeeTcbSvn,
    /// Measurement of the TDX module.
    pub mr_seam: Register,
    /// Signer of the TDX module: zero for Intel's.
    pub mr_signer_seam: Register,
    /// Attributes of the TDX module: zero.
    pub seam_attributes: [u8; 8],
    /// Attributes of the trust domain.
    pub attributes: TdAttributes,
    /// Processor state that the trust domain may use, as XCR0 and IA32_XSS.
    pub xfam: u64,
    /// Measurement of the initial content of the trust domain.
    pub mrtd: Register,
    /// Given by the host: identity of the configuration.
    pub mr_config_id: Register,
    /// Given by the host: identity of the owner.
    pub mr_owner: Register,
    /// Given by the host: configuration by the owner.
    pub mr_owner_config: Register,
    /// Measurements that the trust domain extended while it ran.
    pub rtmrs: [Register; 4],
    /// What the trust domain said.
    pub report_data: ReportData,
    /// The fields of TD 1.5; nothing in a TD 1.0 body.
    pub td_1_5: Option<Td15>,
}

impl TdReport {
    pub(super) const SIZE_1_0: usize = 584;
    pub(super) const SIZE_1_5: usize = 648;

    pub(super) fn td_1_0(bytes: [u8; Self::SIZE_1_0]) -> Result<Self, ParseError> {
        let mut reader = Reader::little_endian(&bytes);
        let report = Self::common(&mut reader)?;
        reader.finish("TD 1.0 report")?;
        Ok(report)
    }

    pub(super) fn td_1_5(bytes: [u8; Self::SIZE_1_5]) -> Result<Self, ParseError> {
        let mut reader = Reader::little_endian(&bytes);
        let mut report = Self::common(&mut reader)?;
        report.td_1_5 = Some(Td15 {
            tee_tcb_svn_2: TeeTcbSvn(reader.array("TEE_TCB_SVN2")?),
            mr_service_td: Register(reader.array("MRSERVICETD")?),
        });
        reader.finish("TD 1.5 report")?;
        Ok(report)
    }

    fn common(reader: &mut Reader<'_>) -> Result<Self, ParseError> {
        let register = |reader: &mut Reader<'_>, field| reader.array(field).map(Register);
        Ok(Self {
            tee_tcb_svn: TeeTcbSvn(reader.array("TEE_TCB_SVN")?),
            mr_seam: register(reader, "MRSEAM")?,
            mr_signer_seam: register(reader, "MRSIGNERSEAM")?,
            seam_attributes: reader.array("SEAMATTRIBUTES")?,
            attributes: TdAttributes::from_bits(reader.u64("TDATTRIBUTES")?),
            xfam: reader.u64("XFAM")?,
            mrtd: register(reader, "MRTD")?,
            mr_config_id: register(reader, "MRCONFIGID")?,
            mr_owner: register(reader, "MROWNER")?,
            mr_owner_config: register(reader, "MROWNERCONFIG")?,
            rtmrs: [
                register(reader, "RTMR0")?,
                register(reader, "RTMR1")?,
                register(reader, "RTMR2")?,
                register(reader, "RTMR3")?,
            ],
            report_data: ReportData(reader.array("REPORTDATA")?),
            td_1_5: None,
        })
    }
}
