//! A SEV-SNP report and the certificate of its key, one after the other as a peer sends them.
#![cfg_attr(fuzzing, no_main)]

use attest::Findings;
use attest::sev_snp::{
    AcceptedKeys, AcceptedLine, AcceptedLines, Endorsements, IdKeyDigests, LaunchMeasurements,
    PlatformInfo, ProductLine, REPORT_SIZE, Report, ReportData, Requirements, RevocationDemand,
    Roots, Tcb, Trust, VekExtensions, VekKind, appraise,
};
use attest::x509::{Certificate, PathCache};

fuzz::fuzz_target!(|bytes: &[u8]| {
    let (report, vek) = bytes.split_at(bytes.len().min(REPORT_SIZE));
    let parsed = Report::parse(report);
    let Ok(certificate) = Certificate::parse(vek) else {
        return;
    };
    for kind in [VekKind::Vcek, VekKind::Vlek] {
        for line in ProductLine::ALL {
            drop(VekExtensions::read(kind, line, |oid| {
                certificate.extension(oid)
            }));
        }
    }
    let report_data = parsed.map_or([0; 64], |report| report.fields().report_data);
    let mut findings = Findings::new();
    let appraised = appraise(
        report,
        &Endorsements {
            vek,
            signing: &[],
            crls: &[],
        },
        &lenient(),
        &ReportData::new(report_data),
        &Trust {
            roots: &Roots::amd(),
            cache: &PathCache::default(),
            now: certificate.not_before(),
        },
        &mut findings,
    );
    assert_eq!(appraised.is_ok(), findings.refusal_code().is_none());
    drop(findings.to_string());
});

/// So that whole evidence of the seeds reaches every check.
fn lenient() -> Requirements {
    let lines = ProductLine::ALL.map(|line| {
        let minimum = match line {
            ProductLine::Milan | ProductLine::Genoa => Tcb::milan_genoa(1, 0, 0, 0),
            ProductLine::Turin => Tcb::turin(1, 0, 0, 0, 0),
        };
        AcceptedLine::new(line, minimum, minimum).expect("a minimum of the line")
    });
    Requirements::new(
        AcceptedLines::new(lines).expect("each line once"),
        LaunchMeasurements::NotChecked,
        IdKeyDigests::NotDemanded,
    )
    .keys(AcceptedKeys::Either)
    .allow_smt()
    .allow_provisional_firmware()
    .platform_info(PlatformInfo::NONE)
    .revocation(RevocationDemand::Warn)
}
