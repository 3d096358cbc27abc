//! The attestation report: `ATTESTATION_REPORT` of the SEV-SNP firmware ABI (AMD publication 56860, table 23).
//!
//! Parsing says what the bytes state. Whether hardware stated it is decided by the appraisal, which checks the signature over
//! the very bytes that were read here.

use thiserror::Error;

use super::bits::{GuestPolicy, KeyInfo, PlatformInfo};
use super::product::CpuId;
use super::tcb::RawTcb;
use crate::tpm::{ParseError, Reader};

/// Size of a report, in bytes.
pub const REPORT_SIZE: usize = 1184;

/// The part that is signed comes first.
const SIGNED: usize = 0x2a0;
/// Size of r and of s, little endian.
const SCALAR: usize = 72;
/// What of a scalar a number below the order of P-384 can use.
const SCALAR_USED: usize = 48;
const AFTER_SIGNATURE: usize = REPORT_SIZE - SIGNED - 2 * SCALAR;
/// ECDSA P-384 with SHA-384 (AMD 56860, table "Signature Algorithm").
const ECDSA_P384_SHA384: u32 = 1;

/// Why bytes are not a report.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReportError {
    /// Not the one size of a report.
    #[error("a report has {REPORT_SIZE} bytes, these are {0}")]
    Size(usize),
    /// A field cannot be read.
    #[error("cannot read the report")]
    Field(#[source] ParseError),
    /// From before version 2, the first of released firmware.
    #[error("report version {0} is older than 2, the first of released firmware")]
    Version(u32),
    /// Not ECDSA P-384 with SHA-384.
    #[error("signature algorithm {0} is not 1, ECDSA P-384 with SHA-384")]
    SignatureAlgorithm(u32),
    /// A bit of the guest's policy that is always one is zero.
    #[error("bit 17 of the guest policy {0:#x} is not one")]
    PolicyReservedBit(u64),
    /// r or s is not a number below 2^384.
    #[error("the {0} of the signature is longer than 48 bytes")]
    Scalar(&'static str),
    /// Bytes that no signature covers and no field uses.
    #[error("the bytes after the signature are not zero")]
    AfterSignature,
}

/// Version of a report's layout. A version above the newest known one is read as the newest and marked by [`Self::is_known`]: firmware
/// adds fields where there were zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReportVersion(u32);

impl ReportVersion {
    /// The newest version whose fields this release knows.
    pub const NEWEST_KNOWN: Self = Self(5);

    /// The number in the report.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Whether this release knows all fields.
    #[must_use]
    pub const fn is_known(self) -> bool {
        self.0 <= Self::NEWEST_KNOWN.0
    }

    const fn has_cpu_id(self) -> bool {
        self.0 >= 3
    }

    const fn has_mitigations(self) -> bool {
        self.0 >= 5
    }
}

/// Version of the SEV firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FirmwareVersion {
    /// Major version of the interface.
    pub major: u8,
    /// Minor version of the interface.
    pub minor: u8,
    /// Build.
    pub build: u8,
}

impl std::fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

/// Mitigations that were verified (reports from version 5); which bit is which depends on the product line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mitigations {
    /// When the guest was launched.
    pub launch: u64,
    /// When the report was made.
    pub current: u64,
}

/// What a report states. `None` is a field that its version does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReportFields {
    /// Version of the layout.
    pub version: ReportVersion,
    /// Security version of the guest, by its owner.
    pub guest_svn: u32,
    /// The guest's policy.
    pub policy: GuestPolicy,
    /// Family of the image, by its owner.
    pub family_id: [u8; 16],
    /// Image, by its owner.
    pub image_id: [u8; 16],
    /// Privilege level that asked for the report; 0 is the highest. 0xFFFFFFFF if the host asked.
    pub vmpl: u32,
    /// Levels of the firmware that runs.
    pub current_tcb: RawTcb,
    /// What the platform is set to.
    pub platform_info: PlatformInfo,
    /// Which key signed.
    pub key_info: KeyInfo,
    /// Chosen by who asked for the report.
    pub report_data: [u8; 64],
    /// SHA-384 digest of the guest's memory at launch.
    pub measurement: [u8; 48],
    /// Chosen by the host at launch.
    pub host_data: [u8; 32],
    /// SHA-384 of the key that signed the guest's identity block; zero without one.
    pub id_key_digest: [u8; 48],
    /// SHA-384 of the key that certified the identity key; zero without one.
    pub author_key_digest: [u8; 48],
    /// The guest, until it ends.
    pub report_id: [u8; 32],
    /// Its migration agent; all ones without one.
    pub report_id_ma: [u8; 32],
    /// Levels the signing key was derived for.
    pub reported_tcb: RawTcb,
    /// The processor.
    pub cpu_id: Option<CpuId>,
    /// The chip; zero if the host masks it, or by a provider's key.
    pub chip_id: [u8; 64],
    /// Levels below which the firmware cannot be rolled back.
    pub committed_tcb: RawTcb,
    /// Firmware that runs.
    pub current_version: FirmwareVersion,
    /// Firmware that cannot be rolled back.
    pub committed_version: FirmwareVersion,
    /// Levels when the guest was launched.
    pub launch_tcb: RawTcb,
    /// Verified mitigations.
    pub mitigations: Option<Mitigations>,
}

/// A report that was read, and that nobody has vouched for yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    fields: ReportFields,
    signed: [u8; SIGNED],
    signature: [u8; 2 * SCALAR_USED],
}

