//! A test authority: writes certificates and CRLs in which every field can lie, and signs them with keys made for the test.

use attest::x509::{Certificate, Crl};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384,
    RsaKeyPair, RsaSignatureEncoding,
};
use jiff::Timestamp;

/// When the tests look at certificates whose template says nothing else.
pub(crate) const NOW: &str = "2026-06-01T00:00:00Z";

pub(crate) fn now() -> Timestamp {
    NOW.parse().unwrap()
}

pub(crate) fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let length = contents.len();
    let mut der = vec![tag];
    match length {
        0..0x80 => der.push(length as u8),
        0x80..0x100 => der.extend([0x81, length as u8]),
        0x100..0x1_0000 => der.extend([0x82, (length >> 8) as u8, length as u8]),
        _ => der.extend([
            0x83,
            (length >> 16) as u8,
            (length >> 8) as u8,
            length as u8,
        ]),
    }
    der.extend(contents);
    der
}

pub(crate) fn seq(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

pub(crate) fn oid(dotted: &str) -> Vec<u8> {
    let arcs: Vec<u64> = dotted.split('.').map(|arc| arc.parse().unwrap()).collect();
    let mut contents = Vec::new();
    let joined = [arcs[0] * 40 + arcs[1]];
    for arc in joined.iter().chain(&arcs[2..]) {
        let mut digits = vec![(arc & 0x7f) as u8];
        let mut left = arc >> 7;
        while left > 0 {
            digits.push((left & 0x7f) as u8 | 0x80);
            left >>= 7;
        }
        contents.extend(digits.iter().rev());
    }
    tlv(0x06, &contents)
}

pub(crate) fn name(common_name: &str) -> Vec<u8> {
    if common_name.is_empty() {
        return seq(&[]);
    }
    let pair = seq(&[&oid("2.5.4.3"), &tlv(0x0c, common_name.as_bytes())]);
    seq(&[&tlv(0x31, &pair)])
}

/// `2026-06-01T00:00:00Z` as a `GeneralizedTime`, or any text after `utc:` as a `UTCTime`.
pub(crate) fn time(text: &str) -> Vec<u8> {
    if let Some(text) = text.strip_prefix("utc:") {
        return tlv(0x17, text.as_bytes());
    }
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    tlv(0x18, format!("{digits}Z").as_bytes())
}

pub(crate) enum Key {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl Key {
    pub(crate) fn p256() -> Self {
        Self::P256(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap())
    }

    pub(crate) fn p384() -> Self {
        Self::P384(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).unwrap())
    }

    pub(crate) fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    pub(crate) fn spki(&self) -> Vec<u8> {
        match self {
            Self::P256(pair) | Self::P384(pair) => {
                pair.public_key().as_der().unwrap().as_ref().to_vec()
            }
            Self::Rsa(pair) => pair.public_key().as_der().unwrap().as_ref().to_vec(),
        }
    }

    /// The algorithm this key signs with if nothing else is asked for.
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::P256(_) => Algorithm::EcdsaSha256,
            Self::P384(_) => Algorithm::EcdsaSha384,
            Self::Rsa(_) => Algorithm::RsaPkcs1Sha256,
        }
    }

    pub(crate) fn sign(&self, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::P256(pair) | Self::P384(pair) => {
                pair.sign(&random, message).unwrap().as_ref().to_vec()
            }
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(algorithm.rsa(), &random, message, &mut signature)
                    .unwrap();
                signature
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Algorithm {
    EcdsaSha256,
    EcdsaSha384,
    RsaPkcs1Sha256,
    RsaPkcs1Sha384,
    RsaPkcs1Sha512,
    RsaPssSha256,
    RsaPssSha384,
}

pub(crate) const SHA256: &str = "2.16.840.1.101.3.4.2.1";
pub(crate) const SHA384: &str = "2.16.840.1.101.3.4.2.2";
pub(crate) const SHA512: &str = "2.16.840.1.101.3.4.2.3";

impl Algorithm {
    fn rsa(self) -> &'static RsaSignatureEncoding {
        match self {
            Self::RsaPkcs1Sha384 => &RSA_PKCS1_SHA384,
            Self::RsaPkcs1Sha512 => &RSA_PKCS1_SHA512,
            Self::RsaPssSha256 => &RSA_PSS_SHA256,
            Self::RsaPssSha384 => &RSA_PSS_SHA384,
            _ => &RSA_PKCS1_SHA256,
        }
    }

    /// The `AlgorithmIdentifier`.
    pub(crate) fn der(self) -> Vec<u8> {
        let null = tlv(5, &[]);
        match self {
            Self::EcdsaSha256 => seq(&[&oid("1.2.840.10045.4.3.2")]),
            Self::EcdsaSha384 => seq(&[&oid("1.2.840.10045.4.3.3")]),
            Self::RsaPkcs1Sha256 => seq(&[&oid("1.2.840.113549.1.1.11"), &null]),
            Self::RsaPkcs1Sha384 => seq(&[&oid("1.2.840.113549.1.1.12"), &null]),
            Self::RsaPkcs1Sha512 => seq(&[&oid("1.2.840.113549.1.1.13"), &null]),
            Self::RsaPssSha256 => pss(SHA256, SHA256, 32, None),
            Self::RsaPssSha384 => pss(SHA384, SHA384, 48, None),
        }
    }
}

