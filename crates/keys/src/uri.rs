//! The two URIs with which the CLI tells a node how keys are managed, as the original writes them:
//! `kms://cluster-kms?key=<base64url>&salt=<base64url>` and `storage://no-store`.
//!
//! Only the constellation-managed mode exists. The original's other schemes (`kms://aws`, `kms://azure`, `kms://gcp`)
//! are named in the refusal, so that a user of them sees what is missing.

use core::mem;

use base64::Engine as _;
use base64::alphabet::URL_SAFE;
use base64::decoded_len_estimate;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::secret::LengthError;
use crate::{MasterSecret, Salt};

/// The storage URI of the constellation-managed mode: derived keys are stored nowhere.
pub const NO_STORE: &str = "storage://no-store";

const CLUSTER_KMS: &str = "kms://cluster-kms?";
/// Room for two secrets of the greatest length, percent-encoded.
const LONGEST: usize = 4096;

/// Of base64.
const LONGEST_PADDING: usize = 2;

/// base64url, written with padding (as the original does), read after that was left off.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// A URI names no key management that exists here. The text of the URI, which holds the master secret, is never shown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Another key management or store.
    #[error("{what} is not supported: the only one is {supported}")]
    Unsupported {
        /// Scheme and host, if they are one the original knows.
        what: &'static str,
        /// The one that is.
        supported: &'static str,
    },
    /// A parameter is missing.
    #[error("the key management URI has no \"{0}\"")]
    Missing(&'static str),
    /// A parameter is there twice.
    #[error("the key management URI has \"{0}\" twice")]
    Duplicate(&'static str),
    /// A parameter that does not belong there.
    #[error("the key management URI has a parameter other than \"key\" and \"salt\"")]
    Unknown,
    /// A parameter is not base64.
    #[error("\"{0}\" of the key management URI is not base64url")]
    Base64(&'static str),
    /// A parameter has a wrong length.
    #[error("wrong length in the key management URI")]
    Length(#[source] LengthError),
}

/// The key management URI for a master secret. It holds the secret: only for an encrypted, attested channel.
pub fn expose_cluster_kms(master_secret: &MasterSecret, salt: &Salt) -> Zeroizing<String> {
    // Room from the start: a string that grows leaves its beginning behind in freed memory.
    let mut uri = Zeroizing::new(String::with_capacity(LONGEST));
    uri.push_str(CLUSTER_KMS);
    uri.push_str("key=");
    BASE64.encode_string(master_secret.expose_bytes(), &mut uri);
    uri.push_str("&salt=");
    BASE64.encode_string(salt.expose_bytes(), &mut uri);
    uri
}

/// Reads a key management URI. Zeroing the given text is the caller's duty.
pub fn parse_kms(uri: &str) -> Result<(MasterSecret, Salt), UriError> {
    let Some(query) = uri
        .strip_prefix(CLUSTER_KMS)
        .filter(|_| uri.len() <= LONGEST)
    else {
        let known = ["kms://aws", "kms://azure", "kms://gcp"];
        let what = known.into_iter().find(|known| uri.starts_with(known));
        return Err(UriError::Unsupported {
            what: what.unwrap_or("this key management URI"),
            supported: "kms://cluster-kms",
        });
    };
    let (mut key, mut salt) = (None, None);
    for parameter in query.split('&') {
        let (name, value) = parameter.split_once('=').ok_or(UriError::Unknown)?;
        let (name, place) = match name {
            "key" => ("key", &mut key),
            "salt" => ("salt", &mut salt),
            _ => return Err(UriError::Unknown),
        };
        if place.replace(decode(name, value)?).is_some() {
            return Err(UriError::Duplicate(name));
        }
    }
    let (mut key, mut salt) = (
        key.ok_or(UriError::Missing("key"))?,
        salt.ok_or(UriError::Missing("salt"))?,
    );
    Ok((
        MasterSecret::from_vec(mem::take(&mut key)).map_err(UriError::Length)?,
        Salt::from_vec(mem::take(&mut salt)).map_err(UriError::Length)?,
    ))
}

/// Checks the storage URI that goes with it.
pub fn parse_storage(uri: &str) -> Result<(), UriError> {
    if uri == NO_STORE {
        return Ok(());
    }
    let known = ["storage://aws", "storage://azure", "storage://gcp"];
    let what = known.into_iter().find(|known| uri.starts_with(known));
    Err(UriError::Unsupported {
        what: what.unwrap_or("this storage URI"),
        supported: NO_STORE,
    })
}

/// Zeroed wherever it ends, so also where another parameter is wrong.
fn decode(name: &'static str, mut value: &str) -> Result<Zeroizing<Vec<u8>>, UriError> {
    // The padding is the only thing of base64url that a URL encoder may have escaped. It says nothing, so it is left off, and
    // no second text with the secret has to be made.
    for _ in 0..LONGEST_PADDING {
        let unpadded = ["=", "%3D", "%3d"]
            .into_iter()
            .find_map(|padding| value.strip_suffix(padding));
        value = unpadded.unwrap_or(value);
    }
    // Room from the start: bytes that grow leave their beginning behind in freed memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(decoded_len_estimate(value.len())));
    BASE64
        .decode_vec(value, &mut bytes)
        .map_err(|_| UriError::Base64(name))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "__79AwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const SALT: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

    #[test]
    fn as_the_original_writes_it() {
        let uri = format!("kms://cluster-kms?key={KEY}&salt={SALT}");
        let (secret, salt) = parse_kms(&uri).unwrap();
        assert_eq!(secret.expose_bytes()[..4], [0xff, 0xfe, 0xfd, 0x03]);
        assert_eq!(*expose_cluster_kms(&secret, &salt), uri);
        // Escaped or missing padding and the other order are the same URI to the original's decoder.
        for other in [
            format!("kms://cluster-kms?salt={SALT}&key={KEY}"),
            format!(
                "kms://cluster-kms?key={}&salt={SALT}",
                KEY.replace('=', "%3D")
            ),
            format!("kms://cluster-kms?key={}&salt={SALT}", KEY.replace('=', "")),
        ] {
            assert_eq!(
                parse_kms(&other),
                Ok((
                    MasterSecret::from_vec(secret.expose_bytes().to_vec()).unwrap(),
                    Salt::from_vec(salt.expose_bytes().to_vec()).unwrap()
                )),
                "{other}"
            );
        }
    }

    #[test]
    fn refusals() {
        let cluster = |query: String| format!("kms://cluster-kms?{query}");
        for (uri, expected) in [
            (
                "kms://aws?region=x&accessKey=SECRET".to_owned(),
                "kms://aws is not supported: the only one is kms://cluster-kms",
            ),
            (
                "kms://SECRET".to_owned(),
                "this key management URI is not supported: the only one is kms://cluster-kms",
            ),
            (
                cluster(format!("key={KEY}")),
                "the key management URI has no \"salt\"",
            ),
            (
                cluster(format!("salt={SALT}")),
                "the key management URI has no \"key\"",
            ),
            (
                cluster(format!("key={KEY}&key={KEY}&salt={SALT}")),
                "the key management URI has \"key\" twice",
            ),
            (
                cluster(format!("key={KEY}&salt={SALT}&SECRET=1")),
                "the key management URI has a parameter other than \"key\" and \"salt\"",
            ),
            (
                cluster(format!("key=SECRET/+&salt={SALT}")),
                "\"key\" of the key management URI is not base64url",
            ),
            (
                cluster(format!("key={KEY}==&salt={SALT}")),
                "\"key\" of the key management URI is not base64url",
            ),
            (
                cluster(format!("key=__79%3DAwQF&salt={SALT}")),
                "\"key\" of the key management URI is not base64url",
            ),
            (
                cluster(format!("key=AAEC&salt={SALT}")),
                "wrong length in the key management URI",
            ),
            (
                cluster(format!("key={KEY}&salt=AAEC")),
                "wrong length in the key management URI",
            ),
            (
                cluster("A".repeat(LONGEST)),
                "this key management URI is not supported: the only one is kms://cluster-kms",
            ),
        ] {
            assert_eq!(parse_kms(&uri).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn storage() {
        assert_eq!(parse_storage(NO_STORE), Ok(()));
        assert_eq!(
            parse_storage("storage://gcp?projectID=SECRET")
                .unwrap_err()
                .to_string(),
            "storage://gcp is not supported: the only one is storage://no-store"
        );
        assert!(parse_storage("storage://no-store?").is_err());
    }
}
