//! Certificates that makers of TPMs give to keys.

use attest::gcp;
use attest::tpm::ek::{Purpose, Roots, appraise_certificate};
use attest::x509::{Certificate, MAX_INTERMEDIATES, Revocation};
use attest::{CheckName, Findings, Step};

use super::{End, Question};

pub(super) fn verify(question: &Question, findings: &mut Findings) -> Result<(), End> {
    let area = question.files.need(&["cert.der", "cert.pem"])?;
    let pem = Certificate::chain_from_pem(area, MAX_INTERMEDIATES);
    let leaf = match &pem {
        Ok(chain) => chain.first().map_or(area, Certificate::der),
        Err(_) => area,
    };
    let purpose = Certificate::parse_prefix(leaf)
        .ok()
        .and_then(|(certificate, _)| Purpose::claimed_by(&certificate))
        .unwrap_or(Purpose::Endorsement);
    let google = gcp::authorities();
    // a root that came with the evidence proves nothing
    let given = question.given.certificates().iter();
    let mut roots: Vec<Certificate> = given
        .filter(|it| it.is_self_issued() && it.is_ca())
        .cloned()
        .collect();
    roots.extend_from_slice(google.roots());
    let beside = question.beside.certificates().iter();
    let known = google.intermediates().iter();
    let mut intermediates: Vec<Certificate> = Vec::new();
    for certificate in beside.chain(question.given.certificates()).chain(known) {
        let is_between = certificate.is_ca() && !certificate.is_self_issued();
        if is_between && !intermediates.contains(certificate) {
            intermediates.push(certificate.clone());
        }
    }
    intermediates.truncate(MAX_INTERMEDIATES);
    let crls = &question.crls;
    let is_of_maker = roots
        .iter()
        .chain(&intermediates)
        .any(|it| crls.iter().any(|crl| crl.issuer() == it.subject()));
    let revocation = if is_of_maker {
        Revocation::Demand(crls)
    } else {
        Revocation::DangerousNotLookedAt
    };
    appraise_certificate(
        leaf,
        &intermediates,
        &Roots::new(roots),
        &revocation,
        purpose,
        question.now,
        findings,
    )?;
    if !is_of_maker {
        findings.warn(
            Step::Endorsements,
            CheckName::EndorsementsGiven,
            "the maker's revocation lists",
            "none was given",
            "a certificate that the maker revoked would pass: give its lists with --endorsements, if it publishes some",
        );
    }
    findings.warn(
        Step::Key,
        CheckName::Freshness,
        "a TPM that answers a challenge with this key",
        "a certificate alone, which anybody can copy",
        "let the TPM activate a credential before you believe that it is the one",
    );
    Ok(())
}