impl Report {
    /// Reads exactly one report.
    ///
    /// # Errors
    /// If the size, the version, the signature's algorithm or form, or a reserved bit that matters is not as specified.
    pub fn parse(bytes: &[u8]) -> Result<Self, ReportError> {
        let bytes: &[u8; REPORT_SIZE] = bytes
            .try_into()
            .map_err(|_| ReportError::Size(bytes.len()))?;
        let mut reader = Reader::little_endian(bytes);
        let signed = reader
            .array::<SIGNED>("signed part")
            .map_err(ReportError::Field)?;
        let signature = signature(&mut reader)?;
        Ok(Self {
            fields: fields(&signed)?,
            signed,
            signature,
        })
    }

    /// What the report states.
    #[must_use]
    pub const fn fields(&self) -> &ReportFields {
        &self.fields
    }

    /// The bytes that are signed.
    #[must_use]
    pub const fn signed(&self) -> &[u8] {
        &self.signed
    }

    /// r and s, 48 bytes each, big endian.
    #[must_use]
    pub const fn signature(&self) -> &[u8; 96] {
        &self.signature
    }
}

fn signature(reader: &mut Reader<'_>) -> Result<[u8; 2 * SCALAR_USED], ReportError> {
    let mut fixed = [0; 2 * SCALAR_USED];
    let (r, s) = fixed.split_at_mut(SCALAR_USED);
    for (name, into) in [("r", r), ("s", s)] {
        let scalar = reader
            .bytes("signature", SCALAR)
            .map_err(ReportError::Field)?;
        let (used, high) = scalar
            .split_at_checked(into.len())
            .ok_or(ReportError::Scalar(name))?;
        if high.iter().any(|byte| *byte != 0) {
            return Err(ReportError::Scalar(name));
        }
        for (to, from) in into.iter_mut().zip(used.iter().rev()) {
            *to = *from;
        }
    }
    let after = reader
        .bytes("end of the report", AFTER_SIGNATURE)
        .map_err(ReportError::Field)?;
    if after.iter().any(|byte| *byte != 0) {
        return Err(ReportError::AfterSignature);
    }
    Ok(fixed)
}

fn fields(signed: &[u8; SIGNED]) -> Result<ReportFields, ReportError> {
    let mut reader = Reader::little_endian(signed);
    let version = ReportVersion(reader.u32("version").map_err(ReportError::Field)?);
    if version.0 < 2 {
        return Err(ReportError::Version(version.0));
    }
    let (fields, algorithm) = read(&mut reader, version).map_err(ReportError::Field)?;
    if algorithm != ECDSA_P384_SHA384 {
        return Err(ReportError::SignatureAlgorithm(algorithm));
    }
    if !fields.policy.contains(GuestPolicy::RESERVED_ONE) {
        return Err(ReportError::PolicyReservedBit(fields.policy.bits()));
    }
    Ok(fields)
}

/// Everything after the version, in the order of the table. Reserved bytes are passed over: newer firmware may use them.
fn read(
    reader: &mut Reader<'_>,
    version: ReportVersion,
) -> Result<(ReportFields, u32), ParseError> {
    let guest_svn = reader.u32("guest SVN")?;
    let policy = GuestPolicy(reader.u64("policy")?);
    let family_id = reader.array("family id")?;
    let image_id = reader.array("image id")?;
    let vmpl = reader.u32("VMPL")?;
    let algorithm = reader.u32("signature algorithm")?;
    let current_tcb = RawTcb(reader.array("current TCB")?);
    let platform_info = PlatformInfo(reader.u64("platform info")?);
    let key_info = KeyInfo(reader.u32("key info")?);
    reader.bytes("reserved", 4)?;
    let report_data = reader.array("report data")?;
    let measurement = reader.array("measurement")?;
    let host_data = reader.array("host data")?;
    let id_key_digest = reader.array("id key digest")?;
    let author_key_digest = reader.array("author key digest")?;
    let report_id = reader.array("report id")?;
    let report_id_ma = reader.array("migration agent's report id")?;
    let reported_tcb = RawTcb(reader.array("reported TCB")?);
    let [family, model, stepping] = reader.array("CPUID")?;
    reader.bytes("reserved", 21)?;
    let chip_id = reader.array("chip id")?;
    let committed_tcb = RawTcb(reader.array("committed TCB")?);
    let current_version = firmware_version(reader)?;
    let committed_version = firmware_version(reader)?;
    let launch_tcb = RawTcb(reader.array("launch TCB")?);
    let launch = reader.u64("mitigations at launch")?;
    let current = reader.u64("current mitigations")?;
    let fields = ReportFields {
        version,
        guest_svn,
        policy,
        family_id,
        image_id,
        vmpl,
        current_tcb,
        platform_info,
        key_info,
        report_data,
        measurement,
        host_data,
        id_key_digest,
        author_key_digest,
        report_id,
        report_id_ma,
        reported_tcb,
        cpu_id: version.has_cpu_id().then_some(CpuId {
            family,
            model,
            stepping,
        }),
        chip_id,
        committed_tcb,
        current_version,
        committed_version,
        launch_tcb,
        mitigations: version
            .has_mitigations()
            .then_some(Mitigations { launch, current }),
    };
    Ok((fields, algorithm))
}

fn firmware_version(reader: &mut Reader<'_>) -> Result<FirmwareVersion, ParseError> {
    let [build, minor, major, _] = reader.array("firmware version")?;
    Ok(FirmwareVersion {
        major,
        minor,
        build,
    })
}
