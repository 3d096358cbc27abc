//! A key that something outside the TPM vouches for: a certificate, or a report of the processor.

use jiff::Timestamp;

use super::{AkAuthorities, CheckName, ObjectAttributes, PublicArea, PublicKey, TrustedAk};
use crate::verdict::{self, Check, Findings, Outcome, RefusalCode, Step, Stop};
use crate::x509::der::Reader;
use crate::x509::{Certificate, Crl, DerError, Path, PathRules, Revocation};

/// Extended key usage (RFC 5280, 4.2.1.12).
const EXTENDED_KEY_USAGE: &str = "2.5.29.37";
/// Where the issuer's list of revoked certificates is (RFC 5280, 4.2.1.13).
const CRL_DISTRIBUTION_POINTS: &str = "2.5.29.31";

/// An attestation key that a variant's root vouches for by its numbers. Who vouches says that the TPM uses it for statements of its
/// own only; where the TPM's public area is at hand, [`EndorsedAk::with_public_area`] checks it.
#[derive(Clone, Debug)]
pub struct EndorsedAk {
    key: PublicKey,
    origin: &'static str,
}

impl EndorsedAk {
    pub(crate) const fn new(key: PublicKey, origin: &'static str) -> Self {
        Self { key, origin }
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Trusts it to sign quotes.
    #[must_use]
    pub fn trusted(self) -> TrustedAk {
        TrustedAk::of_key(self.key, self.origin)
    }

    /// Refuses if the peer says that it signs with another key.
    ///
    /// # Errors
    /// If the numbers differ.
    pub fn is(self, claimed: &PublicKey, findings: &mut Findings) -> Result<Self, Stop> {
        findings.demand(
            Step::Key,
            verdict::CheckName::Tpm(CheckName::EndorsedKey),
            RefusalCode::NotAuthentic,
            self.key == *claimed,
            &self.key.describe(),
            &claimed.describe(),
            "the key that signs is not the one that is vouched for: quote with that one",
        )?;
        Ok(self)
    }

    /// Trusts it to sign quotes in the scheme, and with the attributes, of its public area.
    ///
    /// # Errors
    /// If the area is of another key, or of one that is not for attestation only.
    pub fn with_public_area(
        self,
        area: &PublicArea,
        findings: &mut Findings,
    ) -> Result<TrustedAk, Stop> {
        let origin = self.origin;
        self.is(area.key(), findings)?;
        findings.demand(
            Step::Key,
            verdict::CheckName::KeyAttributes,
            RefusalCode::NotAuthentic,
            area.attributes().is_attestation_key(),
            ObjectAttributes::DEMAND,
            &area.attributes().describe(),
            "a key with other attributes can sign statements that were composed outside a TPM: refuse this machine",
        )?;
        Ok(TrustedAk::of_public_area(area, origin))
    }
}

/// What a certificate must say its key is for.
pub(crate) enum Purpose {
    /// Signatures, by key usage alone: the authority issues no other signing keys.
    Signing,
    /// Signatures, and this extended key usage.
    Extended(&'static str),
}

/// A certificate of an attestation key with all that is needed to believe it.
pub(crate) struct AkCertificate<'a> {
    pub(crate) certificate: &'a [u8],
    /// The peer's.
    pub(crate) intermediates: &'a [Certificate],
    pub(crate) authorities: &'a AkAuthorities,
    pub(crate) revocation: &'a Revocation<'a>,
    pub(crate) now: Timestamp,
    pub(crate) rules: PathRules,
    pub(crate) purpose: Purpose,
}

impl AkCertificate<'_> {
    pub(crate) fn verify(
        &self,
        origin: &'static str,
        findings: &mut Findings,
    ) -> Result<(EndorsedAk, Path), Stop> {
        const STEP: Step = Step::Endorsements;
        let name = verdict::CheckName::Tpm;
        let (certificate, padding) = findings.parse(
            STEP,
            name(CheckName::CertificateFormat),
            Certificate::parse_prefix(self.certificate),
        )?;
        findings.demand(
            STEP,
            name(CheckName::CertificatePadding),
            RefusalCode::Malformed,
            padding.iter().all(|byte| *byte == 0),
            "the certificate, and zeros at most",
            &format!("{} more bytes", padding.len()),
            "hand over the certificate of the attestation key, and its intermediates beside it",
        )?;
        let path = self.path(&certificate, findings)?;
        let names_a_list = certificate.extension(CRL_DISTRIBUTION_POINTS).is_some();
        let of_its_issuer =
            |crls: &[Crl]| crls.iter().any(|crl| crl.issuer() == certificate.issuer());
        let is_open = match self.revocation {
            // lists of the authorities are demanded, not that of the key's own certificate: nobody here knows whether all that are named are published
            Revocation::Demand(crls) if names_a_list && !of_its_issuer(crls) => {
                Some("the one that the key's own certificate names is not there")
            }
            Revocation::Demand(_) => None,
            Revocation::IfGiven(_) => Some("none was demanded"),
            Revocation::DangerousNotLookedAt => Some("none was looked at"),
        };
        if let Some(actual) = is_open {
            findings.warn(
                STEP,
                name(CheckName::CertificateRevocation),
                "a revocation list of each authority",
                actual,
                "a certificate that the vendor revoked would pass: give the vendor's lists",
            );
        }
        self.demand_purpose(&certificate, findings)?;
        let key = findings.parse(
            STEP,
            name(CheckName::CertifiedKey),
            PublicKey::try_from(certificate.public_key()),
        )?;
        Ok((EndorsedAk::new(key, origin), path))
    }

