//! Attestation documents of AWS: NitroTPM of an EC2 instance, and Nitro Enclaves.
//!
//! What a document shows: the Nitro hypervisor of AWS holds these registers for this instance or enclave, and was asked
//! for a document with this nonce, user data and public key. What it does not show: that the public key lies in the
//! TPM, or in the enclave. Whoever runs there puts it in, so it is worth as much as the software in the registers. An
//! instance's NitroTPM is in the hypervisor, so AWS is trusted with everything; only an enclave is kept apart from the
//! instance around it, and neither from AWS.
//!
//! Steps, in this order, each believed only if the ones before it hold:
//! 1. the document is a COSE_Sign1 with ES384 and of the demanded kind,
//! 2. its certificate leads to the root of AWS, now,
//! 3. the certificate's key signed it, while the certificate was valid and not in the future, over the demanded nonce,
//!    user data and public key,
//! 4. its registers are all there, it is not too old, and an enclave is not in debug mode,
//! 5. the registers hold the demanded values ([`Appraised::demand_pcrs`]).
//!
//! AWS publishes no usable revocation list for these certificates and says to validate without one: they live for three
//! hours.
//!
//! Specification: AWS, "Nitro Enclaves NSM API: attestation process", and "NitroTPM: attestation document contents".

mod check_name;
mod document;
mod measured;
pub mod nsm;
mod quote;

use jiff::{SignedDuration, Timestamp};
use subtle::ConstantTimeEq as _;

pub use check_name::CheckName;
pub use document::{Document, DocumentError, Kind, MAX_DOCUMENT};
pub use measured::{ExpectedPcrs, ExpectedPcrsError, Measured};
pub use quote::appraise_quote;

use crate::Digest384;
use crate::verdict::{CheckName as Name, Findings, RefusalCode, Step, Stop};
use crate::x509::{Certificate, Path, PathRules, Revocation, SignatureScheme, X509Error};

/// AWS Nitro Enclaves Root G1; signs for NitroTPM too.
const ROOT_G1: &[u8] = include_bytes!("roots/aws-nitro-root-g1.der");
/// How far the clock of AWS may run ahead of ours.
const MAX_CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);
/// As long as a document's certificate lives, so that the certificate alone decides.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(3);
/// Of an enclave: its image, kernel and boot RAM disk, application.
const ENCLAVE_IMAGE: std::ops::RangeInclusive<u8> = 0..=2;
/// A TPM's.
const ALL_PCRS: std::ops::RangeInclusive<u8> = 0..=23;
const FORGED: &str = "the document was altered or does not come from AWS: refuse this machine";

/// Certificates a document may lead to. Never taken from the peer.
#[derive(Clone, Debug)]
pub struct Roots(Vec<Certificate>);

impl Roots {
    /// The root of AWS, built in.
    #[must_use]
    pub fn built_in() -> Self {
        // without its root, which a test reads, this would refuse everything
        Self(Certificate::parse(ROOT_G1).into_iter().collect())
    }

    /// Other roots: of another partition of AWS, or of a test.
    #[must_use]
    pub const fn new(certificates: Vec<Certificate>) -> Self {
        Self(certificates)
    }
}

/// What a field that the caller of the module filled must hold. There is no value for "whatever": who wants that reads
/// the field ([`Document`]) and demands what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: null, or no such field. An empty byte string is something.
    Absent,
    /// These bytes and no others.
    Exactly(Vec<u8>),
}

impl Claim {
    fn holds(&self, actual: Option<&[u8]>) -> bool {
        match (self, actual) {
            (Self::Absent, None) => true,
            (Self::Exactly(expected), Some(actual)) => actual.ct_eq(expected).into(),
            (Self::Absent, Some(_)) | (Self::Exactly(_), None) => false,
        }
    }

    fn describe(&self) -> String {
        match self {
            Self::Absent => described(None),
            Self::Exactly(bytes) => described(Some(bytes)),
        }
    }
}

/// What a document must be.
#[derive(Clone, Debug)]
pub struct Requirements {
    kind: Kind,
    nonce: Claim,
    user_data: Claim,
    public_key: Claim,
    max_age: SignedDuration,
}

impl Requirements {
    /// A document of this kind with this nonce, without user data and public key, at most three hours old.
    #[must_use]
    pub const fn new(kind: Kind, nonce: Claim) -> Self {
        Self {
            kind,
            nonce,
            user_data: Claim::Absent,
            public_key: Claim::Absent,
            max_age: MAX_AGE,
        }
    }

    /// The same, with user data.
    #[must_use]
    pub fn with_user_data(self, user_data: Claim) -> Self {
        Self { user_data, ..self }
    }

    /// The same, with a public key.
    #[must_use]
    pub fn with_public_key(self, public_key: Claim) -> Self {
        Self { public_key, ..self }
    }

