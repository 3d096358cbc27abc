//! The key derivations of a TPM (Part 1, 11.4.10.2 and 11.4.10.3).

use aws_lc_rs::digest::{self, Context};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

/// The hash of a key's name, which every derivation for that key uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    pub(super) const fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    pub(super) const fn digest(self) -> &'static digest::Algorithm {
        match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        }
    }

    pub(super) const fn hmac(self) -> hmac::Algorithm {
        match self {
            Self::Sha256 => hmac::HMAC_SHA256,
            Self::Sha384 => hmac::HMAC_SHA384,
            Self::Sha512 => hmac::HMAC_SHA512,
        }
    }
}

/// KDFa: SP 800-108 in counter mode with HMAC, `length` bytes. `label` is without its NUL.
pub(super) fn kdf_a(
    hash: Hash,
    key: &[u8],
    label: &[u8],
    context_u: &[u8],
    context_v: &[u8],
    length: u8,
) -> Zeroizing<Vec<u8>> {
    let key = hmac::Key::new(hash.hmac(), key);
    let bits = u32::from(length) * 8;
    derived(length, |counter, out| {
        let mut context = hmac::Context::with_key(&key);
        context.update(&counter.to_be_bytes());
        context.update(label);
        context.update(&[0]);
        context.update(context_u);
        context.update(context_v);
        context.update(&bits.to_be_bytes());
        out.extend_from_slice(context.sign().as_ref());
    })
}

/// KDFe: SP 800-56A's concatenation, `length` bytes. `label` is without its NUL.
pub(super) fn kdf_e(
    hash: Hash,
    z: &[u8],
    label: &[u8],
    party_u: &[u8],
    party_v: &[u8],
    length: u8,
) -> Zeroizing<Vec<u8>> {
    derived(length, |counter, out| {
        let mut context = Context::new(hash.digest());
        context.update(&counter.to_be_bytes());
        context.update(z);
        context.update(label);
        context.update(&[0]);
        context.update(party_u);
        context.update(party_v);
        out.extend_from_slice(context.finish().as_ref());
    })
}

fn derived(length: u8, block: impl Fn(u32, &mut Vec<u8>)) -> Zeroizing<Vec<u8>> {
    let length = usize::from(length);
    // never grows, so that no copy is left behind: the last block begins before `length`
    let mut out = Zeroizing::new(Vec::with_capacity(length + 64));
    let mut counter = 0_u32;
    while out.len() < length {
        counter += 1;
        block(counter, &mut out);
    }
    out.truncate(length);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by an independent implementation (Python's hmac and hashlib).
    #[test]
    fn derivations_are_those_of_the_specification() {
        let a = kdf_a(Hash::Sha256, &[1; 32], b"STORAGE", &[2; 34], &[], 16);
        assert_eq!(hex::encode(&*a), KDF_A_16);
        let a = kdf_a(Hash::Sha384, &[1; 48], b"INTEGRITY", &[], &[3; 2], 100);
        assert_eq!(hex::encode(&*a), KDF_A_100);
        let e = kdf_e(Hash::Sha256, &[1; 32], b"IDENTITY", &[2; 32], &[3; 32], 32);
        assert_eq!(hex::encode(&*e), KDF_E_32);
        let e = kdf_e(Hash::Sha512, &[1; 32], b"IDENTITY", &[2; 32], &[3; 32], 65);
        assert_eq!(hex::encode(&*e), KDF_E_65);
    }

    const KDF_A_16: &str = "dcfc88cdb7a1314e831cc186c6781732";
    const KDF_A_100: &str = "4ae9ff7206782341cd45de3c797e121834ffb89f4568c38de3dab9f32855b702d9c4a55e75fb96f2ce6bd82f3e3be47f2738005749df8b8ec229c6fb736ddfc8904caa2434e9bf818b43a3727b04d548ec3765355e3881f76d1610cd23392f8673e04706";
    const KDF_E_32: &str = "2073a3306eedcfb178183d8a721f949bba9c3d4501b6c2839487bbdd3b973070";
    const KDF_E_65: &str = "8d109dabdcda010696edc4efa9ff0fbe88d50fffac84f03e644eccb8e7e8ab82b71c6ee6079edcd5952beeb4542ae53a911ba067c5cef9369abedc87dee002caab";
}
