//! What a certificate in the evidence says about what is needed: product line, and where its issuer's list is.

use attest::sev_snp::VekKind;
use attest::x509::Certificate;

use crate::item::Product;

/// Distribution points. RFC 5280, section 4.2.1.13.
const DISTRIBUTION_POINTS: &str = "2.5.29.31";
/// Tag of a URI among general names.
const URI: u8 = 0x86;
/// The most URLs of one certificate.
const MAX_URLS: usize = 4;

/// Whether a certificate has this common name.
pub(super) fn is_named(certificate: &Certificate, name: &str) -> bool {
    certificate.subject().common_name() == Some(name)
}

/// The product line of a VCEK or VLEK, by who issued it.
pub(super) fn product_of(certificate: &Certificate) -> Option<Product> {
    let kind = VekKind::from_common_name(certificate.subject().common_name()?)?;
    let issuer = certificate.issuer().common_name()?;
    kind.line_of_issuer(issuer).map(Product::from)
}

/// Where the list of a certificate's issuer is published. Finds the URLs by their tag, wherever they are in the extension.
pub(super) fn distribution_points(certificate: &Certificate) -> Vec<String> {
    let mut rest = certificate
        .extension(DISTRIBUTION_POINTS)
        .unwrap_or_default();
    let mut urls = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != URI || urls.len() == MAX_URLS {
            continue;
        }
        let text = match after {
            [0x81, length, text @ ..] | [length @ 0..=0x7f, text @ ..] => {
                text.get(..usize::from(*length)).unwrap_or_default()
            }
            _ => &[],
        };
        if text.starts_with(b"http") {
            urls.push(String::from_utf8_lossy(text).into_owned());
        }
    }
    urls
}
