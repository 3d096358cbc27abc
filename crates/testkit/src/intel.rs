//! A vendor in the shape of Intel, with its own root: platforms with PCK certificates, quotes of trust domains, TCB infos, QE identities
//! and CRLs. Nothing that it signs is worth anything under the root that is built into `attest`; it is here so that a test can
//! say a lie whose signatures hold.
//!
//! Everything starts true and up to date at [`NOW`]; a test changes one part.

mod certificates;
mod quote;
mod statements;

pub use certificates::{PckParts, pck_extension};
pub use quote::{Body, QeParts, QuoteParts, TdParts};
pub use statements::{qe_identity, tcb_info};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};

/// A time at which all that this vendor makes is valid.
pub const NOW: &str = "2026-01-15T00:00:00Z";

/// A P-256 key for certificates and for raw signatures.
pub struct SigningKey {
    certificates: KeyPair,
    raw: EcdsaKeyPair,
}

impl SigningKey {
    /// A new key.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn generate() -> Self {
        let certificates = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a new P-256 key");
        let raw = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            certificates.serialized_der(),
        )
        .expect("a P-256 key that was made right before");
        Self { certificates, raw }
    }

    /// r and s over `message`.
    ///
    /// # Panics
    /// When the key cannot sign.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let signature = self
            .raw
            .sign(&SystemRandom::new(), message)
            .expect("a P-256 signature");
        signature.as_ref().try_into().expect("64 bytes")
    }

    /// x and y.
    ///
    /// # Panics
    /// Never: a P-256 point has 65 bytes.
    #[must_use]
    pub fn point(&self) -> [u8; 64] {
        let point = self.raw.public_key().as_ref();
        point[1..].try_into().expect("an uncompressed point")
    }
}

/// An authority: its certificate and its key.
pub struct Authority {
    pub(crate) params: rcgen::CertificateParams,
    /// Its key.
    pub key: SigningKey,
    /// Its certificate.
    pub der: Vec<u8>,
}

/// The vendor.
pub struct Vendor {
    /// The root.
    pub root: Authority,
    /// Signs PCK certificates.
    pub platform_ca: Authority,
    /// Signs TCB infos and QE identities.
    pub tcb_signing: Authority,
}

/// A machine: the key that its PCK certificate is for, and the chain to the root.
pub struct Platform {
    /// The key of the provisioning certification enclave.
    pub pck: SigningKey,
    /// DER, leaf first.
    pub chain: Vec<Vec<u8>>,
    /// The quoting enclave's key for quotes.
    pub attestation_key: SigningKey,
}

/// What a verifier fetches about a platform, as the service sends it.
#[derive(Clone, Debug)]
pub struct Collateral {
    /// `{"tcbInfo":..,"signature":..}`.
    pub tcb_info: Vec<u8>,
    /// PEM, signer first.
    pub tcb_info_chain: Vec<u8>,
    /// `{"enclaveIdentity":..,"signature":..}`.
    pub qe_identity: Vec<u8>,
    /// PEM, signer first.
    pub qe_identity_chain: Vec<u8>,
    /// CRL of the platform CA.
    pub pck_crl: Vec<u8>,
    /// CRL of the root.
    pub root_ca_crl: Vec<u8>,
}

impl Vendor {
    /// A vendor with new keys.
    #[must_use]
    pub fn new() -> Self {
        certificates::vendor()
    }

    /// A machine of this vendor.
    #[must_use]
    pub fn platform(&self, parts: &PckParts) -> Platform {
        certificates::platform(&self.platform_ca, &self.root, parts)
    }

    /// All that is to know about platforms of this vendor at [`NOW`]: up to date, nothing revoked.
    #[must_use]
    pub fn collateral(&self) -> Collateral {
        self.collateral_of(&tcb_info(), &qe_identity())
    }

    /// The same with other statements.
    #[must_use]
    pub fn collateral_of(
        &self,
        tcb_info: &serde_json::Value,
        qe_identity: &serde_json::Value,
    ) -> Collateral {
        let chain = pem_chain(&[&self.tcb_signing.der, &self.root.der]);
        Collateral {
            tcb_info: statements::signed("tcbInfo", tcb_info, &self.tcb_signing.key),
            tcb_info_chain: chain.clone(),
            qe_identity: statements::signed("enclaveIdentity", qe_identity, &self.tcb_signing.key),
            qe_identity_chain: chain,
            pck_crl: self.platform_ca.crl(&[]),
            root_ca_crl: self.root.crl(&[]),
        }
    }
}

impl Default for Vendor {
    fn default() -> Self {
        Self::new()
    }
}

/// Certificates as PEM, one after another.
#[must_use]
pub fn pem_chain(chain: &[&[u8]]) -> Vec<u8> {
    use base64::Engine as _;
    let mut text = String::new();
    for der in chain {
        let base64 = base64::engine::general_purpose::STANDARD.encode(der);
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in base64.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text.into_bytes()
}
