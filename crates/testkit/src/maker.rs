//! A maker of TPMs with a root of a test's own: certificates of endorsement keys of every shape.

use std::time::Duration;

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, PKCS_ECDSA_P384_SHA384,
    RevokedCertParams, SerialNumber,
};

pub use rcgen::KeyUsagePurpose;

/// The content of an object identifier of TCG: 2.23.133 and what follows, each below 128.
fn tcg(rest: &[u8]) -> Vec<u8> {
    der(0x06, &[&[0x67, 0x81, 0x05], rest].concat())
}

/// One DER element of at most 64 KiB.
#[must_use]
pub fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("a test's element is short");
    let [high, low] = length.to_be_bytes();
    let head = match length {
        0..=0x7f => vec![tag, low],
        0x80..=0xff => vec![tag, 0x81, low],
        0x100.. => vec![tag, 0x82, high, low],
    };
    [head, content.to_vec()].concat()
}

/// A maker: its root, the authority below it, and what that one signs.
#[derive(Debug)]
pub struct Maker {
    /// DER of the root.
    pub root: Vec<u8>,
    /// DER of the authority below it.
    pub authority: Vec<u8>,
    root_issuer: Issuer<'static, KeyPair>,
    issuer: Issuer<'static, KeyPair>,
}

/// What a certificate says. [`EkParts::default`] fills in the truth; a test changes one.
#[derive(Clone, Debug)]
pub struct EkParts {
    /// `keyUsage`.
    pub key_usages: Vec<KeyUsagePurpose>,
    /// `extKeyUsage`; none: no such extension.
    pub extended: Vec<Vec<u64>>,
    /// Manufacturer, model and version; nothing: no such attribute.
    pub identity: [Option<&'static str>; 3],
    /// `family` of the specification; nothing: no directory attributes.
    pub family: Option<&'static str>,
    /// An authority's.
    pub is_ca: bool,
    /// A critical extension that nobody knows.
    pub unknown_critical: bool,
}

impl Default for EkParts {
    fn default() -> Self {
        Self {
            key_usages: vec![KeyUsagePurpose::KeyAgreement],
            extended: vec![vec![2, 23, 133, 8, 1]],
            identity: [Some("id:54455354"), Some("test TPM"), Some("id:00010002")],
            family: Some("2.0"),
            is_ca: false,
            unknown_critical: false,
        }
    }
}

impl Maker {
    /// New keys. Certificates are valid from 2025 to 2035.
    ///
    /// # Errors
    /// When a key or a certificate cannot be made.
    pub fn new() -> Result<Self> {
        let root_key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
        let root_params = authority("test TPM root");
        let root = root_params.self_signed(&root_key)?.der().to_vec();
        let root_issuer = Issuer::new(root_params, root_key);
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?;
        let params = authority("test TPM authority");
        let certificate = params.signed_by(&key, &root_issuer)?;
        Ok(Self {
            root,
            authority: certificate.der().to_vec(),
            root_issuer,
            issuer: Issuer::new(params, key),
        })
    }

    /// The root's list of these serial numbers, good in 2026.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn root_crl(&self, serials: &[&[u8]]) -> Result<Vec<u8>> {
        crl(&self.root_issuer, serials)
    }

    /// The list of the authority below it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn authority_crl(&self, serials: &[&[u8]]) -> Result<Vec<u8>> {
        crl(&self.issuer, serials)
    }

    /// A certificate about a new key on P-256.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn issue(&self, parts: &EkParts) -> Result<Vec<u8>> {
        let mut params = valid(CertificateParams::default());
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.is_ca = if parts.is_ca {
            IsCa::Ca(BasicConstraints::Unconstrained)
        } else {
            IsCa::ExplicitNoCa
        };
        params.key_usages.clone_from(&parts.key_usages);
        params.extended_key_usages = parts
            .extended
            .iter()
            .cloned()
            .map(ExtendedKeyUsagePurpose::Other)
            .collect();
        if parts.identity.iter().any(Option::is_some) {
            params
                .custom_extensions
                .push(alternative_name(&parts.identity));
        }
        if let Some(family) = parts.family {
            params.custom_extensions.push(specification(family));
        }
        if parts.unknown_critical {
            let mut extension =
                CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 1, 1], der(0x05, &[]));
            extension.set_criticality(true);
            params.custom_extensions.push(extension);
        }
        let key = KeyPair::generate()?;
        Ok(params.signed_by(&key, &self.issuer)?.der().to_vec())
    }
}

fn crl(issuer: &Issuer<'_, KeyPair>, serials: &[&[u8]]) -> Result<Vec<u8>> {
    let revoked = serials.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from_slice(serial),
        revocation_time: rcgen::date_time_ymd(2025, 6, 1),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2026, 1, 1),
        next_update: rcgen::date_time_ymd(2027, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    Ok(params.signed_by(issuer)?.der().to_vec())
}

fn alternative_name(identity: &[Option<&'static str>; 3]) -> CustomExtension {
    let mut sets = Vec::new();
    for (number, value) in (1_u8..).zip(identity) {
        if let Some(value) = value {
            let pair = [tcg(&[2, number]), der(0x0c, value.as_bytes())].concat();
            sets.extend(der(0x31, &der(0x30, &pair)));
        }
    }
    let names = der(0x30, &der(0xa4, &der(0x30, &sets)));
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 17], names);
    extension.set_criticality(true);
    extension
}

fn specification(family: &str) -> CustomExtension {
    let fields = [
        der(0x0c, family.as_bytes()),
        der(0x02, &[0]),
        der(0x02, &[116]),
    ];
    let attribute = [tcg(&[2, 16]), der(0x31, &der(0x30, &fields.concat()))].concat();
    CustomExtension::from_oid_content(&[2, 5, 29, 9], der(0x30, &der(0x30, &attribute)))
}

fn authority(name: &str) -> CertificateParams {
    let mut params = valid(CertificateParams::default());
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn valid(mut params: CertificateParams) -> CertificateParams {
    params.not_before = rcgen::date_time_ymd(2025, 1, 1);
    params.not_after = params.not_before + Duration::from_secs(10 * 365 * 86_400);
    params
}