    /// The same, with another bound on the age. Three hours at most, whatever is asked for.
    #[must_use]
    pub fn with_max_age(self, max_age: SignedDuration) -> Self {
        Self {
            max_age: max_age.min(MAX_AGE),
            ..self
        }
    }
}

/// A document of AWS that passed every check of [`appraise`]. Its registers are what AWS holds; nothing says yet that
/// they are good.
#[derive(Debug)]
pub struct Appraised {
    kind: Kind,
    module_id: String,
    timestamp: Timestamp,
    pcrs: Vec<(u8, Digest384)>,
    public_key: Option<Vec<u8>>,
    user_data: Option<Vec<u8>>,
    nonce: Option<Vec<u8>>,
}

impl Appraised {
    /// NitroTPM or enclave.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The instance, and the enclave in it.
    #[must_use]
    pub fn module_id(&self) -> &str {
        &self.module_id
    }

    /// When the document was made.
    #[must_use]
    pub const fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// The registers in the order of their numbers.
    #[must_use]
    pub fn pcrs(&self) -> &[(u8, Digest384)] {
        &self.pcrs
    }

    /// The key that the measured software put in.
    #[must_use]
    pub fn public_key(&self) -> Option<&[u8]> {
        self.public_key.as_deref()
    }

    /// The data that the measured software put in.
    #[must_use]
    pub fn user_data(&self) -> Option<&[u8]> {
        self.user_data.as_deref()
    }

    /// The nonce.
    #[must_use]
    pub fn nonce(&self) -> Option<&[u8]> {
        self.nonce.as_deref()
    }
}

/// Follows steps 1 to 4 of the module's head.
///
/// # Errors
/// When a check fails; what failed is in `findings`.
pub fn appraise(
    bytes: &[u8],
    roots: &Roots,
    requirements: &Requirements,
    now: Timestamp,
    findings: &mut Findings,
) -> Result<Appraised, Stop> {
    let document = findings.parse(
        Step::Document,
        Name::Aws(CheckName::DocumentFormat),
        Document::parse(bytes),
    )?;
    findings.demand(
        Step::Document,
        Name::Aws(CheckName::Kind),
        RefusalCode::UnsupportedVariant,
        document.kind() == requirements.kind,
        &requirements.kind.to_string(),
        &document.kind().to_string(),
        "the other kind of document has another meaning: choose the variant that the machine is",
    )?;
    let path = endorsed(&document, roots, now, findings)?;
    signed(&document, &path, now, findings)?;
    claims(&document, requirements, findings)?;
    platform(&document, requirements, now, findings)?;
    Ok(Appraised {
        kind: document.kind(),
        module_id: document.module_id().to_owned(),
        timestamp: document.timestamp(),
        pcrs: document.pcrs().to_vec(),
        public_key: document.public_key().map(<[u8]>::to_vec),
        user_data: document.user_data().map(<[u8]>::to_vec),
        nonce: document.nonce().map(<[u8]>::to_vec),
    })
}

/// Step 2.
fn endorsed(
    document: &Document<'_>,
    roots: &Roots,
    now: Timestamp,
    findings: &mut Findings,
) -> Result<Path, Stop> {
    let parsed = || -> Result<(Certificate, Vec<Certificate>), X509Error> {
        let leaf = Certificate::parse(document.certificate())?;
        let bundle: Result<Vec<Certificate>, X509Error> = document
            .cabundle()
            .iter()
            .map(|der| Certificate::parse(der))
            .collect();
        Ok((leaf, bundle?))
    };
    let (leaf, bundle) = findings.parse(
        Step::Endorsements,
        Name::Aws(CheckName::Certificates),
        parsed(),
    )?;
    // the document brings the root along, which counts for nothing: ours does
    let path = Path::build(
        &leaf,
        &bundle,
        &roots.0,
        &Revocation::DangerousNotLookedAt,
        now,
        &PathRules::end_entity(),
    );
    chain(
        path,
        Step::Endorsements,
        Name::Aws(CheckName::Chain),
        findings,
    )
}

