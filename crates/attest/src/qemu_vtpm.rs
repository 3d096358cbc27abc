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
//! 6. the PCRs are those of the policy,
//! 7. PCR 15 is the demanded cluster mark.

mod document;
mod report;

pub use document::{Document, DocumentError};

use subtle::ConstantTimeEq as _;

use crate::component::{self, Hints};
use crate::event_log::EventLog;
use crate::tpm::{ObjectAttributes, PublicArea, Quote, Signature, Statement};
use crate::verdict::{CheckName, Refusal, RefusalCode, Step, Stop};
use crate::{Binding, ClusterMark, Digest, PcrIndex, PcrValues, Policy, Variant, Verified};

use report::Report;

pub(crate) fn appraise(
    bytes: &[u8],
    binding: &Binding,
    policy: &Policy,
    mark: &ClusterMark,
) -> Result<Verified, Refusal> {
    let mut report = Report::new(Variant::QemuVtpm, policy);
    match steps(&mut report, bytes, binding, policy, mark) {
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
) -> Result<(PublicArea, Quoted), Stop> {
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
    measurements(report, policy, pcrs, &hints);
    cluster_mark(report, mark, pcrs);
    Ok((ak, quoted))
}

/// Step 2. The only place where this variant decides to trust a key.
fn trusted_key(report: &mut Report, document: &Document) -> Result<PublicArea, Stop> {
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
    Ok(ak)
}

/// What the TPM stated.
struct Quoted {
    pcrs: PcrValues,
    reset_count: u32,
}

/// Steps 3 and 4: the PCR values, once they are known to be those of the one verified quote.
fn quoted_values(
    report: &mut Report,
    document: &Document,
    ak: &PublicArea,
    binding: &Binding,
) -> Result<Quoted, Stop> {
    const FORGED: &str =
        "the evidence was altered or composed by something other than a TPM: refuse this machine";
    let statement = report.parse(
        Step::Quote,
        CheckName::QuoteFormat,
        Statement::parse(&document.quote),
    )?;
    let header = statement.header();
    report.demand(
        Step::Quote,
        CheckName::Magic,
        RefusalCode::NotAuthentic,
        header.is_generated_by_tpm(),
        "0xff544347",
        &format!("{:#010x}", header.magic),
        FORGED,
    )?;
    report.demand(
        Step::Quote,
        CheckName::StatementType,
        RefusalCode::NotAuthentic,
        header.is_quote(),
        "quote (0x8018)",
        &format!("{:#06x}", header.kind),
        FORGED,
    )?;
    let quote = report.parse_again(Step::Quote, CheckName::QuoteFormat, statement.quote())?;
    let signature = report.parse(
        Step::Quote,
        CheckName::SignatureFormat,
        Signature::parse(&document.signature),
    )?;
    report.demand(
        Step::Quote,
        CheckName::Signature,
        RefusalCode::NotAuthentic,
        ak.verify(statement.signed(), &signature),
        "a signature of the attestation key in the document",
        "a signature that does not verify",
        FORGED,
    )?;
    let expected = binding.qualifying_data();
    report.demand(
        Step::Quote,
        CheckName::Binding,
        RefusalCode::WrongBinding,
        quote.extra_data.ct_eq(expected.as_bytes()).into(),
        &expected.to_string(),
        &described(quote.extra_data),
        "the evidence belongs to another session, role or nonce: a replay or a relay, unless the peer's software differs",
    )?;
    selection(report, &quote)?;
    let pcrs = document.pcrs.clone();
    report.demand(
        Step::Quote,
        CheckName::PcrDigest,
        RefusalCode::NotAuthentic,
        quote.pcr_digest.ct_eq(pcrs.quote_digest().as_bytes()).into(),
        &described(quote.pcr_digest),
        &pcrs.quote_digest().to_string(),
        "the PCR values in the document are not those the TPM quoted; if it happens once, a PCR changed in between: ask again",
    )?;
    Ok(Quoted {
        pcrs,
        reset_count: quote.reset_count,
    })
}

fn selection(report: &mut Report, quote: &Quote<'_>) -> Result<(), Stop> {
    const NEXT: &str = "the peer must quote all 24 PCRs of the SHA-256 bank and nothing else";
    let banks: Vec<String> = quote
        .selections
        .iter()
        .map(|selection| selection.bank_name())
        .collect();
    let only = match quote.selections.as_slice() {
        [only] if only.is_sha256() => Some(only),
        _ => None,
    };
    report.demand(
        Step::Quote,
        CheckName::Bank,
        RefusalCode::NotAuthentic,
        only.is_some(),
        "sha256 alone",
        &if banks.is_empty() {
            "no bank".to_owned()
        } else {
            banks.join(", ")
        },
        NEXT,
    )?;
    report.demand(
        Step::Quote,
        CheckName::Selection,
        RefusalCode::NotAuthentic,
        only.is_some_and(|selection| selection.is_all()),
        "ffffff (PCR 0 to 23)",
        &only
            .map(|selection| hex::encode(selection.bitmap))
            .unwrap_or_default(),
        NEXT,
    )
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

/// Step 6.
fn measurements(report: &mut Report, policy: &Policy, pcrs: &PcrValues, hints: &Hints<'_>) {
    for (index, measurement) in policy.measurements() {
        let actual = pcrs.get(*index);
        if actual == measurement.expected {
            report.pass(Step::Measurements, CheckName::Pcr(*index));
        } else {
            let differences = component::compare(*index, policy.components(), hints);
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

fn described(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        "nothing".into()
    } else {
        hex::encode(bytes)
    }
}
