//! Evidence of NVIDIA GPUs.

use std::collections::{BTreeMap, BTreeSet};

use attest::nvidia::{Evidence, NONCE_LENGTH, Report, Requirements, Roots, Sha384, appraise};
use attest::x509::Revocation;
use attest::{CheckName, Findings, RefusalCode, Step, nvidia};

use super::{End, Question, impossible, warn_of_no_policy, warn_of_replay};
use crate::failure::Failure;

pub(super) fn verify(question: &Question, findings: &mut Findings) -> Result<(), End> {
    let evidence = Evidence {
        report: question.files.need(&["report.bin"])?,
        chain: question.files.need(&["chain.pem"])?,
    };
    let report = Report::parse(evidence.report).ok();
    let asked: Option<[u8; NONCE_LENGTH]> =
        match &question.nonce {
            None => None,
            Some(nonce) => Some(nonce.as_slice().try_into().map_err(|_| {
                Failure::usage(format!("--nonce has {NONCE_LENGTH} bytes for a GPU"))
            })?),
        };
    let own = report.as_ref().map(|report| *report.nonce());
    let requirements = as_it_says(report.as_ref(), findings)?;
    appraise(
        &evidence,
        Roots::nvidia(),
        &Revocation::DangerousNotLookedAt,
        &requirements,
        // of a report that does not parse none is compared
        &asked.or(own).unwrap_or([0; NONCE_LENGTH]),
        question.now,
        findings,
    )?;
    findings.warn(
        Step::Endorsements,
        CheckName::EndorsementsGiven,
        "NVIDIA's word that the certificates are not revoked",
        "not asked for: NVIDIA answers for each certificate (OCSP)",
        "a device that NVIDIA revoked would pass",
    );
    if asked.is_none() {
        let name = CheckName::Nvidia(nvidia::CheckName::Nonce);
        warn_of_replay(
            findings,
            (Step::Report, name),
            &own.unwrap_or_default(),
            "--nonce",
        );
    }
    warn_of_no_policy(findings, "driver, VBIOS and measurements");
    Ok(())
}

/// Demands what the report states, since NVIDIA's reference values are not at hand: they are published for each version.
fn as_it_says(report: Option<&Report>, findings: &mut Findings) -> Result<Requirements, End> {
    let mut measurements: BTreeMap<u8, BTreeSet<Sha384>> = BTreeMap::new();
    for index in report.into_iter().flat_map(Report::indexes) {
        let value = report.and_then(|report| report.measurement(index));
        if let Some(value) = value.and_then(|value| value.try_into().ok()) {
            measurements.entry(index).or_default().insert(value);
        }
    }
    let driver = report.and_then(Report::driver).map(str::to_owned);
    let vbios = report.and_then(Report::vbios);
    if let (Some(_), true) = (
        report,
        measurements.is_empty() || driver.is_none() || vbios.is_none(),
    ) {
        findings.demand(
            Step::Platform,
            CheckName::ReferenceValues,
            RefusalCode::Platform,
            false,
            "a report with measurements and the versions of driver and VBIOS",
            "one without",
            "a report that states nothing proves nothing",
        )?;
    }
    // of a report that does not parse nothing is compared
    measurements.entry(0).or_default().insert([0xff; 48]);
    if report.is_some() {
        measurements.retain(|_, values| !values.contains(&[0xff; 48]));
    }
    Requirements::new(
        measurements,
        BTreeSet::from([driver.unwrap_or_default()]),
        BTreeSet::from([vbios.unwrap_or_default()]),
    )
    .map_err(impossible)
}
