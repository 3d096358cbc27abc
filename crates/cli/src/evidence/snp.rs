//! Reports of SEV-SNP.

use attest::policy::Generation;
use attest::sev_snp::{
    AcceptedKeys, AcceptedLine, AcceptedLines, Candidates, IdKeyDigests, LaunchMeasurements,
    PlatformInfo, ProductLine, Report, ReportData, ReportFields, Requirements, RequirementsError,
    RevocationDemand, Roots, Tcb, Trust, Vmpl, appraise,
};
use attest::x509::PathCache;
use attest::{CheckName, Findings, Step, sev_snp};

use super::{End, Question, impossible, needs, warn_of_no_policy, warn_of_replay};
use crate::arguments::EvidenceVariant;
use crate::failure::Failure;

const NEXT: &str =
    "`constellation collateral fetch --dir CACHE DIR` gets it, and `--endorsements CACHE` gives it";

pub(super) fn verify(
    question: &Question,
    generation: Option<&Generation>,
    findings: &mut Findings,
) -> Result<(), End> {
    let bytes = question.files.need(&["report.bin"])?;
    let report = Report::parse(bytes).ok();
    let fields = report.as_ref().map(Report::fields);
    let keys = if question.variant == EvidenceVariant::SnpVlek {
        AcceptedKeys::Vlek
    } else {
        AcceptedKeys::Vcek
    };
    let requirements = requirements(question, generation)?
        .map_or_else(|| baseline(fields).map(|baseline| baseline.keys(keys)), Ok);
    let requirements = requirements.map_err(impossible)?;
    let report_data = question.report_data.or(fields.map(|it| it.report_data));
    // of a report that does not parse none are compared
    let report_data = ReportData::new(report_data.unwrap_or([0; 64]));
    let appraised = candidates(question, fields).try_each(findings, |endorsements, findings| {
        let trust = Trust {
            roots: &Roots::amd(),
            cache: &PathCache::default(),
            now: question.now,
        };
        appraise(
            bytes,
            endorsements,
            &requirements,
            &report_data,
            &trust,
            findings,
        )
    });
    appraised.ok_or_else(|| no_key(findings))??;
    if question.report_data.is_none() {
        let actual = fields.map_or(&[][..], |it| &it.report_data);
        let name = CheckName::Snp(sev_snp::CheckName::ReportData);
        warn_of_replay(findings, (Step::Report, name), actual, "--report-data");
    }
    if generation.is_none() {
        warn_of_open(findings, fields);
        warn_of_no_policy(
            findings,
            "firmware levels, guest policy and launch measurement",
        );
    }
    Ok(())
}

/// What AMD says of the key that signed `report`, from wherever it is.
pub(super) fn candidates<'a>(
    question: &'a Question,
    report: Option<&ReportFields>,
) -> Candidates<'a> {
    // as many are tried as there can honestly be, and the machine's own must be among them
    let beside = question.beside.certificates().iter();
    let all = beside.chain(question.given.certificates());
    match question.files.get(&["vek.der"]) {
        Some(vek) => Candidates::of_key(vek, all, &question.crls),
        None => Candidates::of_report(report, all, &question.crls),
    }
}

/// There is none.
pub(super) fn no_key(findings: &mut Findings) -> End {
    needs(
        findings,
        "AMD's certificate of the key that signed the report: vek.der",
        NEXT,
    )
}

/// What the policy demands, if there is one.
fn requirements(
    question: &Question,
    generation: Option<&Generation>,
) -> Result<Option<Requirements>, End> {
    let (Some(policy), Some(generation)) = (&question.policy, generation) else {
        return Ok(None);
    };
    policy
        .snp_requirements(generation)
        .map(Some)
        .map_err(|error| Failure::config("the policy").because(error).into())
}

/// What can be decided without a policy: everything that the evidence proves, no debugging, no migration. The privilege level
/// is what the report says, and [`warn_of_open`] tells it.
pub(super) fn baseline(fields: Option<&ReportFields>) -> Result<Requirements, RequirementsError> {
    let lowest = |line: ProductLine| {
        let least = match line {
            ProductLine::Milan | ProductLine::Genoa => Tcb::milan_genoa(0, 0, 0, 1),
            ProductLine::Turin => Tcb::turin(0, 0, 0, 0, 1),
        };
        AcceptedLine::new(line, least, least)
    };
    let lines = ProductLine::ALL
        .into_iter()
        .map(lowest)
        .collect::<Result<Vec<_>, _>>()?;
    let vmpl = fields
        .and_then(|it| u8::try_from(it.vmpl).ok())
        .and_then(|level| Vmpl::new(level).ok())
        .unwrap_or(Vmpl::ZERO);
    Ok(Requirements::new(
        AcceptedLines::new(lines)?,
        LaunchMeasurements::NotChecked,
        IdKeyDigests::NotDemanded,
    )
    .revocation(RevocationDemand::Warn)
    .platform_info(PlatformInfo::NONE)
    .vmpl(vmpl)
    .allow_smt()
    .allow_cxl()
    .allow_provisional_firmware())
}

/// What [`baseline`] lets pass and a policy would not.
pub(super) fn warn_of_open(findings: &mut Findings, fields: Option<&ReportFields>) {
    let Some(fields) = fields else { return };
    let mut warn = |name, expected: &str, actual: &str, next: &str| {
        findings.qualify(Step::Platform, CheckName::Snp(name), expected, actual, next);
    };
    if fields.vmpl != 0 {
        warn(
            sev_snp::CheckName::Vmpl,
            "privilege level 0",
            &format!("privilege level {}", fields.vmpl),
            "less privileged software than the first asked for this report: know which, and why it may",
        );
    }
    let check = PlatformInfo::ALIAS_CHECK_COMPLETE;
    if !fields.platform_info.contains(check) {
        warn(
            sev_snp::CheckName::PlatformInfo,
            &check.to_string(),
            &fields.platform_info.to_string(),
            "no word that memory modules do not alias (BadRAM): update the firmware of the host",
        );
    }
    if fields.current_tcb != fields.committed_tcb
        || fields.current_version != fields.committed_version
    {
        warn(
            sev_snp::CheckName::Firmware,
            "the firmware that runs is committed",
            "the host can go back to older firmware",
            "commit the firmware of the host",
        );
    }
}
