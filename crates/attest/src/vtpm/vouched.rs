//! What the variants with a vendor behind them have in common: the vendors' statements for one machine, out of its document and of what
//! the verifier has.

use crate::appraise::Question;
use crate::policy::platform::PlatformError;
use crate::sev_snp::{Candidates, ReportFields};
use crate::tdx::{self, Quote};
use crate::verdict::{Check, CheckName, Findings, Outcome, RefusalCode, Step, Stop, with_sources};
use crate::x509::{Certificate, Name};
use crate::{Trust, sev_snp};

/// Authorities between a key's certificate and its root: the document's, and a few of the verifier's.
const MAX_BETWEEN: usize = 8;
const NEXT: &str = "give the verifier what the vendor states about this machine (`constellation collateral fetch`), or let the machine send it";

/// What the policy demands of the platform.
pub(crate) fn demanded<T>(
    findings: &mut Findings,
    requirements: Result<T, PlatformError>,
) -> Result<T, Stop> {
    requirements.map_err(|error| {
        findings.fail(
            RefusalCode::Platform,
            Check {
                expected: Some("a policy that says what the platform must be".into()),
                actual: Some(with_sources(&error).into()),
                next_step: Some("write into the policy what is demanded of the platform".into()),
                ..Check::new(Step::Platform, CheckName::ReferenceValues, Outcome::Failed)
            },
        )
    })
}

/// The certificates of a document, which its machine answers for: one that cannot be read is a document that cannot be.
pub(crate) fn certificates(
    findings: &mut Findings,
    ders: &[Vec<u8>],
) -> Result<Vec<Certificate>, Stop> {
    let parsed: Result<_, _> = ders.iter().map(|der| Certificate::parse(der)).collect();
    findings.parse_again(Step::Document, CheckName::DocumentFormat, parsed)
}

/// AMD's statements about the key that signed a report. Its own come first: of masked chips at one level nothing else tells the keys apart, and
/// not all that a site knows are tried.
pub(crate) fn amd<'a>(
    question: &Question<'a>,
    report: Option<&ReportFields>,
    certificates: &'a [Certificate],
) -> Candidates<'a> {
    let given = question.trust.endorsements;
    Candidates::of_report(
        report,
        certificates.iter().chain(given.certificates()),
        given.crls(),
    )
}

pub(crate) const fn amd_trust<'a>(trust: &Trust<'a>) -> sev_snp::Trust<'a> {
    sev_snp::Trust {
        roots: &trust.roots.amd,
        cache: trust.cache,
        now: trust.now,
    }
}

pub(crate) const fn intel_trust<'a>(trust: &Trust<'a>) -> tdx::Trust<'a> {
    tdx::Trust {
        roots: &trust.roots.intel,
        cache: trust.cache,
        now: trust.now,
    }
}

/// Intel's statements about the platform that a quote names.
pub(crate) fn intel(
    question: &Question<'_>,
    quote: &[u8],
    findings: &mut Findings,
) -> Result<tdx::Endorsements, Stop> {
    let parsed = Quote::parse(quote);
    let fmspc = parsed.as_ref().ok().and_then(Quote::claimed_fmspc);
    let given = question.trust.endorsements;
    let (sets, lists, now) = (given.intel(), given.crls(), question.trust.now);
    if let Some(set) = tdx::Endorsements::about(fmspc, now, sets, &[], lists) {
        return Ok(set);
    }
    findings.parse(
        Step::Document,
        CheckName::Tdx(tdx::CheckName::QuoteFormat),
        parsed,
    )?;
    let platform = fmspc.map_or_else(|| "not named".to_owned(), hex::encode);
    Err(missing(
        findings,
        &format!("Intel's TCB info, QE identity and revocation lists for the platform {platform}"),
    ))
}

/// A machine about which the vendor's word is not at hand.
pub(crate) fn missing(findings: &mut Findings, what: &str) -> Stop {
    findings.fail(
        RefusalCode::NotAuthentic,
        Check {
            expected: Some(what.into()),
            actual: Some("neither in the evidence nor given to the verifier".into()),
            next_step: Some(NEXT.into()),
            ..Check::new(
                Step::Endorsements,
                CheckName::EndorsementsGiven,
                Outcome::Failed,
            )
        },
    )
}

/// The authorities that may lie between a key's certificate and its root: the document's, and of the verifier's those that are named.
pub(crate) fn between(
    question: &Question<'_>,
    certificate: &[u8],
    of_document: &[Certificate],
) -> Vec<Certificate> {
    let is_between = |it: &&Certificate| it.is_ca() && !it.is_self_issued();
    let leaf = Certificate::parse_prefix(certificate)
        .ok()
        .map(|(it, _)| it);
    let mut found: Vec<&Certificate> = of_document.iter().filter(is_between).collect();
    let mut issuers: Vec<&Name> = leaf
        .iter()
        .chain(found.iter().copied())
        .map(Certificate::issuer)
        .collect();
    let mut looked_at = 0;
    while let Some(name) = issuers.get(looked_at).copied() {
        looked_at += 1;
        let given = question.trust.endorsements.certificates().iter();
        for authority in given.filter(is_between).filter(|it| it.subject() == name) {
            if found.len() < MAX_BETWEEN && !found.contains(&authority) {
                found.push(authority);
                issuers.push(authority.issuer());
            }
        }
    }
    found.into_iter().cloned().collect()
}
