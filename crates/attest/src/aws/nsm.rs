//! What is asked of the Nitro Security Module, and its answer: CBOR through an NV area of the NitroTPM.

use thiserror::Error;

use super::MAX_DOCUMENT;
use crate::cbor::{Cbor, CborError, push_bytes};

/// Longer than any word of the module's.
const MAX_WORD: usize = 64;

/// Why an answer holds no document.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NsmError {
    /// Not the CBOR it should be.
    #[error("the answer of the Nitro Security Module cannot be read")]
    Cbor(#[from] CborError),
    /// It says no.
    #[error("the Nitro Security Module refuses: {0}")]
    Refused(String),
    /// Neither a document nor a refusal.
    #[error("the Nitro Security Module answers {0:?}, not with a document")]
    Unexpected(String),
}

/// A request for a document over this data.
#[must_use]
pub fn attestation_request(
    nonce: Option<&[u8]>,
    user_data: Option<&[u8]>,
    public_key: Option<&[u8]>,
) -> Vec<u8> {
    // a map of one entry, whose value is a map of three
    let mut out = b"\xa1\x6bAttestation\xa3".to_vec();
    for (name, value) in [
        (&b"\x69user_data"[..], user_data),
        (b"\x65nonce", nonce),
        (b"\x6apublic_key", public_key),
    ] {
        out.extend_from_slice(name);
        match value {
            None => out.push(0xf6),
            Some(bytes) => push_bytes(&mut out, bytes),
        }
    }
    out
}

/// The document in an answer. Whatever stands behind the answer belongs to the NV area it was read from.
///
/// # Errors
/// When there is none.
pub fn attestation_response(bytes: &[u8]) -> Result<&[u8], NsmError> {
    const FIELD: &str = "the answer";
    let mut cbor = Cbor::new(bytes);
    let mut outer = cbor.open_map(FIELD, 1)?;
    if !outer.next(&mut cbor)? {
        return Err(NsmError::Unexpected("nothing".into()));
    }
    match cbor.text(FIELD, MAX_WORD)? {
        "Attestation" => {}
        "Error" => return Err(NsmError::Refused(cbor.text(FIELD, MAX_WORD)?.to_owned())),
        other => return Err(NsmError::Unexpected(other.to_owned())),
    }
    let mut inner = cbor.open_map(FIELD, 8)?;
    while inner.next(&mut cbor)? {
        if cbor.text(FIELD, MAX_WORD)? == "document" {
            return Ok(cbor.bytes("document", MAX_DOCUMENT)?);
        }
        cbor.skip(FIELD)?;
    }
    Err(NsmError::Unexpected(
        "Attestation without a document".into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_its_three_fields() {
        let request = attestation_request(Some(&[1, 2]), None, Some(&[3; 65]));
        let mut expected =
            b"\xa1\x6bAttestation\xa3\x69user_data\xf6\x65nonce\x42\x01\x02\x6apublic_key\x58\x41"
                .to_vec();
        expected.extend([3; 65]);
        assert_eq!(request, expected);
    }

    #[test]
    fn a_document_is_found_in_front_of_an_areas_padding() {
        for padding in [&[][..], &[0xff; 7], &[0; 7]] {
            let answer = [&b"\xa1\x6bAttestation\xa1\x68document\x43abc"[..], padding].concat();
            assert_eq!(attestation_response(&answer), Ok(&b"abc"[..]));
        }
        let later = b"\xa1\x6bAttestation\xa2\x61x\x01\x68document\x43abc";
        assert_eq!(attestation_response(later), Ok(&b"abc"[..]));
    }

    #[test]
    fn an_answer_without_a_document_is_told() {
        assert_eq!(
            attestation_response(b"\xa1\x65Error\x6dInputTooLarge"),
            Err(NsmError::Refused("InputTooLarge".into()))
        );
        assert_eq!(
            attestation_response(b"\xa1\x65Other\xf6"),
            Err(NsmError::Unexpected("Other".into()))
        );
        assert!(matches!(
            attestation_response(b"\xa1\x6bAttestation\xa0"),
            Err(NsmError::Unexpected(_))
        ));
        for bytes in [
            &b""[..],
            b"\xa0",
            b"\xff\xff",
            b"\xa1\x6bAttestation\xa1\x68document\x45abc",
        ] {
            assert!(attestation_response(bytes).is_err(), "{bytes:x?}");
        }
    }
}
