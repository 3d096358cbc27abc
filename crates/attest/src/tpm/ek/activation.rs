//! Credential activation: `TPM2_MakeCredential` computed here, `TPM2_ActivateCredential` in the TPM (Part 1, 24).
//!
//! The secret is encrypted to the endorsement key, and its integrity value is over the attestation key's name. A TPM
//! gives the secret out only if it holds the endorsement key, and an object with that very name, whose attributes are
//! part of the name.

use std::fmt;

use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::rsa::{
    OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512,
    OaepPublicEncryptingKey, PublicEncryptingKey,
};
use aws_lc_rs::signature::RsaPublicKeyComponents;
use subtle::ConstantTimeEq as _;
use thiserror::Error;
use zeroize::Zeroizing;

use super::kdf::{Hash, kdf_a, kdf_e};
use super::key::{EndorsementKey, Trust};
use super::public::push_sized;
use crate::Digest;
use crate::tpm::{ObjectAttributes, PublicArea, TrustedAk};
use crate::x509::PublicKey;

/// The label of a credential (Part 1, annex B.10.4): as a label of OAEP its NUL belongs to it.
const LABEL: &[u8] = b"IDENTITY";
const OAEP_LABEL: &[u8] = b"IDENTITY\0";
/// As long as the digest of the smallest name, which every TPM takes.
const SECRET: usize = 32;
/// As long as the digest of the largest name, and as a number of P-384.
const SEED: usize = 64;

/// Random bytes for one challenge. This library has no source of its own, except for OAEP's padding, which the
/// cryptographic library fills by itself.
pub struct Randomness(Zeroizing<[u8; Randomness::LENGTH]>);

impl Randomness {
    /// How many bytes.
    pub const LENGTH: usize = SECRET + SEED;

    /// Takes bytes of a cryptographic random number generator, for one challenge and nothing else.
    #[must_use]
    pub fn new(bytes: [u8; Self::LENGTH]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for Randomness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Randomness(..)")
    }
}

/// Why no challenge could be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChallengeError {
    /// The key to be activated could sign what its TPM does not state.
    #[error(
        "the key is no attestation key: it is {found}, and must be {}",
        ObjectAttributes::DEMAND
    )]
    Attributes {
        /// Its attributes.
        found: String,
    },
    /// The endorsement key is no key: no point of its curve, or a modulus nobody can encrypt to.
    #[error("the endorsement key cannot be encrypted to")]
    EndorsementKey,
    /// About one in four thousand million: the random bytes are no number of the curve.
    #[error("the random bytes do not make a key: draw new ones")]
    Randomness,
    /// The cryptographic library refused.
    #[error("the challenge could not be encrypted")]
    Encryption,
}

/// A secret on its way to a TPM. Good for one answer.
pub struct Challenge {
    secret: Zeroizing<[u8; SECRET]>,
    credential_blob: Vec<u8>,
    encrypted_secret: Vec<u8>,
    ak: PublicArea,
    ek_id: Digest,
    trust: Trust,
}

/// The secret stays where it is.
impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenge")
            .field("ak", &self.ak.id())
            .field("ek", &self.ek_id)
            .finish_non_exhaustive()
    }
}

/// The answer is not the secret: whoever gave it does not hold both keys in one TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error(
    "the answer to the challenge is wrong: the attestation key is not in the endorsement key's TPM"
)]
pub struct WrongAnswer;

/// An attestation key that lives in the TPM of an endorsement key. Only the answer to a [`Challenge`] makes one.
#[derive(Debug)]
pub struct ActivatedAk {
    ak: PublicArea,
    ek_id: Digest,
    trust: Trust,
}

impl ActivatedAk {
    /// The attestation key.
    #[must_use]
    pub const fn public_area(&self) -> &PublicArea {
        &self.ak
    }

    /// Which TPM: [`EndorsementKey::id`].
    #[must_use]
    pub const fn ek_id(&self) -> Digest {
        self.ek_id
    }

