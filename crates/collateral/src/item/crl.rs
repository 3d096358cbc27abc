//! Where a revocation list is published.

use std::fmt;

use url::Url;

use super::ItemError;

/// Longest URL of a revocation list.
const MAX_URL: usize = 512;

/// A URL that is fit to be one of a revocation list: http or https, a host's name, no user, no fragment. That it is well
/// formed does not mean that anything is fetched from there: [`crate::Settings`] has the origins that are allowed.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CrlUrl(String);

impl CrlUrl {
    /// Of a certificate's distribution point, in its canonical spelling.
    pub fn parse(text: &str) -> Result<Self, ItemError> {
        if text.len() > MAX_URL || !text.is_ascii() {
            return Err(ItemError::Url);
        }
        let url = Url::parse(text).map_err(|_| ItemError::Url)?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.host_str().is_some_and(|host| !host.is_empty())
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none();
        let text = String::from(url);
        if plain && text.len() <= MAX_URL {
            Ok(Self(text))
        } else {
            Err(ItemError::Url)
        }
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CrlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CrlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CrlUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_urls_of_the_web_are_taken() {
        for text in [
            "http://pki.goog/cloud_integrity/tpm_ek_root_1.crl",
            "http://www.microsoft.com/pkiops/crl/Azure%20Virtual%20TPM%20Root%20Certificate%20Authority%202023.crl",
        ] {
            assert_eq!(CrlUrl::parse(text).unwrap().as_str(), text);
        }
        let long = format!("http://pki.goog/{}", "a".repeat(MAX_URL));
        for text in [
            "",
            "pki.goog/a.crl",
            "ldap://pki.goog/a.crl",
            "file:///etc/passwd",
            "http://user@pki.goog/a.crl",
            "http://user:word@pki.goog/a.crl",
            "http://pki.goog/a.crl#b",
            "http://pki.goög/a.crl",
            &long,
        ] {
            assert_eq!(CrlUrl::parse(text), Err(ItemError::Url), "{text:?}");
        }
    }
}
