//! A virtual TPM with an RSA attestation key.

use attest::tpm::{BankValues, HashAlgorithm};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256};

use crate::tee::{QuoteParts, tpm2b};

/// Signs whatever it is told to, which no TPM does.
#[derive(Debug)]
pub struct CloudTpm {
    key: KeyPair,
}

/// A quote in the form that tools save.
#[derive(Clone, Debug)]
pub struct Quoted {
    /// `TPMS_ATTEST`.
    pub statement: Vec<u8>,
    /// `TPMT_SIGNATURE`.
    pub signature: Vec<u8>,
    /// What was quoted.
    pub values: BankValues,
}

/// `TPM2B_PUBLIC` of an RSA attestation key with these attributes (`TPMA_OBJECT`).
///
/// # Panics
/// When a structure becomes longer than a TPM's.
#[must_use]
pub fn public_area(modulus: &[u8], attributes: u32) -> Vec<u8> {
    // RSA, named by SHA-256
    let mut area = vec![0x00, 0x01, 0x00, 0x0b];
    area.extend(attributes.to_be_bytes());
    // no policy, no symmetric algorithm, RSASSA with SHA-256, 2048 bits, the usual exponent
    area.extend([0x00, 0x00, 0x00, 0x10, 0x00, 0x14, 0x00, 0x0b, 0x08, 0x00]);
    area.extend([0; 4]);
    area.extend(tpm2b(modulus));
    tpm2b(&area)
}

impl CloudTpm {
    /// A TPM with a new key.
    ///
    /// # Panics
    /// When no key can be made.
    #[must_use]
    pub fn new() -> Self {
        Self {
            key: KeyPair::generate(KeySize::Rsa2048).expect("a new RSA key"),
        }
    }

    /// The modulus.
    #[must_use]
    pub fn modulus(&self) -> Vec<u8> {
        // RSAPublicKey: a sequence of the modulus, with a zero in front, and the exponent 65537
        self.rsa_public_key()[9..9 + 256].to_vec()
    }

    /// `RSAPublicKey`, DER.
    #[must_use]
    pub fn rsa_public_key(&self) -> &[u8] {
        self.key.public_key().as_ref()
    }

    /// The bare number of an RSASSA signature with SHA-256.
    ///
    /// # Panics
    /// When the key does not sign.
    #[must_use]
    pub fn sign(&self, statement: &[u8]) -> Vec<u8> {
        let mut signature = vec![0; self.key.public_modulus_len()];
        self.key
            .sign(
                &RSA_PKCS1_SHA256,
                &SystemRandom::new(),
                statement,
                &mut signature,
            )
            .expect("RSA signs");
        signature
    }

    /// A true quote over all values given.
    #[must_use]
    pub fn quote(&self, nonce: &[u8], values: &BankValues) -> Quoted {
        self.quote_with(nonce, values, |_| ())
    }

    /// The same with one lie.
    ///
    /// # Panics
    /// When a structure becomes longer than a TPM's.
    #[must_use]
    pub fn quote_with(
        &self,
        nonce: &[u8],
        values: &BankValues,
        lie: impl FnOnce(&mut QuoteParts),
    ) -> Quoted {
        let mut bitmap = vec![0; 3];
        for (index, _) in values.iter() {
            bitmap[usize::from(index.number() / 8)] |= 1 << (index.number() % 8);
        }
        let mut parts = QuoteParts {
            magic: 0xff54_4347,
            kind: 0x8018,
            extra_data: nonce.to_vec(),
            reset_count: 0,
            selections: vec![(values.bank().tpm_id(), bitmap)],
            pcr_digest: values.quote_digest(HashAlgorithm::Sha256),
        };
        lie(&mut parts);
        let statement = parts.to_tpms_attest();
        let signature = [vec![0x00, 0x14, 0x00, 0x0b], tpm2b(&self.sign(&statement))].concat();
        Quoted {
            statement,
            signature,
            values: values.clone(),
        }
    }
}

impl Default for CloudTpm {
    fn default() -> Self {
        Self::new()
    }
}