    /// Who vouches for that TPM.
    #[must_use]
    pub const fn trust(&self) -> Trust {
        self.trust
    }

    /// Trusts it to sign quotes, in the scheme of its public area. This very value: a verifier that looked the key up
    /// again, by a name or an address, could verify quotes with another key than the one that was activated.
    #[must_use]
    pub fn trusted(self) -> TrustedAk {
        TrustedAk::of_public_area(
            &self.ak,
            match self.trust {
                Trust::Maker => "of a TPM that its maker certifies",
                Trust::Enrolled => "of a TPM that was enrolled",
            },
        )
    }
}

impl Challenge {
    /// Encrypts a random secret to `ek`, for a TPM that holds `ak`.
    ///
    /// # Errors
    /// When `ak` is no attestation key, or nothing can be encrypted to `ek`.
    pub fn new(
        ek: &EndorsementKey,
        ak: PublicArea,
        randomness: Randomness,
    ) -> Result<Self, ChallengeError> {
        if !ak.attributes().is_attestation_key() {
            return Err(ChallengeError::Attributes {
                found: ak.attributes().describe(),
            });
        }
        let (secret, seed) = randomness
            .0
            .split_first_chunk::<SECRET>()
            .ok_or(ChallengeError::Randomness)?;
        let secret = Zeroizing::new(*secret);
        let (seed, encrypted_secret) = protected_seed(ek, seed)?;
        let credential_blob = credential(ek, &ak, &seed, &secret)?;
        Ok(Self {
            secret,
            credential_blob,
            encrypted_secret,
            ak,
            ek_id: ek.id(),
            trust: ek.trust(),
        })
    }

    /// `TPM2B_ID_OBJECT`, for `TPM2_ActivateCredential`.
    #[must_use]
    pub fn credential_blob(&self) -> &[u8] {
        &self.credential_blob
    }

    /// `TPM2B_ENCRYPTED_SECRET`, for `TPM2_ActivateCredential`.
    #[must_use]
    pub fn encrypted_secret(&self) -> &[u8] {
        &self.encrypted_secret
    }

    /// What the TPM gave out, without its length. Right or wrong, the challenge is spent.
    ///
    /// # Errors
    /// When it is not the secret.
    pub fn answer(self, answer: &[u8]) -> Result<ActivatedAk, WrongAnswer> {
        if !bool::from(self.secret.as_slice().ct_eq(answer)) {
            return Err(WrongAnswer);
        }
        Ok(ActivatedAk {
            ak: self.ak,
            ek_id: self.ek_id,
            trust: self.trust,
        })
    }
}

/// The seed, and the seed encrypted to the endorsement key as a `TPM2B_ENCRYPTED_SECRET`.
fn protected_seed(
    ek: &EndorsementKey,
    random: &[u8],
) -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), ChallengeError> {
    match &ek.key {
        PublicKey::Rsa(key) => {
            let seed = random
                .get(..ek.hash.length())
                .ok_or(ChallengeError::Randomness)?;
            let components = RsaPublicKeyComponents {
                n: &*key.modulus,
                e: &*key.exponent,
            };
            let key: PublicEncryptingKey = components
                .try_into()
                .map_err(|_| ChallengeError::EndorsementKey)?;
            let key =
                OaepPublicEncryptingKey::new(key).map_err(|_| ChallengeError::EndorsementKey)?;
            let oaep = match ek.hash {
                Hash::Sha256 => &OAEP_SHA256_MGF1SHA256,
                Hash::Sha384 => &OAEP_SHA384_MGF1SHA384,
                Hash::Sha512 => &OAEP_SHA512_MGF1SHA512,
            };
            let mut space = vec![0; key.ciphertext_size()];
            let encrypted = key
                .encrypt(oaep, seed, &mut space, Some(OAEP_LABEL))
                .map_err(|_| ChallengeError::Encryption)?;
            let mut out = Vec::with_capacity(encrypted.len() + 2);
            push_sized(&mut out, encrypted);
            Ok((Zeroizing::new(seed.to_vec()), out))
        }
        PublicKey::P256(point) => ecdh(ek.hash, &ECDH_P256, random, point),
        PublicKey::P384(point) => ecdh(ek.hash, &ECDH_P384, random, point),
    }
}

