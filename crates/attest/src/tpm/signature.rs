//! `TPMT_SIGNATURE` (11.3.4), SHA-256 schemes only.

use super::alg;
use super::public::{expect, padded};
use super::reader::{ParseError, Reader};

const MAX_RSA_SIGNATURE: usize = 512;
const P256_NUMBER: usize = 32;

/// A signature as the TPM wrote it, in the form the verifier takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signature {
    /// r and s, 32 bytes each.
    Ecdsa([u8; 2 * P256_NUMBER]),
    /// PKCS #1 v1.5.
    Rsassa(Vec<u8>),
    /// PSS.
    Rsapss(Vec<u8>),
}

impl Signature {
    /// Parses a `TPMT_SIGNATURE`.
    ///
    /// # Errors
    /// When the bytes are not exactly one ECDSA, RSASSA or RSAPSS signature with SHA-256.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::big_endian(bytes);
        let scheme = reader.u16("sigAlg")?;
        let is_known = matches!(scheme, alg::ECDSA | alg::RSASSA | alg::RSAPSS);
        if !is_known {
            return Err(ParseError::Unsupported {
                field: "sigAlg",
                value: scheme.into(),
            });
        }
        expect("signature hash", reader.u16("signature hash")?, alg::SHA256)?;
        let signature = if scheme == alg::ECDSA {
            let r = padded::<P256_NUMBER>(reader.sized("signatureR", P256_NUMBER)?);
            let s = padded::<P256_NUMBER>(reader.sized("signatureS", P256_NUMBER)?);
            let mut both = [0; 2 * P256_NUMBER];
            for (to, from) in both.iter_mut().zip(r.iter().chain(&s)) {
                *to = *from;
            }
            Self::Ecdsa(both)
        } else {
            let bytes = reader.sized("signature", MAX_RSA_SIGNATURE)?.to_vec();
            if scheme == alg::RSASSA {
                Self::Rsassa(bytes)
            } else {
                Self::Rsapss(bytes)
            }
        };
        reader.finish("TPMT_SIGNATURE")?;
        Ok(signature)
    }
}
