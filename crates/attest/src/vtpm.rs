//! What every virtual TPM states, and the steps from it to a verdict. Why the TPM's key may be believed is the business of each variant,
//! and its only one.
//!
//! Steps, in this order, each believed only if the ones before it hold:
//! 1. the document is strict JSON of the variant's one form,
//! 2. the variant vouches for the TPM's key, and for the platform where there is one to speak of,
//! 3. the statement is a quote made by a TPM over this binding, about all 24 PCRs of the SHA-256 bank, signed by the key,
//! 4. the PCR values in the document are the quoted ones,
//! 5. the event log leads to the quoted values,
//! 6. the PCRs are those of the policy: of its newer generation, or of the older one before its end; and what the hardware measured is of
//!    that same generation,
//! 7. PCR 15 is the demanded cluster mark.

pub mod document;
mod report;
pub(crate) mod vouched;

pub use document::{DocumentError, MAX_CERTIFICATES, TpmEvidence};

use crate::appraise::Question;
use crate::component::{self, Hints};
use crate::event_log::EventLog;
use crate::policy::Generation;
use crate::tpm::{
    BankValues, EndorsedAk, HashAlgorithm, PublicArea, QualifyingData, Selection, Signature,
    Statement, TrustedAk,
};
use crate::verdict::{CheckName, Findings, Refusal, RefusalCode, Step, Stop};
use crate::{ClusterMark, Digest, PcrIndex, PcrValues, Verified};

use report::Report;

/// Follows the steps of the module's head. `trusted_key` is step 2: the only place where a variant decides to trust a key, by what one
/// generation of the policy demands of the platform.
pub(crate) fn appraise<D>(
    question: &Question<'_>,
    document: Result<D, DocumentError>,
    tpm: impl Fn(&D) -> &TpmEvidence,
    trusted_key: impl Fn(&D, &Generation, &mut Findings) -> Result<TrustedAk, Stop>,
) -> Result<Verified, Refusal> {
    let mut report = Report::new(question);
    let document = match report.parse(Step::Document, CheckName::DocumentFormat, document) {
        Ok(document) => document,
        Err(Stop { .. }) => return Err(report.refusal()),
    };
    let attempt = |generation: &Generation| {
        let mut attempt = Attempt {
            report: report.clone(),
            machine: None,
        };
        // what stopped it is in its findings
        let _stopped = attempt.follow(question, generation, tpm(&document), |findings| {
            trusted_key(&document, generation, findings)
        });
        attempt
    };
    let policy = question.policy.document();
    let newest = attempt(policy.newest());
    let older = policy.older().filter(|_| !newest.is_of_generation());
    let Some(older) = older else {
        return newest.verdict();
    };
    // a machine of neither generation is compared with the newer one, which is what it should run
    let other = attempt(older);
    if !other.is_of_generation() {
        return newest.verdict();
    }
    let is_alive = older.is_alive(question.trust.now);
    let mut judged = if is_alive { other } else { newest };
    judged.report.generation(policy.newest(), older, is_alive);
    judged.verdict()
}

/// The steps after the first, with one generation of the policy.
struct Attempt {
    report: Report,
    /// As far as the TPM's statement could be believed.
    machine: Option<Machine>,
}

/// What is known of a machine whose TPM was believed.
struct Machine {
    ak: Digest,
    quoted: Quoted,
    /// Whether each enforced PCR has the generation's value.
    is_of_generation: bool,
}

impl Attempt {
    /// Stops where nothing after a failed check could be believed; collects where a person wants to see everything that differs.
    fn follow(
        &mut self,
        question: &Question<'_>,
        generation: &Generation,
        tpm: &TpmEvidence,
        trusted_key: impl FnOnce(&mut Findings) -> Result<TrustedAk, Stop>,
    ) -> Result<(), Stop> {
        let report = &mut self.report;
        let findings: &mut Findings = report;
        let ak = trusted_key(findings)?;
        let quoted = quoted_values(report, tpm, &ak, question)?;
        let log = event_log(report, tpm, &quoted.pcrs);
        let hints = Hints {
            log: log.as_ref(),
            command_line: tpm.command_line.as_deref(),
        };
        measurements(report, generation, &quoted.pcrs, &hints);
        cluster_mark(report, question, &quoted.pcrs);
        self.machine = Some(Machine {
            ak: ak.id(),
            is_of_generation: generation.accepts(&quoted.pcrs),
            quoted,
        });
        Ok(())
    }

