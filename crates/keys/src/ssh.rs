//! The public key of the cluster's SSH certificate authority, in OpenSSH's one-line form (RFC 4253 6.6, RFC 8709).
//!
//! Issuing certificates is not here.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::SshCaSeed;

const ALGORITHM: &str = "ssh-ed25519";

impl SshCaSeed {
    /// The CA's public key: `ssh-ed25519 <base64>`, without a comment.
    pub fn public_key_openssh(&self) -> String {
        let pair = Ed25519KeyPair::from_seed_unchecked(self.expose_bytes())
            .expect("every 32 bytes are an Ed25519 seed");
        let mut blob = Vec::new();
        for field in [ALGORITHM.as_bytes(), pair.public_key().as_ref()] {
            let length = u32::try_from(field.len()).expect("both fields are shorter than 64 bytes");
            blob.extend_from_slice(&length.to_be_bytes());
            blob.extend_from_slice(field);
        }
        format!("{ALGORITHM} {}", STANDARD.encode(blob))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032, 7.1, tests 1 and 2: seed and public key.
    #[test]
    fn vectors_of_rfc_8032() {
        for (seed, public_key) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            ),
        ] {
            let seed = SshCaSeed::from_vec(hex::decode(seed).unwrap()).unwrap();
            let line = seed.public_key_openssh();
            let (algorithm, blob) = line.split_once(' ').unwrap();
            assert_eq!(algorithm, "ssh-ed25519");
            // The head "00 00 00 0b ssh-ed25519 00 00 00 20" is what makes every such line begin with AAAAC3Nza.
            let blob = hex::encode(STANDARD.decode(blob).unwrap());
            assert_eq!(
                blob,
                format!("0000000b7373682d6564323535313900000020{public_key}")
            );
        }
    }
}
