//! What the evidence of a cluster's machine needs, by the document that it sends.

use attest::vtpm::DocumentError;
use attest::x509::Certificate;
use attest::{Evidence, Variant, azure, gcp};

use super::{Needs, NeedsError, Piece, TdxQuote, needs};
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
            hardware(&document.hcl_report)?
                .into_iter()
                .chain(certificates([&document.certificates]))
                .collect()
        }
        Variant::AzureTdx => {
            let document = azure::TdxDocument::parse(bytes).map_err(wrong)?;
            vec![quote(&document.td_quote)?]
        }
        Variant::AzureTrustedLaunch => {
            let document = azure::TrustedLaunchDocument::parse(bytes).map_err(wrong)?;
            let ak = [document.ak_certificate];
            certificates([ak.as_slice(), &document.certificates])
        }
        Variant::GcpSevEs => {
            let document = gcp::SevEsDocument::parse(bytes).map_err(wrong)?;
            let ak = [document.ak_certificate];
            certificates([ak.as_slice(), &document.certificates])
        }
        Variant::GcpSevSnp => {
            let document = gcp::SevSnpDocument::parse(bytes).map_err(wrong)?;
            let ak = [document.ak_certificate];
            hardware(&document.snp_report)?
                .into_iter()
                .chain(certificates([
                    ak.as_slice(),
                    &document.certificates,
                    &document.snp_certificates,
                ]))
                .collect()
        }
        Variant::GcpTdx => {
            let document = gcp::TdxDocument::parse(bytes).map_err(wrong)?;
            let ak = [document.ak_certificate];
            let mut pieces = certificates([ak.as_slice(), &document.certificates]);
            pieces.push(quote(&document.td_quote)?);
            pieces
        }
    })
}

/// A report of AMD's, alone or in a paravisor's.
fn hardware(report: &[u8]) -> Result<Option<Piece>, NeedsError> {
    Piece::recognise(report)
}

fn quote(bytes: &[u8]) -> Result<Piece, NeedsError> {
    TdxQuote::parse(bytes).map(Piece::TdxQuote)
}

/// Those that can be read; padding of an NV area may follow one.
fn certificates<const N: usize>(lists: [&[Vec<u8>]; N]) -> Vec<Piece> {
    let found: Vec<Certificate> = lists
        .into_iter()
        .flatten()
        .filter_map(|der| Certificate::parse_prefix(der).ok())
        .map(|(certificate, _)| certificate)
        .collect();
    vec![Piece::Certificates(found)]
}