/// Part 1, annex C.6.1: an ephemeral key, whose point is what is sent.
fn ecdh(
    hash: Hash,
    curve: &'static agreement::Algorithm,
    random: &[u8],
    point: &[u8],
) -> Result<(Zeroizing<Vec<u8>>, Vec<u8>), ChallengeError> {
    // an uncompressed point is one byte and two coordinates
    let length = point.len() / 2;
    let number = random.get(..length).ok_or(ChallengeError::Randomness)?;
    let ephemeral =
        PrivateKey::from_private_key(curve, number).map_err(|_| ChallengeError::Randomness)?;
    let public = ephemeral
        .compute_public_key()
        .map_err(|_| ChallengeError::Randomness)?;
    let (x, y) = coordinates(public.as_ref(), length).ok_or(ChallengeError::Encryption)?;
    let (ek_x, _) = coordinates(point, length).ok_or(ChallengeError::EndorsementKey)?;
    let seed = agreement::agree(
        &ephemeral,
        UnparsedPublicKey::new(curve, point),
        ChallengeError::EndorsementKey,
        |z| Ok(kdf_e(hash, z, LABEL, x, ek_x, length_byte(hash))),
    )?;
    let mut inner = Vec::with_capacity(2 * length + 4);
    push_sized(&mut inner, x);
    push_sized(&mut inner, y);
    let mut out = Vec::with_capacity(inner.len() + 2);
    push_sized(&mut out, &inner);
    Ok((seed, out))
}

fn coordinates(point: &[u8], length: usize) -> Option<(&[u8], &[u8])> {
    let (_, both) = point.split_first()?;
    both.split_at_checked(length)
}

fn length_byte(hash: Hash) -> u8 {
    match hash {
        Hash::Sha256 => 32,
        Hash::Sha384 => 48,
        Hash::Sha512 => 64,
    }
}

/// `TPM2B_ID_OBJECT`: the secret encrypted, and an integrity value over it and the attestation key's name.
fn credential(
    ek: &EndorsementKey,
    ak: &PublicArea,
    seed: &[u8],
    secret: &[u8; SECRET],
) -> Result<Vec<u8>, ChallengeError> {
    let name = ak.name();
    let cipher = if ek.aes_length == 16 {
        &AES_128
    } else {
        &AES_256
    };
    let key = kdf_a(ek.hash, seed, b"STORAGE", name, &[], ek.aes_length);
    let key = UnboundCipherKey::new(cipher, &key).map_err(|_| ChallengeError::Encryption)?;
    let key = EncryptingKey::cfb128(key).map_err(|_| ChallengeError::Encryption)?;
    let mut identity = Vec::with_capacity(SECRET + 2);
    push_sized(&mut identity, secret);
    // the key is new for each challenge, so the specification has no vector
    key.less_safe_encrypt(
        &mut identity,
        EncryptionContext::Iv128(FixedLength::from([0; 16])),
    )
    .map_err(|_| ChallengeError::Encryption)?;

    let key = kdf_a(ek.hash, seed, b"INTEGRITY", &[], &[], length_byte(ek.hash));
    let mut integrity = hmac::Context::with_key(&hmac::Key::new(ek.hash.hmac(), &key));
    integrity.update(&identity);
    integrity.update(name);
    let mut inner = Vec::with_capacity(identity.len() + ek.hash.length() + 2);
    push_sized(&mut inner, integrity.sign().as_ref());
    inner.extend_from_slice(&identity);
    let mut out = Vec::with_capacity(inner.len() + 2);
    push_sized(&mut out, &inner);
    Ok(out)
}
