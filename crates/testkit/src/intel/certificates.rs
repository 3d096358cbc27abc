//! Certificates and CRLs with the names and extensions of Intel's.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension,
    DistinguishedName, DnType, IsCa, Issuer, KeyIdMethod, KeyUsagePurpose, RevokedCertParams,
    SerialNumber, date_time_ymd,
};

use super::{Authority, Platform, SigningKey, Vendor};

const SGX_EXTENSIONS: [u64; 7] = [1, 2, 840, 113_741, 1, 13, 1];

/// What a PCK certificate says about its platform.
#[derive(Clone, Debug)]
pub struct PckParts {
    /// Subject.
    pub common_name: &'static str,
    /// Family, model, stepping, platform type, custom SKU.
    pub fmspc: [u8; 6],
    /// Provisioning certification enclave.
    pub pce_id: [u8; 2],
    /// Its SVN.
    pub pce_svn: u16,
    /// SVNs of the components.
    pub component_svns: [u8; 16],
    /// First year of validity.
    pub from_year: i32,
    /// The last year of validity ends with this one's first day.
    pub until_year: i32,
    /// Whether the certificate has the SGX extension.
    pub has_extension: bool,
}

impl Default for PckParts {
    fn default() -> Self {
        Self {
            common_name: "Intel SGX PCK Certificate",
            fmspc: [0x00, 0x80, 0x6f, 0x05, 0, 0],
            pce_id: [0, 0],
            pce_svn: 13,
            component_svns: [3; 16],
            from_year: 2025,
            until_year: 2032,
            has_extension: true,
        }
    }
}

fn params(common_name: &str, from_year: i32, until_year: i32) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name.push(DnType::OrganizationName, "Intel Corporation");
    params.distinguished_name = name;
    params.not_before = date_time_ymd(from_year, 1, 1);
    params.not_after = date_time_ymd(until_year, 1, 1);
    params
}

fn authority_params(common_name: &str, path_length: u8) -> CertificateParams {
    let mut params = params(common_name, 2018, 2049);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf_params(common_name: &str, from_year: i32, until_year: i32) -> CertificateParams {
    let mut params = params(common_name, from_year, until_year);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::ContentCommitment,
    ];
    params
}

impl Authority {
    fn root(common_name: &str) -> Self {
        let key = SigningKey::generate();
        let params = authority_params(common_name, 1);
        let certificate = params
            .self_signed(&key.certificates)
            .expect("a root certificate");
        Self {
            der: certificate.der().to_vec(),
            params,
            key,
        }
    }

    /// Signs a certificate for a key.
    fn certify(&self, params: &CertificateParams, key: &SigningKey) -> Vec<u8> {
        let issuer = Issuer::from_params(&self.params, &self.key.certificates);
        let certificate = params
            .signed_by(&key.certificates, &issuer)
            .expect("a certificate");
        certificate.der().to_vec()
    }

    fn issue(&self, params: CertificateParams) -> Self {
        let key = SigningKey::generate();
        Self {
            der: self.certify(&params, &key),
            params,
            key,
        }
    }

    /// Another signer of statements under this authority, with any name.
    #[must_use]
    pub fn signer(&self, common_name: &str) -> Self {
        self.issue(leaf_params(common_name, 2018, 2049))
    }

    /// Another authority under this one, with any name.
    #[must_use]
    pub fn intermediate(&self, common_name: &str) -> Self {
        self.issue(authority_params(common_name, 0))
    }

    /// The list of revoked certificates, valid in January 2026.
    ///
    /// # Panics
    /// When the list cannot be signed.
    #[must_use]
    pub fn crl(&self, revoked_serials: &[&[u8]]) -> Vec<u8> {
        self.crl_between((2026, 1, 1), (2026, 2, 1), revoked_serials)
    }

    /// The same with other times.
    ///
    /// # Panics
    /// When the list cannot be signed.
    #[must_use]
    pub fn crl_between(
        &self,
        this_update: (i32, u8, u8),
        next_update: (i32, u8, u8),
        revoked_serials: &[&[u8]],
    ) -> Vec<u8> {
        let date = |(year, month, day)| date_time_ymd(year, month, day);
        let list = CertificateRevocationListParams {
            this_update: date(this_update),
            next_update: date(next_update),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked_serials
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from_slice(serial),
                    revocation_time: date(this_update),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let issuer = Issuer::from_params(&self.params, &self.key.certificates);
        let list = list.signed_by(&issuer).expect("a CRL");
        list.der().to_vec()
    }
}

pub(super) fn vendor() -> Vendor {
    let root = Authority::root("Intel SGX Root CA");
    let platform_ca = root.intermediate("Intel SGX PCK Platform CA");
    let tcb_signing = root.signer("Intel SGX TCB Signing");
    Vendor {
        root,
        platform_ca,
        tcb_signing,
    }
}

pub(super) fn platform(ca: &Authority, root: &Authority, parts: &PckParts) -> Platform {
    let mut params = leaf_params(parts.common_name, parts.from_year, parts.until_year);
    if parts.has_extension {
        params
            .custom_extensions
            .push(CustomExtension::from_oid_content(
                &SGX_EXTENSIONS,
                pck_extension(parts),
            ));
    }
    let pck = SigningKey::generate();
    let leaf = ca.certify(&params, &pck);
    Platform {
        pck,
        chain: vec![leaf, ca.der.clone(), root.der.clone()],
        attestation_key: SigningKey::generate(),
    }
}

/// The value octets of the SGX extension.
#[must_use]
pub fn pck_extension(parts: &PckParts) -> Vec<u8> {
    let mut tcb = Vec::new();
    for (number, svn) in (1..).zip(parts.component_svns) {
        tcb.extend(field(&[2, number], &integer(svn.into())));
    }
    tcb.extend(field(&[2, 17], &integer(parts.pce_svn)));
    tcb.extend(field(&[2, 18], &der(0x04, &parts.component_svns)));
    let flags: Vec<u8> = (1..=3)
        .flat_map(|number| field(&[7, number], &der(0x01, &[0xff])))
        .collect();
    let fields = [
        field(&[1], &der(0x04, &[7; 16])),
        field(&[2], &der(0x30, &tcb)),
        field(&[3], &der(0x04, &parts.pce_id)),
        field(&[4], &der(0x04, &parts.fmspc)),
        field(&[5], &der(0x0a, &[1])),
        field(&[6], &der(0x04, &[9; 16])),
        field(&[7], &der(0x30, &flags)),
    ];
    der(0x30, &fields.concat())
}

fn field(arc: &[u8], value: &[u8]) -> Vec<u8> {
    let mut oid = vec![0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];
    oid.extend(arc);
    der(0x30, &[&der(0x06, &oid), value].concat())
}

fn integer(number: u16) -> Vec<u8> {
    let digits = number.to_be_bytes();
    let digits = match digits {
        [0, low @ 0..=0x7f] => vec![low],
        [0, low] => vec![0, low],
        [high @ 0x80..=0xff, low] => vec![0, high, low],
        both => both.to_vec(),
    };
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