/// Step 3, first half.
fn signed(
    document: &Document<'_>,
    path: &Path,
    now: Timestamp,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let verified = path.leaf().public_key().verify(
        SignatureScheme::EcdsaP384Sha384Fixed,
        &document.signed(),
        document.signature(),
    );
    findings.demand(
        Step::Report,
        Name::Aws(CheckName::Signature),
        RefusalCode::NotAuthentic,
        verified.is_ok(),
        "a signature of the certificate's key",
        "a signature that does not verify",
        FORGED,
    )?;
    findings.demand(
        Step::Report,
        Name::Aws(CheckName::Digest),
        RefusalCode::NotAuthentic,
        document.digest() == "SHA384",
        "SHA384",
        document.digest(),
        "the registers are of a kind this release does not know: update it",
    )?;
    let made = document.timestamp();
    let (from, until) = (path.leaf().not_before(), path.leaf().not_after());
    // a sum beyond the calendar is later than anything
    let latest = now.checked_add(MAX_CLOCK_SKEW).unwrap_or(Timestamp::MAX);
    findings.demand(
        Step::Report,
        Name::Aws(CheckName::Timestamp),
        RefusalCode::NotAuthentic,
        (from..=until).contains(&made) && made <= latest,
        &format!("{from} to {}", until.min(latest)),
        &made.to_string(),
        "check this machine's clock; if it is right, refuse the other",
    )
}

/// Step 3, second half: all that differ are told.
fn claims(
    document: &Document<'_>,
    requirements: &Requirements,
    findings: &mut Findings,
) -> Result<(), Stop> {
    const NEXT: &str = "the document was made for somebody else's question: a replay or a relay, unless the peer's software differs";
    let mut outcome = Ok(());
    for (name, expected, actual) in [
        (CheckName::Nonce, &requirements.nonce, document.nonce()),
        (
            CheckName::UserData,
            &requirements.user_data,
            document.user_data(),
        ),
        (
            CheckName::PublicKey,
            &requirements.public_key,
            document.public_key(),
        ),
    ] {
        let check = findings.demand(
            Step::Report,
            Name::Aws(name),
            RefusalCode::WrongBinding,
            expected.holds(actual),
            &expected.describe(),
            &described(actual),
            NEXT,
        );
        outcome = outcome.and(check);
    }
    outcome
}

/// Step 4: all that is wrong is told.
fn platform(
    document: &Document<'_>,
    requirements: &Requirements,
    now: Timestamp,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let age = now.duration_since(document.timestamp());
    let mut outcome = findings.demand(
        Step::Platform,
        Name::Aws(CheckName::Age),
        RefusalCode::WrongBinding,
        age <= requirements.max_age,
        &format!("at most {} seconds", requirements.max_age.as_secs()),
        &format!("{} seconds", age.as_secs()),
        "ask the machine for a new document",
    );
    let wanted = match document.kind() {
        Kind::Enclave => ENCLAVE_IMAGE,
        Kind::NitroTpm => ALL_PCRS,
    };
    let missing: Vec<String> = wanted
        .clone()
        .filter(|index| pcr(document.pcrs(), *index).is_none())
        .map(|index| index.to_string())
        .collect();
    outcome = outcome.and(findings.demand(
        Step::Platform,
        Name::Aws(CheckName::PcrSet),
        RefusalCode::Platform,
        missing.is_empty(),
        &format!("PCR {} to {}", wanted.start(), wanted.end()),
        &format!("without PCR {}", missing.join(", ")),
        "a register that is not stated cannot be compared: refuse this machine",
    ));
    match document.kind() {
        // the hypervisor measures an instance's firmware always
        Kind::NitroTpm => outcome,
        Kind::Enclave => {
            let unmeasured: Vec<String> = wanted
                .filter(|index| pcr(document.pcrs(), *index) == Some(Digest384::ZERO))
                .map(|index| index.to_string())
                .collect();
            outcome.and(findings.demand(
                Step::Platform,
                Name::Aws(CheckName::Debug),
                RefusalCode::Platform,
                unmeasured.is_empty(),
                "an enclave's image measured into PCR 0 to 2",
                &format!("nothing in PCR {}: debug mode", unmeasured.join(", ")),
                "the instance can read an enclave in debug mode: start it without --debug-mode",
            ))
        }
    }
}

fn pcr(pcrs: &[(u8, Digest384)], index: u8) -> Option<Digest384> {
    pcrs.iter()
        .find(|(known, _)| *known == index)
        .map(|(_, value)| *value)
}

fn described(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "nothing".into(),
        Some([]) => "an empty byte string".into(),
        Some(bytes) => hex::encode(bytes),
    }
}

/// A path, or the reason why there is none, as a check.
fn chain(
    path: Result<Path, crate::x509::PathError>,
    step: Step,
    name: Name,
    findings: &mut Findings,
) -> Result<Path, Stop> {
    match path {
        Ok(path) => {
            findings.pass(step, name);
            Ok(path)
        }
        Err(error) => Err(findings.fail(
            RefusalCode::NotAuthentic,
            crate::verdict::Check {
                expected: Some("certificates that lead to a root of ours, all valid now".into()),
                actual: Some(crate::verdict::with_sources(&error).into()),
                next_step: Some(FORGED.into()),
                ..crate::verdict::Check::new(step, name, crate::verdict::Outcome::Failed)
            },
        )),
    }
}
