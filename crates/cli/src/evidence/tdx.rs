//! Quotes of trust domains.

use attest::event_log::{Bank, Quoted};
use attest::policy::Generation;
use attest::tdx::{
    Accepted, Advisories, CheckName, Endorsements, Launch, Quote, ReportData, Requirements, Roots,
    SeptVe, TdAttributes, Trust, appraise,
};
use attest::x509::PathCache;
use attest::{CheckName as AnyCheck, Findings, Step};

use super::{End, Question, log, needs, warn_of_no_policy, warn_of_replay};
use crate::failure::Failure;

pub(super) fn verify(
    question: &Question,
    generation: Option<&Generation>,
    findings: &mut Findings,
) -> Result<(), End> {
    let bytes = question.files.need(&["quote.bin", "quote.dat"])?;
    let endorsements = endorsements(question, bytes, findings)?;
    let claimed = Quote::parse(bytes)
        .ok()
        .map(|quote| *quote.body().report_data.as_bytes());
    // of a quote that does not parse none are compared
    let report_data = question.report_data.or(claimed).unwrap_or([0; 64]);
    let appraised = appraise(
        bytes,
        &endorsements,
        &requirements(question, generation)?,
        &ReportData::new(report_data),
        &Trust {
            roots: &Roots::intel(),
            cache: &PathCache::default(),
            now: question.now,
        },
        findings,
    )?;
    if question.report_data.is_none() {
        let name = AnyCheck::Tdx(CheckName::ReportData);
        warn_of_replay(
            findings,
            (Step::Report, name),
            &report_data,
            "--report-data",
        );
    }
    if let Some(area) = question.files.get(&["ccel.bin"]) {
        let rtmrs = appraised.rtmrs().map(|rtmr| *rtmr.as_bytes());
        log::hold_against(area, Bank::Sha384, &Quoted::rtmrs(&rtmrs), findings)?;
    }
    if generation.is_none() {
        warn_of_no_policy(findings, "MRTD, RTMRs and the owner's values");
    }
    Ok(())
}

/// Intel's statements about the platform that the quote names.
pub(super) fn endorsements(
    question: &Question,
    quote: &[u8],
    findings: &mut Findings,
) -> Result<Endorsements, End> {
    let parsed = Quote::parse(quote);
    let fmspc = parsed.as_ref().ok().and_then(Quote::claimed_fmspc);
    let set = Endorsements::about(
        fmspc,
        question.now,
        question.given.intel(),
        question.beside.intel(),
        &question.crls,
    );
    if let Some(set) = set {
        return Ok(set);
    }
    findings.parse(
        Step::Document,
        AnyCheck::Tdx(CheckName::QuoteFormat),
        parsed,
    )?;
    let platform = fmspc.map_or_else(|| "not named".to_owned(), hex::encode);
    Err(needs(
        findings,
        &format!("Intel's TCB info, QE identity and revocation lists for the platform {platform}"),
        "`constellation collateral fetch --dir CACHE DIR` gets it, and `--endorsements CACHE` gives it",
    ))
}

/// What the policy demands; without one, a platform that is up to date by Intel's word, and no debugging.
pub(super) fn requirements(
    question: &Question,
    generation: Option<&Generation>,
) -> Result<Requirements, Failure> {
    if let (Some(policy), Some(generation)) = (&question.policy, generation) {
        return policy
            .tdx_requirements(generation)
            .map_err(|error| Failure::config("the policy").because(error));
    }
    Ok(Requirements {
        sept_ve: SeptVe::GuestGuardsItself,
        attributes: TdAttributes::PKS | TdAttributes::PERFMON,
        // those of a level that Intel calls up to date
        advisories: Advisories::Any,
        mr_service_td: Accepted::Open,
        ..Requirements::new(Launch {
            mrtd: Accepted::Open,
            rtmrs: [const { Accepted::Open }; 4],
        })
    })
}
