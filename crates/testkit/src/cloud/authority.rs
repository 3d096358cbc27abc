//! Authorities that certify attestation keys.

use attest::x509::Certificate;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256,
    PublicKeyData, RevokedCertParams, SerialNumber, SignatureAlgorithm, date_time_ymd,
};

use super::CloudTpm;

const INSTANCE_INFO: [u64; 10] = [1, 3, 6, 1, 4, 1, 11129, 2, 1, 21];
const AIK_CERTIFICATE: [u64; 5] = [2, 23, 133, 8, 3];

/// A root, and an authority below it that certifies.
pub struct Authority {
    root: CertificateParams,
    root_key: KeyPair,
    root_der: Vec<u8>,
    issuer: CertificateParams,
    issuer_key: KeyPair,
    issuer_der: Vec<u8>,
}

/// What a certificate of an attestation key says. Change one and it is another kind of certificate.
#[derive(Clone, Debug)]
pub struct AkCertificate {
    /// For signatures; otherwise for encryption, as an endorsement key.
    pub is_signing: bool,
    /// With the purpose of attestation keys, as Azure's.
    pub has_purpose: bool,
    /// With the extension that names the instance, as Google's.
    pub instance: Option<Vec<u8>>,
    /// Valid from the first day of this year, for ten years.
    pub from_year: i32,
    /// Of the key, if not the truth.
    pub exponent: [u8; 3],
    /// Where it says that its issuer's list is.
    pub crl_url: Option<String>,
}

/// The fields of Google's instance information.
#[derive(Clone, Debug)]
pub struct InstanceParts {
    /// The zone.
    pub zone: String,
    /// Number of the project.
    pub project_number: u64,
    /// Id of the project.
    pub project_id: String,
    /// Id of the instance.
    pub instance_id: u64,
    /// Name of the instance.
    pub instance_name: String,
    /// The environment, if said.
    pub is_production: Option<bool>,
}

impl Default for InstanceParts {
    fn default() -> Self {
        Self {
            zone: "europe-west3-a".into(),
            project_number: 1_234_567_890_123,
            project_id: "constellation".into(),
            instance_id: 0xf123_4567_89ab_cdef,
            instance_name: "node-1".into(),
            is_production: Some(true),
        }
    }
}

impl InstanceParts {
    /// The value of the extension.
    #[must_use]
    pub fn to_der(&self) -> Vec<u8> {
        let mut fields = vec![
            der(0x0c, self.zone.as_bytes()),
            integer(self.project_number),
            der(0x0c, self.project_id.as_bytes()),
            integer(self.instance_id),
            der(0x0c, self.instance_name.as_bytes()),
        ];
        if let Some(is_production) = self.is_production {
            let properties = [
                der(0xa0, &der(0x02, &[0])),
                der(0xa1, &der(0x01, &[if is_production { 0xff } else { 0 }])),
                der(0xa2, &der(0x01, &[0xff])),
            ];
            fields.push(der(0xa0, &der(0x30, &properties.concat())));
        }
        der(0x30, &fields.concat())
    }
}

impl AkCertificate {
    /// As Azure makes them for Trusted Launch.
    #[must_use]
    pub const fn azure() -> Self {
        Self {
            is_signing: true,
            has_purpose: true,
            instance: None,
            from_year: 2026,
            exponent: [1, 0, 1],
            crl_url: None,
        }
    }

    /// As Google makes them for an instance.
    #[must_use]
    pub fn google(instance: &InstanceParts) -> Self {
        Self {
            has_purpose: false,
            instance: Some(instance.to_der()),
            ..Self::azure()
        }
    }
}

/// The key of a TPM, which signs nothing here.
enum TpmKey {
    /// `RSAPublicKey`, which ends with the exponent.
    Rsa(Vec<u8>),
    /// A point of P-256: 4, x, y.
    Ecc(Vec<u8>),
}

impl PublicKeyData for TpmKey {
    fn der_bytes(&self) -> &[u8] {
        match self {
            Self::Rsa(key) | Self::Ecc(key) => key,
        }
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self {
            Self::Rsa(_) => &PKCS_RSA_SHA256,
            Self::Ecc(_) => &PKCS_ECDSA_P256_SHA256,
        }
    }
}

fn authority_params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2050, 1, 1);
    params
}

