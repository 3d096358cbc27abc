//! PEM (RFC 7468), of certificates only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::certificate::{Certificate, MAX_CERTIFICATE, X509Error};

const BEGIN: &[u8] = b"-----BEGIN CERTIFICATE-----";
const END: &[u8] = b"-----END CERTIFICATE-----";
/// What every other encapsulation boundary begins with.
const BOUNDARY: &[u8] = b"-----BEGIN ";

pub(super) fn certificates(text: &[u8], most: usize) -> Result<Vec<Certificate>, X509Error> {
    let mut certificates = Vec::new();
    let mut base64: Option<Vec<u8>> = None;
    let mut last = 0;
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        last = number + 1;
        let refused = X509Error::Pem { line: last };
        let line = line.trim_ascii();
        match &mut base64 {
            None if line == BEGIN => {
                if certificates.len() == most {
                    return Err(X509Error::TooMany { most });
                }
                base64 = Some(Vec::new());
            }
            // a key or a request among certificates is a mistake that should not pass in silence
            None if line.starts_with(BOUNDARY) => return Err(refused),
            None => {}
            Some(digits) if line == END => {
                let der = STANDARD.decode(&*digits).map_err(|_| refused)?;
                certificates.push(Certificate::parse(&der)?);
                base64 = None;
            }
            Some(digits) => {
                if digits.len() + line.len() > MAX_CERTIFICATE.div_ceil(3) * 4 {
                    return Err(X509Error::TooLarge {
                        what: "the certificate",
                        most: MAX_CERTIFICATE,
                    });
                }
                digits.extend_from_slice(line);
            }
        }
    }
    match base64 {
        None => Ok(certificates),
        Some(_) => Err(X509Error::Pem { line: last }),
    }
}
