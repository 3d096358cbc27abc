//! `qemu-vtpm`: a TPM 2.0 without a hardware root.
//!
//! What it shows: some TPM quoted these PCRs over this binding. What it does not show: that the TPM is not a program in
//! the hands of the host. Its key is therefore trusted because the variant was chosen, and for no other reason
//! ([`trusted_key`]); every verdict says so.
//!
//! Steps, in this order, each believed only if the ones before it hold:
//! 1. the document is strict JSON of its one form,
//! 2. the key is a restricted signing key of its TPM,
//! 3. the statement is a quote made by a TPM over this binding, about all 24 PCRs of the SHA-256 bank, signed by the key,
//! 4. the PCR values in the document are the quoted ones,
//! 5. the event log leads to the quoted values,
//! 6. the PCRs are those of the policy: of its newer generation, or of the older one before its end,
//! 7. PCR 15 is the demanded cluster mark.

mod document;
mod report;

pub use crate::vtpm::DocumentError;
pub use document::Document;

use jiff::Timestamp;

use crate::component::{self, Hints};
use crate::event_log::EventLog;
use crate::tpm::{
    BankValues, HashAlgorithm, ObjectAttributes, PublicArea, QualifyingData, Selection, Signature,
    Statement, TrustedAk,
};
use crate::verdict::{CheckName, Refusal, RefusalCode, Step, Stop};
use crate::{
    Binding, ClusterMark, Digest, PcrIndex, PcrValues, Policy, PolicyDocument, Variant, Verified,
};

use report::Report;

pub(crate) fn appraise(
    bytes: &[u8],
    binding: &Binding,
    policy: &Policy,
    mark: &ClusterMark,
    now: Option<Timestamp>,
) -> Result<Verified, Refusal> {
    let mut report = Report::new(Variant::QemuVtpm, policy);
    match steps(&mut report, bytes, binding, policy, mark, now) {
        Ok((ak, quoted)) => report.verdict(ak.id(), quoted.pcrs, quoted.reset_count),
        Err(Stop { .. }) => Err(report.refusal()),
    }
}

/// Follows the steps of the module's head. Stops where nothing after a failed check could be believed; collects where
/// a person wants to see everything that differs.
fn steps(
    report: &mut Report,
    bytes: &[u8],
    binding: &Binding,
    policy: &Policy,
    mark: &ClusterMark,
    now: Option<Timestamp>,
) -> Result<(TrustedAk, Quoted), Stop> {
    let document = report.parse(
        Step::Document,
        CheckName::DocumentFormat,
        Document::parse(bytes),
    )?;
    let ak = trusted_key(report, &document)?;
    let quoted = quoted_values(report, &document, &ak, binding)?;
    let pcrs = &quoted.pcrs;

    let log = event_log(report, &document, pcrs);
    let hints = Hints {
        log: log.as_ref(),
        command_line: document.command_line.as_deref(),
    };
    measurements(report, policy.document(), now, pcrs, &hints);
    cluster_mark(report, mark, pcrs);
    Ok((ak, quoted))
}

/// Step 2. The only place where this variant decides to trust a key.
fn trusted_key(report: &mut Report, document: &Document) -> Result<TrustedAk, Stop> {
    let ak = report.parse(
        Step::Key,
        CheckName::KeyFormat,
        PublicArea::parse(&document.ak_public),
    )?;
    report.demand(
        Step::Key,
        CheckName::KeyAttributes,
        RefusalCode::NotAuthentic,
        ak.attributes().is_attestation_key(),
        ObjectAttributes::DEMAND,
        &ak.attributes().describe(),
        "a key with other attributes can sign statements that were composed outside a TPM: refuse this machine",
    )?;
    report.warn(
        Step::Key,
        CheckName::HardwareRoot,
        "a key that hardware vouches for",
        "none: qemu-vtpm trusts whatever TPM the host provides",
        "no hardware root of trust: this machine is not confidential; do not give it secrets its host must not read",
    );
    Ok(TrustedAk::of_public_area(&ak, "in the document"))
}