impl Authority {
    /// A root of this name, and "`name` 1" below it.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let key = || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).expect("a new P-384 key");
        let (root_key, issuer_key) = (key(), key());
        let root = authority_params(name);
        let root_der = root.self_signed(&root_key).expect("a root certificate");
        let issuer = authority_params(&format!("{name} 1"));
        let issuer_der = issuer
            .signed_by(&issuer_key, &Issuer::from_params(&root, &root_key))
            .expect("an authority's certificate");
        Self {
            root_der: root_der.der().to_vec(),
            issuer_der: issuer_der.der().to_vec(),
            root,
            root_key,
            issuer,
            issuer_key,
        }
    }

    /// The root.
    ///
    /// # Panics
    /// Never: it was made here.
    #[must_use]
    pub fn root(&self) -> Certificate {
        Certificate::parse(&self.root_der).expect("a certificate")
    }

    /// The authority below it.
    ///
    /// # Panics
    /// Never: it was made here.
    #[must_use]
    pub fn intermediate(&self) -> Certificate {
        Certificate::parse(&self.issuer_der).expect("a certificate")
    }

    /// Certifies the attestation key of a TPM.
    ///
    /// # Panics
    /// When the certificate cannot be signed.
    #[must_use]
    pub fn certify(&self, tpm: &CloudTpm, parts: &AkCertificate) -> Vec<u8> {
        self.certify_modulus(&tpm.modulus(), parts)
    }

    /// Certifies the attestation key with this modulus of 2048 bits.
    ///
    /// # Panics
    /// When the certificate cannot be signed.
    #[must_use]
    pub fn certify_modulus(&self, modulus: &[u8], parts: &AkCertificate) -> Vec<u8> {
        let modulus = der(0x02, &[&[0], modulus].concat());
        let key = der(0x30, &[modulus, der(0x02, &parts.exponent)].concat());
        self.certify_key(&TpmKey::Rsa(key), parts)
    }

    /// Certifies the attestation key with these coordinates on P-256. The exponent in `parts` is of no use.
    ///
    /// # Panics
    /// When the certificate cannot be signed.
    #[must_use]
    pub fn certify_point(&self, [x, y]: [&[u8; 32]; 2], parts: &AkCertificate) -> Vec<u8> {
        let point = [&[4], x.as_slice(), y].concat();
        self.certify_key(&TpmKey::Ecc(point), parts)
    }

    fn certify_key(&self, key: &TpmKey, parts: &AkCertificate) -> Vec<u8> {
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, "machine");
        params.distinguished_name = name;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![if parts.is_signing {
            KeyUsagePurpose::DigitalSignature
        } else {
            KeyUsagePurpose::KeyEncipherment
        }];
        if parts.has_purpose {
            params.extended_key_usages =
                vec![ExtendedKeyUsagePurpose::Other(AIK_CERTIFICATE.to_vec())];
        }
        if let Some(instance) = &parts.instance {
            params
                .custom_extensions
                .push(CustomExtension::from_oid_content(
                    &INSTANCE_INFO,
                    instance.clone(),
                ));
        }
        params.crl_distribution_points = parts
            .crl_url
            .iter()
            .map(|url| CrlDistributionPoint {
                uris: vec![url.clone()],
            })
            .collect();
        params.not_before = date_time_ymd(parts.from_year, 1, 1);
        params.not_after = date_time_ymd(parts.from_year + 10, 1, 1);
        let issuer = Issuer::from_params(&self.issuer, &self.issuer_key);
        let certificate = params.signed_by(key, &issuer).expect("a certificate");
        certificate.der().to_vec()
    }

    /// The root's list of revoked authorities, valid in 2026.
    ///
    /// # Panics
    /// When the list cannot be signed.
    #[must_use]
    pub fn crl(&self, revoked: &[&[u8]]) -> Vec<u8> {
        crl(&Issuer::from_params(&self.root, &self.root_key), revoked)
    }

    /// The list, of the authority below the root, of revoked attestation keys, valid in 2026.
    ///
    /// # Panics
    /// When the list cannot be signed.
    #[must_use]
    pub fn crl_of_keys(&self, revoked: &[&[u8]]) -> Vec<u8> {
        let issuer = Issuer::from_params(&self.issuer, &self.issuer_key);
        crl(&issuer, revoked)
    }
}

fn crl(issuer: &Issuer<'_, &KeyPair>, revoked: &[&[u8]]) -> Vec<u8> {
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(2027, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked
            .iter()
            .map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from_slice(serial),
                revocation_time: date_time_ymd(2026, 1, 1),
                reason_code: None,
                invalidity_date: None,
            })
            .collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(issuer).expect("a CRL");
    list.der().to_vec()
}

fn integer(number: u64) -> Vec<u8> {
    let bytes = number.to_be_bytes();
    let leading = bytes.iter().take_while(|byte| **byte == 0).count().min(7);
    let mut digits = bytes[leading..].to_vec();
    if digits[0] & 0x80 != 0 {
        digits.insert(0, 0);
    }
    der(0x02, &digits)
}

fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = u16::try_from(contents.len()).expect("a short element");
    let [high, low] = length.to_be_bytes();
    let mut bytes = vec![tag];
    match length {
        0..0x80 => bytes.push(low),
        0x80..0x100 => bytes.extend([0x81, low]),
        _ => bytes.extend([0x82, high, low]),
    }
    bytes.extend(contents);
    bytes
}