/// An `AlgorithmIdentifier` of RSA-PSS.
pub(crate) fn pss(hash: &str, mask_hash: &str, salt: u8, trailer: Option<u8>) -> Vec<u8> {
    let hash = seq(&[&oid(hash), &tlv(5, &[])]);
    let mask_hash = seq(&[&oid(mask_hash), &tlv(5, &[])]);
    let mask = seq(&[&oid("1.2.840.113549.1.1.8"), &mask_hash]);
    let trailer = trailer.map_or_else(Vec::new, |trailer| tlv(0xa3, &tlv(2, &[trailer])));
    let parameters = seq(&[
        &tlv(0xa0, &hash),
        &tlv(0xa1, &mask),
        &tlv(0xa2, &tlv(2, &[salt])),
        &trailer,
    ]);
    seq(&[&oid("1.2.840.113549.1.1.10"), &parameters])
}

#[derive(Clone)]
pub(crate) struct Extension {
    pub(crate) oid: &'static str,
    pub(crate) critical: bool,
    pub(crate) value: Vec<u8>,
}

impl Extension {
    pub(crate) fn der(&self) -> Vec<u8> {
        let critical = if self.critical {
            tlv(1, &[0xff])
        } else {
            Vec::new()
        };
        seq(&[&oid(self.oid), &critical, &tlv(4, &self.value)])
    }
}

pub(crate) fn basic_constraints(is_ca: bool, path_length: Option<u8>) -> Extension {
    let is_ca = if is_ca { tlv(1, &[0xff]) } else { Vec::new() };
    let path_length = path_length.map_or_else(Vec::new, |length| tlv(2, &[length]));
    Extension {
        oid: "2.5.29.19",
        critical: true,
        value: seq(&[&is_ca, &path_length]),
    }
}

/// `keyCertSign` is 0x04 and `cRLSign` is 0x02 of the first octet.
pub(crate) fn key_usage(octet: u8) -> Extension {
    Extension {
        oid: "2.5.29.15",
        critical: true,
        value: tlv(3, &[1, octet]),
    }
}

/// A certificate before it is signed.
#[derive(Clone)]
pub(crate) struct Template {
    pub(crate) version: u8,
    pub(crate) serial: Vec<u8>,
    pub(crate) subject: String,
    pub(crate) not_before: &'static str,
    pub(crate) not_after: &'static str,
    pub(crate) extensions: Vec<Extension>,
    /// Of the signed part; the one outside follows it if it is not given.
    pub(crate) algorithm: Option<Algorithm>,
    pub(crate) inner_algorithm_der: Option<Vec<u8>>,
    pub(crate) outer_algorithm_der: Option<Vec<u8>>,
}

impl Template {
    pub(crate) fn leaf(subject: &str) -> Self {
        Self {
            version: 3,
            serial: vec![0x11],
            subject: subject.into(),
            not_before: "2026-01-01T00:00:00Z",
            not_after: "2026-12-31T23:59:59Z",
            extensions: vec![basic_constraints(false, None)],
            algorithm: None,
            inner_algorithm_der: None,
            outer_algorithm_der: None,
        }
    }

    pub(crate) fn authority(subject: &str) -> Self {
        Self {
            serial: vec![0x22],
            extensions: vec![basic_constraints(true, None), key_usage(0x06)],
            ..Self::leaf(subject)
        }
    }

    pub(crate) fn signed(&self, issuer: &str, issuer_key: &Key, spki: &[u8]) -> Vec<u8> {
        let algorithm = self.algorithm.unwrap_or_else(|| issuer_key.algorithm());
        let inner = self
            .inner_algorithm_der
            .clone()
            .unwrap_or_else(|| algorithm.der());
        let outer = self
            .outer_algorithm_der
            .clone()
            .unwrap_or_else(|| inner.clone());
        let version = match self.version {
            1 => Vec::new(),
            version => tlv(0xa0, &tlv(2, &[version - 1])),
        };
        let extensions = if self.extensions.is_empty() {
            Vec::new()
        } else {
            let list: Vec<u8> = self.extensions.iter().flat_map(Extension::der).collect();
            tlv(0xa3, &tlv(0x30, &list))
        };
        let to_be_signed = seq(&[
            &version,
            &tlv(2, &self.serial),
            &inner,
            &name(issuer),
            &seq(&[&time(self.not_before), &time(self.not_after)]),
            &name(&self.subject),
            spki,
            &extensions,
        ]);
        sign(&to_be_signed, &outer, algorithm, issuer_key)
    }
}

