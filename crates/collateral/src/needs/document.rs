//! What the evidence of a cluster's machine needs, by the document that it sends.

use attest::tpm::AkAuthorities;
use attest::vtpm::DocumentError;
use attest::x509::Certificate;
use attest::{Evidence, Variant, azure, gcp};

use super::{Needs, NeedsError, Piece, SnpReport, TdxQuote, needs};
use crate::item::Update;

/// What a machine's evidence needs. `update` chooses between Intel's two statements.
///
/// # Errors
/// When the document, or what is in it, can not be read. Its appraisal says what is wrong with it.
pub fn needs_of(evidence: &Evidence, update: Update) -> Result<Needs, NeedsError> {
    needs(&pieces(evidence)?, None, update)
}

fn pieces(evidence: &Evidence) -> Result<Vec<Piece>, NeedsError> {
    let bytes = evidence.document();
    let wrong = |error: DocumentError| NeedsError::Document(error.to_string());
    Ok(match evidence.variant() {
        // nobody vouches for it
        Variant::QemuVtpm => Vec::new(),
        Variant::AzureSevSnp => {
            let document = azure::SevSnpDocument::parse(bytes).map_err(wrong)?;
            let mut pieces = vec![certificates(&document.certificates)];
            pieces.extend(report(&document.hcl_report));
            pieces
        }
        Variant::AzureTdx => {
            let document = azure::TdxDocument::parse(bytes).map_err(wrong)?;
            vec![quote(&document.td_quote)?]
        }
        Variant::AzureTrustedLaunch => {
            let document = azure::TrustedLaunchDocument::parse(bytes).map_err(wrong)?;
            let ak = &document.ak_certificate;
            vec![path(ak, &document.certificates, &azure::authorities())]
        }
        Variant::GcpSevEs => {
            let document = gcp::SevEsDocument::parse(bytes).map_err(wrong)?;
            let ak = &document.ak_certificate;
            vec![path(ak, &document.certificates, &gcp::authorities())]
        }
        Variant::GcpSevSnp => {
            let document = gcp::SevSnpDocument::parse(bytes).map_err(wrong)?;
            let ak = &document.ak_certificate;
            let mut pieces = vec![
                path(ak, &document.certificates, &gcp::authorities()),
                certificates(&document.snp_certificates),
            ];
            pieces.extend(report(&document.snp_report));
            pieces
        }
        Variant::GcpTdx => {
            let document = gcp::TdxDocument::parse(bytes).map_err(wrong)?;
            let ak = &document.ak_certificate;
            vec![
                path(ak, &document.certificates, &gcp::authorities()),
                quote(&document.td_quote)?,
            ]
        }
    })
}

/// A report of AMD's, alone or in a paravisor's; nothing else, whatever stands there.
fn report(bytes: &[u8]) -> Option<Piece> {
    SnpReport::find(bytes).map(Piece::SnpReport)
}

fn quote(bytes: &[u8]) -> Result<Piece, NeedsError> {
    TdxQuote::parse(bytes).map(Piece::TdxQuote)
}

/// Those that can be read.
fn certificates(ders: &[Vec<u8>]) -> Piece {
    let parsed = ders.iter().filter_map(|der| Certificate::parse(der).ok());
    Piece::Certificates(parsed.collect())
}

/// The certificate of an attestation key, and of its authorities those whose names lead on from it: what is built in of the vendor's, which
/// names the root's list, and what came along, which is as little as a document holds. No other bound: certificates that only have a name of
/// the path must not take the place of those that are of it. Padding of an NV area may follow the first.
fn path(ak: &[u8], of_document: &[Vec<u8>], authorities: &AkAuthorities) -> Piece {
    let came = of_document
        .iter()
        .filter_map(|der| Certificate::parse(der).ok());
    let others: Vec<Certificate> = authorities
        .intermediates()
        .iter()
        .cloned()
        .chain(came)
        .collect();
    let leaf = Certificate::parse_prefix(ak).ok().map(|(it, _)| it);
    let mut found: Vec<Certificate> = leaf.into_iter().collect();
    let mut looked_at = 0;
    while let Some(issuer) = found.get(looked_at).map(|it| it.issuer().clone()) {
        looked_at += 1;
        for next in others.iter().filter(|it| *it.subject() == issuer) {
            if !found.contains(next) {
                found.push(next.clone());
            }
        }
    }
    Piece::Certificates(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::item::CrlUrl;
    use crate::needs::certificate::distribution_points;
    use crate::settings::CrlOrigin;

    /// A list that is named and may not be fetched would be missed for ever.
    #[test]
    fn the_lists_of_built_in_authorities_may_be_fetched() {
        for authorities in [azure::authorities(), gcp::authorities()] {
            let urls: Vec<String> = authorities
                .intermediates()
                .iter()
                .flat_map(distribution_points)
                .collect();
            assert!(!urls.is_empty());
            for url in urls {
                let parsed = CrlUrl::parse(&url).unwrap();
                assert!(
                    CrlOrigin::known().iter().any(|it| it.covers(&parsed)),
                    "{url}"
                );
            }
        }
    }

    /// Issuers that name each other end.
    #[test]
    fn a_path_of_names_has_an_end() {
        let google = gcp::authorities();
        let [first, ..] = google.intermediates() else {
            panic!("no authority is built in");
        };
        let ders: Vec<Vec<u8>> = google
            .intermediates()
            .iter()
            .chain(google.roots())
            .map(|it| it.der().to_vec())
            .collect();
        let Piece::Certificates(found) = path(first.der(), &ders, &google) else {
            panic!("a path is certificates");
        };
        let known = google.intermediates().len() + google.roots().len();
        assert!(found.len() <= known, "each once: {}", found.len());
        assert_eq!(found.first(), Some(first));
        let root = google.roots().iter().find(|it| found.contains(it));
        assert!(root.is_some(), "the root came along and issues itself");
    }
}
