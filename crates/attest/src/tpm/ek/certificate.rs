//! Certificates that the makers of TPMs give to endorsement keys, and clouds to attestation keys.
//!
//! They are not those of the web: the subject is often empty, and the TPM is named in a critical alternative name; what
//! is read from an NV area is padded to the area's size; some say nothing about themselves but what the key is for.

use std::fmt;

use jiff::Timestamp;
use thiserror::Error;

use super::CheckName;
use crate::verdict::{
    Check, CheckName as Name, Findings, Outcome, RefusalCode, Step, Stop, with_sources,
};
use crate::x509::der::{DerError, Reader, tag};
use crate::x509::{
    Certificate, CrlScope, Name as Distinguished, Path, PathRules, Revocation, X509Error,
};

/// Larger than any NV area with a certificate in it.
pub const MAX_CERTIFICATE_AREA: usize = 8 * 1024;
const MAX_TEXT: usize = 256;

const ALTERNATIVE_NAME: &str = "2.5.29.17";
const DIRECTORY_ATTRIBUTES: &str = "2.5.29.9";
const EXTENDED_KEY_USAGE: &str = "2.5.29.37";
/// Critical in certificates of ST. Names how the maker works, and whoever accepts its root has accepted that.
const POLICIES: &str = "2.5.29.32";
/// `tcg-at-tpmManufacturer`, `-tpmModel`, `-tpmVersion`.
const MANUFACTURER: &str = "2.23.133.2.1";
const MODEL: &str = "2.23.133.2.2";
const VERSION: &str = "2.23.133.2.3";
/// `tcg-at-tpmSpecification`.
const SPECIFICATION: &str = "2.23.133.2.16";
/// `tcg-kp-EKCertificate`.
const EK_CERTIFICATE: &str = "2.23.133.8.1";
/// `tcg-kp-AIKCertificate`.
const AK_CERTIFICATE: &str = "2.23.133.8.3";
/// `anyExtendedKeyUsage`.
const ANY_USAGE: &str = "2.5.29.37.0";

/// Certificates of makers that are accepted. Never taken from the peer; none of them accepts nobody.
#[derive(Clone, Debug)]
pub struct Roots(Vec<Certificate>);

impl Roots {
    /// Those and no others.
    #[must_use]
    pub const fn new(certificates: Vec<Certificate>) -> Self {
        Self(certificates)
    }
}

/// What the key of a certificate does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Decrypts what is sent to its TPM.
    Endorsement,
    /// Signs what its TPM states.
    Attestation,
}

impl Purpose {
    /// What a certificate says its key does: nothing if it does not say, or says both. For whoever looks at a
    /// certificate that nobody told about; a check demands what it needs.
    #[must_use]
    pub fn claimed_by(certificate: &Certificate) -> Option<Self> {
        let usage = certificate.key_usage()?;
        let decrypts = usage.key_encipherment() || usage.key_agreement();
        match (decrypts, usage.digital_signature()) {
            (true, false) => Some(Self::Endorsement),
            (false, true) => Some(Self::Attestation),
            (true, true) | (false, false) => None,
        }
    }

    const fn usage(self) -> &'static str {
        match self {
            Self::Endorsement => "keyEncipherment or keyAgreement, without digitalSignature",
            Self::Attestation => "digitalSignature, without keyEncipherment and keyAgreement",
        }
    }

    const fn extended_usage(self) -> &'static str {
        match self {
            Self::Endorsement => EK_CERTIFICATE,
            Self::Attestation => AK_CERTIFICATE,
        }
    }
}

/// The TPM a certificate names, in the words of its maker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TpmIdentity {
    /// TCG's vendor identifier, as `id:` and eight hexadecimal digits.
    pub manufacturer: String,
    /// The part's name.
    pub model: String,
    /// The firmware's version, as `id:` and hexadecimal digits.
    pub version: String,
}

