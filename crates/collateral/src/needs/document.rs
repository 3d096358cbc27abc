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
/// When the document, or a quote in it, can not be read. Its appraisal says what is wrong with it.
pub fn needs_of(evidence: &Evidence, update: Update) -> Result<Needs, NeedsError> {
    let mut pieces = pieces(evidence)?;
    match needs(&pieces, None, update) {
        // the other parts have needs of their own
        Err(error @ NeedsError::Product { .. }) => {
            pieces.retain(|piece| !matches!(piece, Piece::SnpReport(_)));
            let mut needs = needs(&pieces, None, update)?;
            needs.unmet.insert(error.to_string());
            Ok(needs)
        }
        needs => needs,
    }
}

fn pieces(evidence: &Evidence) -> Result<Vec<Piece>, NeedsError> {
    let bytes = evidence.document();
    let wrong = |error: DocumentError| NeedsError::Document(error.to_string());
    Ok(match evidence.variant() {
        // nobody vouches for it
        Variant::QemuVtpm => Vec::new(),
        Variant::AzureSevSnp => {
            let document = azure::SevSnpDocument::parse(bytes).map_err(wrong)?;
            let mut pieces = vec![of_report(&document.certificates)];
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
                of_report(&document.snp_certificates),
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
fn certificates(ders: &[Vec<u8>]) -> impl Iterator<Item = Certificate> {
    ders.iter().filter_map(|der| Certificate::parse(der).ok())
}

fn of_report(ders: &[Vec<u8>]) -> Piece {
    Piece::SnpCertificates(certificates(ders).collect())
}

/// The certificate of an attestation key and the authorities above it, which came along or are built in, as far as the vendor's roots lead to
/// them by their signatures: nobody else's certificate is to name what is fetched. The roots, which nothing can revoke, are not among
/// them. Padding of an NV area may follow the first.
fn path(ak: &[u8], of_document: &[Vec<u8>], authorities: &AkAuthorities) -> Piece {
    let mut left: Vec<Certificate> = authorities.intermediates().to_vec();
    left.extend(certificates(of_document));
    let mut issuers = authorities.roots().to_vec();
    loop {
        let (next, others): (Vec<_>, Vec<_>) = left
            .into_iter()
            .partition(|it| issuers.iter().any(|issuer| it.is_made_by(issuer)));
        left = others;
        if next.is_empty() {
            break;
        }
        issuers.extend(next);
    }
    let mut found: Vec<Certificate> = Certificate::parse_prefix(ak)
        .into_iter()
        .map(|(leaf, _)| leaf)
        .filter(|leaf| issuers.iter().any(|issuer| leaf.is_made_by(issuer)))
        .collect();
    issuers.retain(|it| !authorities.roots().contains(it));
    let mut looked_at = 0;
    while let Some(below) = found.get(looked_at).cloned() {
        looked_at += 1;
        for issuer in issuers.iter().filter(|it| below.is_made_by(it)) {
            if !found.contains(issuer) {
                found.push(issuer.clone());
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

    #[test]
    fn a_path_leads_to_a_root_without_it() {
        let google = gcp::authorities();
        let [first, ..] = google.intermediates() else {
            panic!("no authority is built in");
        };
        // all of them once more, the roots, which issue themselves, among them
        let ders: Vec<Vec<u8>> = google
            .intermediates()
            .iter()
            .chain(google.roots())
            .map(|it| it.der().to_vec())
            .collect();
        let found = |ak: &Certificate, authorities| path(ak.der(), &ders, authorities);
        assert_eq!(
            found(first, &google),
            Piece::Certificates(vec![first.clone()])
        );
        let nobodys = found(first, &azure::authorities());
        assert_eq!(nobodys, Piece::Certificates(Vec::new()));
    }
}