pub(crate) fn sign(
    to_be_signed: &[u8],
    outer: &[u8],
    algorithm: Algorithm,
    issuer_key: &Key,
) -> Vec<u8> {
    let signature = issuer_key.sign(algorithm, to_be_signed);
    seq(&[
        to_be_signed,
        outer,
        &tlv(3, &[&[0], signature.as_slice()].concat()),
    ])
}

/// An authority with its key.
pub(crate) struct Authority {
    pub(crate) name: String,
    pub(crate) key: Key,
    pub(crate) certificate: Certificate,
}

impl Authority {
    pub(crate) fn root(name: &str) -> Self {
        Self::root_of(Template::authority(name), Key::p256())
    }

    pub(crate) fn root_of(template: Template, key: Key) -> Self {
        let der = template.signed(&template.subject, &key, &key.spki());
        Self {
            certificate: Certificate::parse(&der).unwrap(),
            name: template.subject,
            key,
        }
    }

    /// An authority whose certificate this one issues.
    pub(crate) fn issue(&self, template: Template) -> Self {
        self.issue_for(template, Key::p256())
    }

    pub(crate) fn issue_for(&self, template: Template, key: Key) -> Self {
        let der = template.signed(&self.name, &self.key, &key.spki());
        Self {
            certificate: Certificate::parse(&der).unwrap(),
            name: template.subject,
            key,
        }
    }

    pub(crate) fn leaf(&self, template: &Template) -> Certificate {
        Certificate::parse(&self.leaf_der(template)).unwrap()
    }

    pub(crate) fn leaf_der(&self, template: &Template) -> Vec<u8> {
        template.signed(&self.name, &self.key, &Key::p256().spki())
    }

    pub(crate) fn crl(&self, template: &CrlTemplate) -> Crl {
        Crl::parse(&template.signed(&self.name, &self.key)).unwrap()
    }
}

/// A CRL before it is signed.
#[derive(Clone)]
pub(crate) struct CrlTemplate {
    pub(crate) version: u8,
    pub(crate) this_update: &'static str,
    pub(crate) next_update: Option<&'static str>,
    /// Serial numbers, each with its extensions.
    pub(crate) revoked: Vec<(Vec<u8>, Vec<Extension>)>,
    pub(crate) extensions: Vec<Extension>,
    pub(crate) algorithm: Option<Algorithm>,
}

impl CrlTemplate {
    pub(crate) fn of(revoked: &[&[u8]]) -> Self {
        Self {
            version: 2,
            this_update: "2026-05-01T00:00:00Z",
            next_update: Some("2026-07-01T00:00:00Z"),
            revoked: revoked
                .iter()
                .map(|serial| (serial.to_vec(), Vec::new()))
                .collect(),
            extensions: vec![Extension {
                oid: "2.5.29.20",
                critical: false,
                value: tlv(2, &[7]),
            }],
            algorithm: None,
        }
    }

    pub(crate) fn signed(&self, issuer: &str, key: &Key) -> Vec<u8> {
        let algorithm = self.algorithm.unwrap_or_else(|| key.algorithm());
        let list = |extensions: &[Extension]| {
            let list: Vec<u8> = extensions.iter().flat_map(Extension::der).collect();
            tlv(0x30, &list)
        };
        let version = match self.version {
            1 => Vec::new(),
            version => tlv(2, &[version - 1]),
        };
        let entries: Vec<u8> = self
            .revoked
            .iter()
            .flat_map(|(serial, extensions)| {
                let extensions = if extensions.is_empty() {
                    Vec::new()
                } else {
                    list(extensions)
                };
                seq(&[&tlv(2, serial), &time(self.this_update), &extensions])
            })
            .collect();
        let entries = if entries.is_empty() {
            Vec::new()
        } else {
            tlv(0x30, &entries)
        };
        let extensions = if self.extensions.is_empty() {
            Vec::new()
        } else {
            tlv(0xa0, &list(&self.extensions))
        };
        let to_be_signed = seq(&[
            &version,
            &algorithm.der(),
            &name(issuer),
            &time(self.this_update),
            &self.next_update.map_or_else(Vec::new, time),
            &entries,
            &extensions,
        ]);
        sign(&to_be_signed, &algorithm.der(), algorithm, key)
    }
}