    /// Whether all that was measured is of the generation: the hardware's part, without which nothing after it was looked at, and the
    /// PCRs. What else is wrong with the machine does not count.
    fn is_of_generation(&self) -> bool {
        self.machine
            .as_ref()
            .is_some_and(|machine| machine.is_of_generation)
    }

    fn verdict(self) -> Result<Verified, Refusal> {
        match self.machine {
            Some(machine) => {
                let Quoted { pcrs, reset_count } = machine.quoted;
                self.report.verdict(machine.ak, pcrs, reset_count)
            }
            None => Err(self.report.refusal()),
        }
    }
}

/// The public area in the document, which says how the key signs and what it may sign. Says nothing yet of whose key it is.
pub(crate) fn public_area(findings: &mut Findings, tpm: &TpmEvidence) -> Result<PublicArea, Stop> {
    findings.parse(
        Step::Key,
        CheckName::KeyFormat,
        PublicArea::parse(&tpm.ak_public),
    )
}

/// The end of step 2 where something outside the TPM vouches for a key: it is the key of the document. `root` says what keeps the host out,
/// if anything does.
pub(crate) fn endorsed_key(
    findings: &mut Findings,
    tpm: &TpmEvidence,
    ak: EndorsedAk,
    root: HardwareRoot,
) -> Result<TrustedAk, Stop> {
    let area = public_area(findings, tpm)?;
    let ak = ak.with_public_area(&area, findings)?;
    match root {
        HardwareRoot::Processor => findings.pass(Step::Key, CheckName::HardwareRoot),
        HardwareRoot::None { who } => findings.warn(
            Step::Key,
            CheckName::HardwareRoot,
            "a key on a machine whose processor vouches for it",
            who,
            "no hardware root of trust: this machine is not confidential; do not give it secrets its host must not read",
        ),
    }
    Ok(ak)
}

/// What keeps the host of a machine out.
#[derive(Clone, Copy)]
pub(crate) enum HardwareRoot {
    /// A processor whose report was appraised.
    Processor,
    /// Nothing that was shown.
    None {
        /// Who vouches for the key instead.
        who: &'static str,
    },
}

/// Steps 3 and 4: the PCR values, once they are known to be those of the one verified quote.
fn quoted_values(
    report: &mut Report,
    tpm: &TpmEvidence,
    ak: &TrustedAk,
    question: &Question<'_>,
) -> Result<Quoted, Stop> {
    let signed = ak.signed_quote(
        Statement::parse(&tpm.quote),
        Signature::parse(&tpm.signature),
        &QualifyingData::from(question.binding),
        report,
    )?;
    let quote = signed.with_values(
        report,
        &BankValues::from(&tpm.pcrs),
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
    tpm: &'a TpmEvidence,
    pcrs: &PcrValues,
) -> Option<EventLog<'a>> {
    let log = report
        .parse(
            Step::EventLog,
            CheckName::LogFormat,
            EventLog::parse(&tpm.event_log),
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

/// Step 6, for one generation.
fn measurements(report: &mut Report, generation: &Generation, pcrs: &PcrValues, hints: &Hints<'_>) {
    for (index, measurement) in generation.pcrs() {
        let actual = pcrs.get(*index);
        if actual == measurement.expected {
            report.pass(Step::Measurements, CheckName::Pcr(*index));
        } else {
            let differences = component::compare(*index, generation.components(), hints);
            report.pcr(*index, measurement, actual, differences);
        }
    }
}

/// Step 7.
fn cluster_mark(report: &mut Report, question: &Question<'_>, pcrs: &PcrValues) {
    let mark = question.mark;
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