/// Steps 3 and 4: the PCR values, once they are known to be those of the one verified quote.
fn quoted_values(
    report: &mut Report,
    document: &Document,
    ak: &TrustedAk,
    binding: &Binding,
) -> Result<Quoted, Stop> {
    let signed = ak.signed_quote(
        Statement::parse(&document.quote),
        Signature::parse(&document.signature),
        &QualifyingData::from(binding),
        report,
    )?;
    let quote = signed.with_values(
        report,
        &BankValues::from(&document.pcrs),
        HashAlgorithm::Sha256,
        &Selection::All,
    )?;
    let pcrs = report.parse_again(Step::Quote, CheckName::PcrDigest, quote.whole_sha256_bank())?;
    Ok(Quoted {
        pcrs,
        reset_count: quote.reset_count(),
    })
}

/// What the TPM stated.
struct Quoted {
    pcrs: PcrValues,
    reset_count: u32,
}

/// Step 5. Goes on after a failure: what the PCRs hold is already certain, only the names of the parts are not.
fn event_log<'a>(
    report: &mut Report,
    document: &'a Document,
    pcrs: &PcrValues,
) -> Option<EventLog<'a>> {
    let log = report
        .parse(
            Step::EventLog,
            CheckName::LogFormat,
            EventLog::parse(&document.event_log),
        )
        .ok()?;
    let replayed = log.replay();
    let differing = log.unexplained(pcrs);
    let pairs = |values: &PcrValues| {
        let pairs: Vec<String> = differing
            .iter()
            .map(|index| format!("PCR {index}: {}", values.get(*index)))
            .collect();
        pairs.join(", ")
    };
    let holds = report
        .demand(
            Step::EventLog,
            CheckName::LogReplay,
            RefusalCode::Measurements,
            differing.is_empty(),
            &pairs(pcrs),
            &pairs(&replayed),
            "something was measured that the log does not show, or the log was altered: refuse this machine",
        )
        .is_ok();
    // a log that leads elsewhere must not put names to values it does not explain
    holds.then_some(log)
}

/// Step 6. A machine of neither generation is compared with the newer one, which is what it should run.
fn measurements(
    report: &mut Report,
    policy: &PolicyDocument,
    now: Option<Timestamp>,
    pcrs: &PcrValues,
    hints: &Hints<'_>,
) {
    let newest = policy.newest();
    let older = policy.older().filter(|older| older.accepts(pcrs));
    let demanded = match older {
        Some(older) if !newest.accepts(pcrs) => {
            let is_alive = older.is_alive(now);
            report.generation(newest, older, is_alive);
            if is_alive { older } else { newest }
        }
        _ => newest,
    };
    for (index, measurement) in demanded.pcrs() {
        let actual = pcrs.get(*index);
        if actual == measurement.expected {
            report.pass(Step::Measurements, CheckName::Pcr(*index));
        } else {
            let differences = component::compare(*index, demanded.components(), hints);
            report.pcr(*index, measurement, actual, differences);
        }
    }
}

/// Step 7.
fn cluster_mark(report: &mut Report, mark: &ClusterMark, pcrs: &PcrValues) {
    let actual = pcrs.get(PcrIndex::CLUSTER_MARK);
    let next = match mark {
        ClusterMark::NotJoined => {
            "the machine already belongs to a cluster since its last boot: reboot it"
        }
        ClusterMark::Cluster(_) => {
            "the machine belongs to another cluster or to none: check the endpoint and the cluster's identity"
        }
        ClusterMark::AnyCluster => {
            "the peer belongs to no cluster, so it cannot hand out tickets: check the endpoint"
        }
        ClusterMark::NotJoinedOrCluster(_) => "the machine belongs to another cluster: reboot it",
    };
    let found = if actual == Digest::ZERO {
        format!("{actual} (no cluster)")
    } else {
        actual.to_string()
    };
    report.mark(mark.accepts(&actual), &mark.to_string(), &found, next);
}