impl TpmIdentity {
    /// The vendor identifier as its four letters, if they are some: `STM`, `IFX`, `INTC`, ...
    #[must_use]
    pub fn vendor(&self) -> Option<String> {
        let mut bytes = [0; 4];
        hex::decode_to_slice(self.manufacturer.strip_prefix("id:")?, &mut bytes).ok()?;
        let text = str::from_utf8(&bytes).ok()?.trim_end_matches(['\0', ' ']);
        let is_text = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_text.then(|| text.to_owned())
    }
}

impl fmt::Display for TpmIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(vendor) = self.vendor() {
            write!(f, "{vendor} ")?;
        }
        write!(
            f,
            "({}) {} version {}",
            self.manufacturer.escape_debug(),
            self.model.escape_debug(),
            self.version.escape_debug()
        )
    }
}

/// Why bytes are not a TPM's certificate.
#[derive(Debug, Error)]
pub enum TpmCertificateError {
    /// More than an NV area holds.
    #[error("the certificate has {0} bytes, more than {MAX_CERTIFICATE_AREA}")]
    TooLong(usize),
    /// No certificate.
    #[error("the certificate cannot be read")]
    Certificate(#[from] X509Error),
    /// Something follows the certificate that is not an NV area's padding.
    #[error("{0} bytes follow the certificate that are not all 0x00 or all 0xff")]
    Padding(usize),
    /// An extension that is not what it should be.
    #[error("the extension {extension} cannot be read")]
    Extension {
        /// Its identifier.
        extension: &'static str,
        /// Why.
        #[source]
        source: DerError,
    },
    /// A TPM that is named by half.
    #[error("the certificate names no {0} of its TPM, or a longer one than is read")]
    Identity(&'static str),
}

/// A certificate of a TPM's key that leads to a maker's root. Only [`appraise_certificate`] makes one.
#[derive(Debug)]
pub struct TpmCertificate {
    path: Path,
    purpose: Purpose,
    identity: Option<TpmIdentity>,
}

impl TpmCertificate {
    /// The certificates up to the root.
    #[must_use]
    pub const fn path(&self) -> &Path {
        &self.path
    }

    /// What its key does.
    #[must_use]
    pub const fn purpose(&self) -> Purpose {
        self.purpose
    }

    /// The TPM it names, if it does.
    #[must_use]
    pub const fn identity(&self) -> Option<&TpmIdentity> {
        self.identity.as_ref()
    }
}

/// What the extensions say.
struct Parsed {
    certificate: Certificate,
    identity: Option<TpmIdentity>,
    /// Of the specification the TPM follows.
    family: Option<String>,
    usages: Option<Vec<String>>,
}

/// Checks a certificate as it was read from a TPM, padding and all, with the certificates between it and a maker's root.
///
/// `crls` is whether and how revocation is looked at. Lists that are demanded are those about the authorities: many makers
/// publish none about the TPMs. One that is given counts all the same. If nobody said that this certificate is not revoked,
/// the findings have a warning.
///
/// # Errors
/// When a check fails; what failed is in `findings`.
pub fn appraise_certificate(
    area: &[u8],
    intermediates: &[Certificate],
    roots: &Roots,
    crls: &Revocation<'_>,
    purpose: Purpose,
    now: Timestamp,
    findings: &mut Findings,
) -> Result<TpmCertificate, Stop> {
    let parsed = findings.parse(
        Step::Endorsements,
        Name::Ek(CheckName::Format),
        Parsed::parse(area),
    )?;
    let rules = PathRules::end_entity()
        .understanding(&[
            ALTERNATIVE_NAME,
            DIRECTORY_ATTRIBUTES,
            EXTENDED_KEY_USAGE,
            POLICIES,
        ])
        .crls_for(CrlScope::Authorities);
    let path = Path::build(
        &parsed.certificate,
        intermediates,
        &roots.0,
        crls,
        now,
        &rules,
    );
    let path = path.map_err(|error| {
        findings.fail(
            RefusalCode::NotAuthentic,
            Check {
                expected: Some("certificates that lead to a root of an accepted maker, all valid now".into()),
                actual: Some(with_sources(&error).into()),
                next_step: Some(
                    "if the maker is one to accept, add its root and the certificates below it; if not, refuse this machine".into(),
                ),
                ..Check::new(
                    Step::Endorsements,
                    Name::Ek(CheckName::Chain),
                    Outcome::Failed,
                )
            },
        )
    })?;
    findings.pass(Step::Endorsements, Name::Ek(CheckName::Chain));
    revocation(&path, crls, findings);
    let usage = usage(&parsed, purpose, findings);
    let specification = findings.demand(
        Step::Endorsements,
        Name::Ek(CheckName::Specification),
        RefusalCode::Platform,
        parsed
            .family
            .as_deref()
            .is_none_or(|family| family == "2.0"),
        "TPM 2.0, or not said",
        parsed.family.as_deref().unwrap_or("not said"),
        "a TPM of another specification has other keys: refuse this machine",
    );
    match &parsed.identity {
        Some(_) => findings.pass(Step::Endorsements, Name::Ek(CheckName::Identity)),
        None => findings.warn(
            Step::Endorsements,
            Name::Ek(CheckName::Identity),
            "manufacturer, model and version of the TPM",
            "not said",
            "which TPM it is shows by the issuer alone: accept only roots that issue nothing but such certificates",
        ),
    }
    usage.and(specification)?;
    Ok(TpmCertificate {
        path,
        purpose,
        identity: parsed.identity,
    })
}

/// A list that revokes a certificate of the path has refused it before.
fn revocation(path: &Path, crls: &Revocation<'_>, findings: &mut Findings) {
    const NAME: Name = Name::Ek(CheckName::Revocation);
    let issuer = path.issuer().subject();
    let missing = match crls {
        Revocation::DangerousNotLookedAt => "none was looked at".to_owned(),
        Revocation::Demand(crls) if crls.iter().any(|crl| crl.issuer() == issuer) => {
            findings.pass(Step::Endorsements, NAME);
            return;
        }
        Revocation::Demand(_) => format!("none of {issuer}"),
        Revocation::IfGiven(_) => {
            format!("one of {issuer} is used if there is one, and not demanded")
        }
    };
    findings.warn(
        Step::Endorsements,
        NAME,
        "a revocation list of the certificate's issuer",
        &missing,
        "a certificate that the maker revoked would pass: give the maker's lists, if it publishes any",
    );
}

fn usage(parsed: &Parsed, purpose: Purpose, findings: &mut Findings) -> Result<(), Stop> {
    const NEXT: &str = "this is the certificate of a key for something else: ask for the right one";
    let claimed = Purpose::claimed_by(&parsed.certificate);
    let usage = findings.demand(
        Step::Endorsements,
        Name::Ek(CheckName::KeyUsage),
        RefusalCode::NotAuthentic,
        claimed == Some(purpose)
            && parsed
                .certificate
                .key_usage()
                .is_some_and(|usage| !usage.key_cert_sign() && !usage.crl_sign()),
        purpose.usage(),
        match claimed {
            Some(purpose) => purpose.usage(),
            None => "not said, or for both",
        },
        NEXT,
    );
    let wanted = purpose.extended_usage();
    let holds = parsed.usages.as_ref().is_none_or(|usages| {
        usages
            .iter()
            .any(|usage| usage == wanted || usage == ANY_USAGE)
    });
    let extended = findings.demand(
        Step::Endorsements,
        Name::Ek(CheckName::ExtendedKeyUsage),
        RefusalCode::NotAuthentic,
        holds,
        &format!("{wanted}, or not said"),
        &parsed
            .usages
            .as_ref()
            .map_or_else(|| "not said".to_owned(), |usages| usages.join(", ")),
        NEXT,
    );
    usage.and(extended)
}

impl Parsed {
    fn parse(area: &[u8]) -> Result<Self, TpmCertificateError> {
        if area.len() > MAX_CERTIFICATE_AREA {
            return Err(TpmCertificateError::TooLong(area.len()));
        }
        let (certificate, padding) = Certificate::parse_prefix(area)?;
        // what an NV area holds before anything is written, or after it was cleared
        let is_padding =
            padding.iter().all(|byte| *byte == 0xff) || padding.iter().all(|byte| *byte == 0x00);
        if !is_padding {
            return Err(TpmCertificateError::Padding(padding.len()));
        }
        let identity = match certificate.extension(ALTERNATIVE_NAME) {
            None => None,
            Some(value) => identity(value)?,
        };
        let family = extension(&certificate, DIRECTORY_ATTRIBUTES, family)?.flatten();
        let usages = extension(&certificate, EXTENDED_KEY_USAGE, usages)?;
        Ok(Self {
            certificate,
            identity,
            family,
            usages,
        })
    }
}

fn extension<T>(
    certificate: &Certificate,
    oid: &'static str,
    read: impl Fn(&[u8]) -> Result<T, DerError>,
) -> Result<Option<T>, TpmCertificateError> {
    certificate
        .extension(oid)
        .map(read)
        .transpose()
        .map_err(|source| TpmCertificateError::Extension {
            extension: oid,
            source,
        })
}

/// The attributes of TCG in the directory names of the alternative name (EK Credential Profile, 3.2.9).
fn identity(value: &[u8]) -> Result<Option<TpmIdentity>, TpmCertificateError> {
    let names = directory_names(value).map_err(|source| TpmCertificateError::Extension {
        extension: ALTERNATIVE_NAME,
        source,
    })?;
    let attribute = |oid: &str| names.iter().find_map(|name| name.attribute(oid));
    // alternative names for something else say nothing about a TPM
    if [MANUFACTURER, MODEL, VERSION]
        .iter()
        .all(|oid| attribute(oid).is_none())
    {
        return Ok(None);
    }
    let needed = |oid: &str, what: &'static str| {
        attribute(oid)
            .filter(|text| !text.is_empty() && text.len() <= MAX_TEXT)
            .map(str::to_owned)
            .ok_or(TpmCertificateError::Identity(what))
    };
    Ok(Some(TpmIdentity {
        manufacturer: needed(MANUFACTURER, "manufacturer")?,
        model: needed(MODEL, "model")?,
        version: needed(VERSION, "version")?,
    }))
}

fn directory_names(value: &[u8]) -> Result<Vec<Distinguished>, DerError> {
    const FIELD: &str = "the alternative name";
    let directory = tag::context_constructed(4);
    let mut outer = Reader::new(value);
    let mut names = outer.sequence(FIELD)?;
    outer.finish(FIELD)?;
    let mut found = Vec::new();
    while !names.is_empty() {
        let name = names.any(FIELD)?;
        if name.tag == directory {
            let mut inner = Reader::new(name.contents);
            found.push(Distinguished::read(&mut inner, FIELD)?);
            inner.finish(FIELD)?;
        }
    }
    Ok(found)
}

/// `family` of `TPMSpecification` among the subject's directory attributes (EK Credential Profile, 3.2.10).
fn family(value: &[u8]) -> Result<Option<String>, DerError> {
    const FIELD: &str = "the directory attributes";
    let mut outer = Reader::new(value);
    let mut attributes = outer.sequence(FIELD)?;
    outer.finish(FIELD)?;
    let mut found = None;
    while !attributes.is_empty() {
        let mut attribute = attributes.sequence(FIELD)?;
        let is_specification = attribute.oid(FIELD)?.is(SPECIFICATION);
        let mut values = Reader::new(attribute.contents(FIELD, tag::SET)?);
        if !is_specification {
            continue;
        }
        let mut specification = values.sequence(FIELD)?;
        let family = specification.contents(FIELD, tag::UTF8_STRING)?;
        found = Some(String::from_utf8_lossy(family).into_owned());
    }
    Ok(found)
}

fn usages(value: &[u8]) -> Result<Vec<String>, DerError> {
    const FIELD: &str = "the extended key usage";
    let mut outer = Reader::new(value);
    let mut list = outer.sequence(FIELD)?;
    outer.finish(FIELD)?;
    let mut found = Vec::new();
    while !list.is_empty() {
        found.push(list.oid(FIELD)?.to_string());
    }
    Ok(found)
}
