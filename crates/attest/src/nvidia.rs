//! Evidence of NVIDIA GPUs in confidential computing mode: an SPDM measurement report, signed by the key of the device.
//!
//! [`appraise`] proves, in this order: the device's certificate leads to NVIDIA's device root; the key of that certificate signed the
//! report; the report answers this nonce; it was made by the firmware the certificate names; the measurements are accepted ones. It does
//! not fetch NVIDIA's reference values or OCSP answers: the former are the caller's [`Requirements`], the latter its [`Revocation`].
//!
//! A GPU's evidence says nothing of the machine it is in. Who relies on it binds the nonce to the evidence of that machine.
//!
//! Structures: DMTF DSP0274, "Security Protocol and Data Model", 1.1, sections 10.11 and 10.11.1.

use std::sync::LazyLock;

use jiff::Timestamp;

use crate::verdict::with_sources;
use crate::verdict::{Check, CheckName as Name, Findings, Outcome, RefusalCode, Step, Stop};
use crate::x509::{
    Certificate, CrlScope, MAX_INTERMEDIATES, Path, PathRules, Revocation, SignatureScheme,
};

mod check_name;
mod report;
mod requirements;

pub use check_name::CheckName;
pub use report::{MAX_REPORT, NONCE_LENGTH, OpaqueField, Report, ReportError};
pub use requirements::{Requirements, RequirementsError, Sha384};

/// What a device hands out. Both parts are foreign bytes.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The request and the response, one after the other, as the driver returns them.
    pub report: &'a [u8],
    /// The device's certificate and those above it, PEM, the device's first.
    pub chain: &'a [u8],
}

/// Certificates at which a device's chain may end.
#[derive(Clone, Debug)]
pub struct Roots(Vec<Certificate>);

impl Roots {
    /// NVIDIA's "Device Identity CA", which is built in.
    #[must_use]
    pub fn nvidia() -> &'static Self {
        static ROOTS: LazyLock<Roots> = LazyLock::new(|| {
            let der = include_bytes!("roots/nvidia-device-identity.der");
            // a root that did not read would be one nothing leads to
            Roots(Certificate::parse(der).into_iter().collect())
        });
        &ROOTS
    }

    /// Other roots: those of a test.
    #[must_use]
    pub const fn new(roots: Vec<Certificate>) -> Self {
        Self(roots)
    }
}

/// A device that passed. Only [`appraise`] makes one.
#[derive(Debug)]
pub struct Appraised {
    report: Report,
    path: Path,
}

impl Appraised {
    /// The report, every field of it signed by the device.
    #[must_use]
    pub const fn report(&self) -> &Report {
        &self.report
    }

    /// The way from the device to the root.
    #[must_use]
    pub const fn path(&self) -> &Path {
        &self.path
    }
}

/// Appraises the evidence of one device against `requirements`, at `now`, for the nonce that it was asked with.
///
/// # Errors
///
/// [`Stop`], if a check failed; `findings` say which. Measurements and versions are all collected, everything before them stops at once.
pub fn appraise(
    evidence: &Evidence<'_>,
    roots: &Roots,
    revocation: &Revocation<'_>,
    requirements: &Requirements,
    nonce: &[u8; NONCE_LENGTH],
    now: Timestamp,
    findings: &mut Findings,
) -> Result<Appraised, Stop> {
    let report = findings.parse(
        Step::Document,
        Name::Nvidia(CheckName::ReportFormat),
        Report::parse(evidence.report),
    )?;
    let chain = findings.parse(
        Step::Document,
        Name::Nvidia(CheckName::ChainFormat),
        Certificate::chain_from_pem(evidence.chain, MAX_INTERMEDIATES + 1),
    )?;
    let path = prove_device(&chain, roots, revocation, now, findings)?;
    check_signature(&path, &report, findings)?;
    check_nonce(&report, nonce, findings)?;
    check_firmware_id(&path, &report, findings)?;
    requirements.check(&report, findings)?;
    Ok(Appraised { report, path })
}

fn prove_device(
    chain: &[Certificate],
    roots: &Roots,
    revocation: &Revocation<'_>,
    now: Timestamp,
    findings: &mut Findings,
) -> Result<Path, Stop> {
    let name = Name::Nvidia(CheckName::Chain);
    let refuse = |findings: &mut Findings, actual: String| {
        findings.fail(
            RefusalCode::NotAuthentic,
            Check {
                expected: Some("a chain to NVIDIA's device root".into()),
                actual: Some(actual.into()),
                next_step: Some("read the chain from the device again".into()),
                ..Check::new(Step::Endorsements, name, Outcome::Failed)
            },
        )
    };
    let Some((device, above)) = chain.split_first() else {
        return Err(refuse(findings, "no certificate".into()));
    };
    // the key that issues the device's certificate is in its ROM, which signs no CRL
    let rules = PathRules::end_entity().crls_for(CrlScope::Authorities);
    let path = Path::build(device, above, &roots.0, revocation, now, &rules)
        .map_err(|error| refuse(findings, with_sources(&error)))?;
    if !device
        .key_usage()
        .is_some_and(|usage| usage.digital_signature())
    {
        return Err(refuse(
            findings,
            "the key of the first certificate is not for signatures".into(),
        ));
    }
    findings.pass(Step::Endorsements, name);
    Ok(path)
}

fn check_signature(path: &Path, report: &Report, findings: &mut Findings) -> Result<(), Stop> {
    let verified = path.leaf().public_key().verify(
        SignatureScheme::EcdsaP384Sha384Fixed,
        report.signed(),
        report.signature(),
    );
    findings.demand(
        Step::Report,
        Name::Nvidia(CheckName::Signature),
        RefusalCode::NotAuthentic,
        verified.is_ok(),
        "signed by the key of the device's certificate",
        "another key or another report",
        "the report was altered, or it and the chain are of two devices: ask the device again",
    )
}

fn check_nonce(
    report: &Report,
    nonce: &[u8; NONCE_LENGTH],
    findings: &mut Findings,
) -> Result<(), Stop> {
    findings.demand(
        Step::Report,
        Name::Nvidia(CheckName::Nonce),
        RefusalCode::WrongBinding,
        report.nonce() == nonce,
        &hex::encode(nonce),
        &hex::encode(report.nonce()),
        "the report was made for another session, or replayed: ask the device again",
    )
}

/// The certificate of a key that firmware holds names that firmware; the report says which one is running.
fn check_firmware_id(path: &Path, report: &Report, findings: &mut Findings) -> Result<(), Stop> {
    let certified = findings.parse(
        Step::Report,
        Name::Nvidia(CheckName::CertifiedFirmware),
        report::certified_firmware(path.leaf()),
    )?;
    let running = report.opaque(OpaqueField::FIRMWARE_ID);
    findings.demand(
        Step::Report,
        Name::Nvidia(CheckName::FirmwareId),
        RefusalCode::NotAuthentic,
        running == Some(certified),
        &hex::encode(certified),
        &running.map_or_else(|| "not in the report".into(), hex::encode),
        "the report is of other firmware than the key was made for: reset the device and ask it again",
    )
}
