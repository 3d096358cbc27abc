//! Secrets of 32 bytes: one type per role over boxed memory that is zeroed on drop.
//!
//! None of them can be cloned, printed, serialised or defaulted, and they compare in constant time. A secret leaves only
//! through `expose_bytes`, so that a search for that word finds every place. The bytes are written straight into their
//! box: no copy stays behind on a stack. Zeroing what a caller copied out is the caller's duty.

use core::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroize as _;

/// The length of every derived key and of every secret made here.
pub(crate) const SECRET_LENGTH: usize = 32;

/// A secret has not the length that its role has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} has {actual} bytes, it must have {expected}")]
pub struct LengthError {
    pub(crate) what: &'static str,
    pub(crate) expected: &'static str,
    pub(crate) actual: usize,
}

/// The system's random generator failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system's random generator gave no bytes")]
pub struct RandomError;

/// The memory below every 32-byte secret.
pub(crate) struct SecretBytes(Box<[u8; SECRET_LENGTH]>);

impl SecretBytes {
    /// Makes the memory first and lets `fill` write into it.
    pub(crate) fn build<E>(
        fill: impl FnOnce(&mut [u8; SECRET_LENGTH]) -> Result<(), E>,
    ) -> Result<Self, E> {
        // A zeroed box: the secret never exists on the stack.
        let mut secret = Self(Box::new([0; SECRET_LENGTH]));
        fill(&mut secret.0)?;
        Ok(secret)
    }

    pub(crate) fn random() -> Result<Self, RandomError> {
        Self::build(|bytes| aws_lc_rs::rand::fill(bytes).map_err(|_| RandomError))
    }

    pub(crate) fn from_slice(what: &'static str, source: &[u8]) -> Result<Self, LengthError> {
        if source.len() != SECRET_LENGTH {
            return Err(LengthError {
                what,
                expected: "32",
                actual: source.len(),
            });
        }
        Self::build(|bytes| {
            bytes.copy_from_slice(source);
            Ok(())
        })
    }

    pub(crate) fn expose(&self) -> &[u8; SECRET_LENGTH] {
        &self.0
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl PartialEq for SecretBytes {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_slice().ct_eq(other.0.as_slice()).into()
    }
}

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(PartialEq)]
        pub struct $name(pub(crate) SecretBytes);

        impl Eq for $name {}

        impl $name {
            /// Takes over 32 bytes; the source is zeroed, whether it had the right length or not.
            pub fn from_vec(mut source: Vec<u8>) -> Result<Self, LengthError> {
                let secret = Self::from_slice(&source);
                source.zeroize();
                secret
            }

            /// Copies 32 bytes; the source stays the caller's to zero.
            pub fn from_slice(source: &[u8]) -> Result<Self, LengthError> {
                SecretBytes::from_slice($what, source).map(Self)
            }

            /// The bytes, for the one use that this role has.
            pub fn expose_bytes(&self) -> &[u8; SECRET_LENGTH] {
                self.0.expose()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }
    };
}

secret! {
    /// The secret from which the cluster ID comes: whoever has it can tell which cluster a machine was marked for.
    MeasurementSecret, "the measurement secret"
}
secret! {
    /// The key of one LUKS2 disk: a node's state disk or a volume.
    DiskKey, "the disk key"
}
secret! {
    /// The Ed25519 seed of the cluster's SSH certificate authority.
    SshCaSeed, "the SSH CA seed"
}
secret! {
    /// The key of the backups of a cluster. Who has it may ask for one.
    BackupKey, "the backup key"
}
secret! {
    /// The passphrase of a state disk between its format and the moment the node gets its disk key.
    FirstBootKey, "the first-boot key"
}

impl FirstBootKey {
    /// A uniformly random key.
    pub fn generate() -> Result<Self, RandomError> {
        SecretBytes::random().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_byte() {
        let key = DiskKey::from_slice(&[0xab; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "DiskKey(redacted)");
        assert_eq!(format!("{key:#?}"), "DiskKey(redacted)");
    }

    #[test]
    fn only_32_bytes_make_a_secret() {
        for length in [0, 1, 16, 31, 33, 64] {
            let error = DiskKey::from_vec(vec![1; length]).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("the disk key has {length} bytes, it must have 32")
            );
        }
    }

    #[test]
    fn equality_is_by_value() {
        let (a, b) = (
            DiskKey::from_slice(&[1; 32]).unwrap(),
            DiskKey::from_vec(vec![1; 32]).unwrap(),
        );
        let c = DiskKey::from_slice(&[2; 32]).unwrap();
        assert!(a == b);
        assert!(a != c);
    }

    #[test]
    fn random_keys_differ() {
        assert!(FirstBootKey::generate().unwrap() != FirstBootKey::generate().unwrap());
    }
}
