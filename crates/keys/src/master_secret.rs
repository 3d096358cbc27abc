//! The master secret, its salt, and the file that keeps both (`constellation-mastersecret.json`).
//!
//! Writing the file (mode 0600, never over an existing one) is the CLI's; here is only what is in it.

use core::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::secret::{LengthError, RandomError};

const LENGTH: usize = 32;
/// The original took secrets from its users, of at least this length; they must keep working.
const SECRET_MIN: usize = 16;
const SALT_MIN: usize = 32;
const MAX: usize = 256;

macro_rules! variable_secret {
    ($(#[$doc:meta])* $name:ident, $what:literal, $min:expr, $range:literal) => {
        $(#[$doc])*
        pub struct $name(Zeroizing<Box<[u8]>>);

        impl $name {
            /// 32 random bytes, for a new cluster.
            pub fn generate() -> Result<Self, RandomError> {
                let mut bytes = Zeroizing::new(vec![0; LENGTH].into_boxed_slice());
                aws_lc_rs::rand::fill(&mut bytes).map_err(|_| RandomError)?;
                Ok(Self(bytes))
            }

            /// Takes over the bytes; the source is zeroed, whether its length was right or not.
            pub fn from_vec(mut source: Vec<u8>) -> Result<Self, LengthError> {
                let secret = if ($min..=MAX).contains(&source.len()) {
                    // Not `into_boxed_slice` of the source: shrinking it would leave an unzeroed copy in the old allocation.
                    Ok(Self(Zeroizing::new(Box::from(source.as_slice()))))
                } else {
                    Err(LengthError { what: $what, expected: $range, actual: source.len() })
                };
                source.zeroize();
                secret
            }

            /// The bytes, for derivation and for the way to another keeper of them.
            pub fn expose_bytes(&self) -> &[u8] {
                &self.0
            }
        }

        impl PartialEq for $name {
            fn eq(&self, other: &Self) -> bool {
                self.0.ct_eq(&other.0).into()
            }
        }

        impl Eq for $name {}

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }
    };
}

variable_secret! {
    /// The root of every key of a cluster.
    MasterSecret, "the master secret", SECRET_MIN, "16 to 256"
}
variable_secret! {
    /// The salt beside the master secret. It need not be secret; it is treated as one because it always travels with it.
    Salt, "the salt", SALT_MIN, "32 to 256"
}

/// What is in `constellation-mastersecret.json`.
#[derive(Debug, PartialEq, Eq)]
pub struct MasterSecretFile {
    /// The master secret.
    pub master_secret: MasterSecret,
    /// Its salt.
    pub salt: Salt,
}

/// The master secret file is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum MasterSecretFileError {
    /// Not JSON, or a field that is missing, twice there or unknown.
    // serde's message is not passed on: for a wrong type it quotes the value.
    #[error(
        "not a master secret file at line {line}, column {column}: it is a JSON object with the two base64 strings \"key\" and \"salt\""
    )]
    Parse {
        /// Where the parser stopped.
        line: usize,
        /// Where the parser stopped.
        column: usize,
    },
    /// A value is not base64.
    #[error("\"{field}\" in the master secret file is not base64")]
    Base64 {
        /// The field.
        field: &'static str,
    },
    /// A value has a wrong length.
    #[error("wrong length in the master secret file")]
    Length(#[source] LengthError),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    key: String,
    salt: String,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.key.zeroize();
        self.salt.zeroize();
    }
}

impl MasterSecretFile {
    /// A new master secret and salt.
    pub fn generate() -> Result<Self, RandomError> {
        Ok(Self {
            master_secret: MasterSecret::generate()?,
            salt: Salt::generate()?,
        })
    }

    /// Parses the file's content. Zeroing the given text is the caller's duty.
    pub fn parse(json: &[u8]) -> Result<Self, MasterSecretFileError> {
        let wire: Wire =
            serde_json::from_slice(json).map_err(|error| MasterSecretFileError::Parse {
                line: error.line(),
                column: error.column(),
            })?;
        Ok(Self {
            master_secret: MasterSecret::from_vec(decode("key", &wire.key)?)
                .map_err(MasterSecretFileError::Length)?,
            salt: Salt::from_vec(decode("salt", &wire.salt)?)
                .map_err(MasterSecretFileError::Length)?,
        })
    }

    /// The file's content.
    pub fn expose_json(&self) -> Zeroizing<String> {
        // Room for everything from the start: a string that grows leaves its beginning behind in freed memory.
        let mut json = Zeroizing::new(String::with_capacity(4 * MAX));
        json.push_str("{\"key\":\"");
        STANDARD.encode_string(self.master_secret.expose_bytes(), &mut json);
        json.push_str("\",\"salt\":\"");
        STANDARD.encode_string(self.salt.expose_bytes(), &mut json);
        json.push_str("\"}");
        json
    }
}

fn decode(field: &'static str, text: &str) -> Result<Vec<u8>, MasterSecretFileError> {
    STANDARD
        .decode(text)
        .map_err(|_| MasterSecretFileError::Base64 { field })
}

#[cfg(test)]
mod tests;
