//! What a TDX quote says about its platform: the chain of its PCK certificate.

use attest::tdx::{PckExtensions, Quote};
use attest::x509::Certificate;

use super::{MAX_CERTIFICATES, NeedsError, ca_of};
use crate::item::{Fmspc, PckCa};

/// What a quote says about its platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdxQuote {
    /// The platform family.
    pub fmspc: Fmspc,
    /// Who certified the platform.
    pub ca: PckCa,
}

impl TdxQuote {
    /// Whether bytes begin as a quote does: version 4 or 5, and type 0x81 after the kind of its key. Intel TDX DCAP
    /// quoting library API, appendix A.3.1.
    pub(super) fn is_one(bytes: &[u8]) -> bool {
        matches!(bytes, [4 | 5, 0, _, _, 0x81, 0, 0, 0, ..])
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, NeedsError> {
        let quote = Quote::parse(bytes).map_err(NeedsError::Quote)?;
        let pem = quote.pck_chain();
        // some quotes end the text with a zero byte
        let pem = match pem.iter().position(|byte| *byte == 0) {
            Some(end) => pem.get(..end).unwrap_or_default(),
            None => pem,
        };
        let chain =
            Certificate::chain_from_pem(pem, MAX_CERTIFICATES).map_err(NeedsError::Certificates)?;
        let (leaf, ca) = chain
            .iter()
            .find_map(|certificate| Some((certificate, ca_of(certificate)?)))
            .ok_or(NeedsError::NoPck)?;
        let extensions = PckExtensions::of(leaf).map_err(NeedsError::Pck)?;
        Ok(Self {
            fmspc: Fmspc::new(extensions.fmspc),
            ca,
        })
    }
}