    fn path(&self, certificate: &Certificate, findings: &mut Findings) -> Result<Path, Stop> {
        const NAME: verdict::CheckName = verdict::CheckName::Tpm(CheckName::CertificatePath);
        let known = self.authorities.intermediates();
        let intermediates: Vec<Certificate> = self
            .intermediates
            .iter()
            // one that both have would be tried twice
            .filter(|it| !known.contains(it))
            .chain(known)
            .cloned()
            .collect();
        let path = Path::build(
            certificate,
            &intermediates,
            self.authorities.roots(),
            self.revocation,
            self.now,
            &self.rules,
        );
        match path {
            Ok(path) => {
                findings.pass(Step::Endorsements, NAME);
                Ok(path)
            }
            Err(error) => Err(findings.fail(
                RefusalCode::NotAuthentic,
                Check {
                    expected: Some(
                        "a chain to a root of the vendor that is built in, valid now".into(),
                    ),
                    actual: Some(error.to_string().into()),
                    next_step: Some(
                        "hand over the certificates between this one and the vendor's root".into(),
                    ),
                    ..Check::new(Step::Endorsements, NAME, Outcome::Failed)
                },
            )),
        }
    }

    /// An endorsement key's certificate is of the same authority, but its key never signs what the TPM states.
    fn demand_purpose(
        &self,
        certificate: &Certificate,
        findings: &mut Findings,
    ) -> Result<(), Stop> {
        let signs = certificate.key_usage().is_some_and(|usage| {
            usage.digital_signature() && !usage.key_encipherment() && !usage.key_agreement()
        });
        let purposes = certificate
            .extension(EXTENDED_KEY_USAGE)
            .map(|value| purposes(value).unwrap_or_default())
            .unwrap_or_default();
        let (is_meant, expected) = match self.purpose {
            Purpose::Signing => (true, "digital signatures".to_owned()),
            Purpose::Extended(oid) => (
                purposes.iter().any(|purpose| purpose == oid),
                format!("digital signatures, purpose {oid}"),
            ),
        };
        findings.demand(
            Step::Endorsements,
            verdict::CheckName::Tpm(CheckName::CertificatePurpose),
            RefusalCode::NotAuthentic,
            signs && is_meant,
            &expected,
            &format!(
                "{}, purposes {}",
                if signs {
                    "digital signatures"
                } else {
                    "no digital signatures"
                },
                purposes.join(", ")
            ),
            "hand over the certificate of the attestation key, not of another key of the TPM",
        )
    }
}

/// `ExtKeyUsageSyntax`, dotted.
fn purposes(value: &[u8]) -> Result<Vec<String>, DerError> {
    const FIELD: &str = "the extended key usage";
    let mut outer = Reader::new(value);
    let mut list = outer.sequence(FIELD)?;
    outer.finish(FIELD)?;
    let mut purposes = Vec::new();
    while !list.is_empty() {
        purposes.push(list.oid(FIELD)?.to_string());
    }
    Ok(purposes)
}
