//! What a TDX quote says about its platform: the chain of its PCK certificate. Intel TDX DCAP quoting library API,
//! appendix A.

use attest::x509::Certificate;

use super::{MAX_CERTIFICATES, NeedsError, ca_of};
use crate::item::{Fmspc, PckCa};

/// Type of a trusted domain's quote.
const TEE_TDX: u32 = 0x81;
const HEADER: usize = 48;
/// Body of a version 4 quote.
const BODY: usize = 584;
/// The quote's signature and key.
const SIGNATURE_AND_KEY: usize = 64 + 64;
/// The quoting enclave's report and its signature.
const QE_REPORT_AND_SIGNATURE: usize = 384 + 64;
const QE_CERTIFICATION: u16 = 6;
const PCK_CHAIN: u16 = 5;
/// Intel's extension of a PCK certificate.
const SGX_EXTENSION: &str = "1.2.840.113741.1.13.1";
/// In it: the identifier of the FMSPC, and the head of an `OCTET STRING` of six bytes.
const FMSPC: &[u8] = &[
    0x06, 0x0a, 0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01, 0x04, 0x04, 0x06,
];

/// What a quote says about its platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TdxQuote {
    /// The platform family.
    pub fmspc: Fmspc,
    /// Who certified the platform.
    pub ca: PckCa,
}

impl TdxQuote {
    /// Whether bytes begin as a quote does.
    pub(super) fn is_one(bytes: &[u8]) -> bool {
        let mut cursor = Cursor(bytes);
        matches!(cursor.u16(), Some(4 | 5))
            && cursor.skip(2).is_some()
            && cursor.u32() == Some(TEE_TDX)
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, NeedsError> {
        let pem = pck_chain(bytes).ok_or(NeedsError::Quote(
            "it is cut off, or has another kind of certificate",
        ))?;
        // some quotes end the text with a zero byte
        let pem = match pem.iter().position(|byte| *byte == 0) {
            Some(end) => pem.get(..end).unwrap_or_default(),
            None => pem,
        };
        let chain = Certificate::chain_from_pem(pem, MAX_CERTIFICATES)
            .map_err(|_| NeedsError::Quote("the certificates do not parse"))?;
        let (leaf, ca) = chain
            .iter()
            .find_map(|certificate| Some((certificate, ca_of(certificate)?)))
            .ok_or(NeedsError::Quote("no certificate is from a CA of Intel's"))?;
        let fmspc = leaf
            .extension(SGX_EXTENSION)
            .and_then(fmspc)
            .ok_or(NeedsError::Quote("its certificate has no FMSPC"))?;
        Ok(Self { fmspc, ca })
    }
}

fn fmspc(extension: &[u8]) -> Option<Fmspc> {
    let at = extension
        .windows(FMSPC.len())
        .position(|window| window == FMSPC)?;
    extension
        .get(at..)?
        .get(FMSPC.len()..)?
        .first_chunk()
        .map(|bytes| Fmspc::new(*bytes))
}

fn pck_chain(quote: &[u8]) -> Option<&[u8]> {
    let mut quote = Cursor(quote);
    let version = quote.u16()?;
    quote.skip(HEADER - 2)?;
    if version == 5 {
        quote.skip(2)?;
        let body = quote.u32()?;
        quote.skip(usize::try_from(body).ok()?)?;
    } else {
        quote.skip(BODY)?;
    }
    let mut signature = Cursor(quote.sized()?);
    signature.skip(SIGNATURE_AND_KEY)?;
    if signature.u16()? != QE_CERTIFICATION {
        return None;
    }
    let mut certification = Cursor(signature.sized()?);
    certification.skip(QE_REPORT_AND_SIGNATURE)?;
    let authentication = certification.u16()?;
    certification.skip(usize::from(authentication))?;
    if certification.u16()? != PCK_CHAIN {
        return None;
    }
    certification.sized()
}

/// Little-endian fields, one after the other.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn skip(&mut self, length: usize) -> Option<()> {
        self.take(length).map(|_| ())
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2)?.first_chunk().copied().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.first_chunk().copied().map(u32::from_le_bytes)
    }

    /// Bytes behind their length.
    fn sized(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(usize::try_from(length).ok()?)
    }
}
