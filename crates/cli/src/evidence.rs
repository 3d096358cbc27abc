//! Evidence that lies in files: read it, hand it to the appraisal of its kind, and say what came of it.
//!
//! Decides nothing that `attest` decides. What nobody demanded is demanded to be what the evidence says, and the verdict
//! warns of it.

mod aws;
mod azure;
mod endorsements;
mod files;
mod gpu;
pub(crate) mod inspect;
mod log;
mod quote;
mod snp;
mod tdx;
mod tpm_certificate;
mod vtpm;

use attest::policy::{Generation, Machine, PolicyDocument};
use attest::x509::Crl;
use attest::{CheckName, Endorsements, Findings, RefusalCode, Step, Stop};
use jiff::Timestamp;

use crate::arguments::EvidenceVariant;
use crate::failure::Failure;

pub(crate) use endorsements::Given;
pub(crate) use files::Files;

/// Evidence and everything it is held against.
pub(crate) struct Question {
    pub(crate) variant: EvidenceVariant,
    /// The evidence.
    pub(crate) files: Files,
    /// What vendors state, as far as it lies beside the evidence: it came with it, so no root is taken from it.
    pub(crate) beside: Endorsements,
    /// What vendors state, by whoever asks.
    pub(crate) given: Endorsements,
    /// Revocation lists, from wherever.
    pub(crate) crls: Vec<Crl>,
    pub(crate) policy: Option<PolicyDocument>,
    pub(crate) report_data: Option<[u8; 64]>,
    pub(crate) nonce: Option<Vec<u8>>,
    pub(crate) now: Timestamp,
}

/// Why an appraisal goes on no further.
#[derive(Debug)]
pub(crate) enum End {
    /// The findings say why.
    Refused,
    /// A file is missing, or what was asked makes no sense.
    Unreadable(Failure),
}

impl From<Stop> for End {
    fn from(_: Stop) -> Self {
        Self::Refused
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Unreadable(failure)
    }
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) is_accepted: bool,
    pub(crate) findings: Findings,
}

/// Appraises the evidence, with each generation of the policy until one accepts it.
pub(crate) fn verify(question: &Question) -> Result<Verdict, Failure> {
    question.check()?;
    let Some(policy) = &question.policy else {
        return once(question, None);
    };
    let mut generations = policy.generations_at(question.now);
    let newest = match generations.next() {
        Some(generation) => once(question, Some(generation))?,
        None => {
            return Err(Failure::config(
                "the policy has no generation that is accepted",
            ));
        }
    };
    if newest.is_accepted {
        return Ok(newest);
    }
    for generation in generations {
        let verdict = once(question, Some(generation))?;
        if verdict.is_accepted {
            return Ok(verdict);
        }
    }
    Ok(newest)
}

fn once(question: &Question, generation: Option<&Generation>) -> Result<Verdict, Failure> {
    let mut findings = Findings::new();
    let outcome = appraise(question, generation, &mut findings);
    let is_complete = match outcome {
        Ok(()) => true,
        Err(End::Refused) => false,
        Err(End::Unreadable(failure)) => return Err(failure),
    };
    if !is_complete && findings.refusal_code().is_none() {
        return Err(Failure::internal("the appraisal ended without a reason"));
    }
    Ok(Verdict {
        is_accepted: is_complete && findings.refusal_code().is_none(),
        findings,
    })
}

fn appraise(
    question: &Question,
    generation: Option<&Generation>,
    findings: &mut Findings,
) -> Result<(), End> {
    match question.variant {
        EvidenceVariant::SnpVcek | EvidenceVariant::SnpVlek => {
            snp::verify(question, generation, findings)
        }
        EvidenceVariant::Tdx => tdx::verify(question, generation, findings),
        EvidenceVariant::AzureSnpVtpm => azure::verify_snp(question, generation, findings),
        EvidenceVariant::AzureTdxVtpm => azure::verify_tdx(question, generation, findings),
        EvidenceVariant::AzureVtpm => vtpm::verify_azure(question, generation, findings),
        EvidenceVariant::GcpVtpm => vtpm::verify_google(question, generation, findings),
        EvidenceVariant::Swtpm => vtpm::verify_enrolled(question, generation, findings),
        EvidenceVariant::AwsNitrotpm | EvidenceVariant::AwsNitroEnclave => {
            aws::verify(question, generation, findings)
        }
        EvidenceVariant::TpmEk => tpm_certificate::verify(question, findings),
        EvidenceVariant::Eventlog => log::verify(question, findings),
        EvidenceVariant::NvidiaGpu => gpu::verify(question, findings),
        EvidenceVariant::Roots | EvidenceVariant::TdxCollateral => {
            Err(no_evidence(question.variant).into())
        }
    }
}

/// What a verifier can ask of evidence of a kind.
#[derive(PartialEq, Eq)]
enum Asked {
    ReportData,
    Nonce,
    Nothing,
}

impl Question {
    /// Refuses what can not be asked of this kind of evidence.
    fn check(&self) -> Result<(), Failure> {
        let name = name(self.variant);
        let asked = match self.variant {
            EvidenceVariant::Roots | EvidenceVariant::TdxCollateral => {
                return Err(no_evidence(self.variant));
            }
            EvidenceVariant::SnpVcek | EvidenceVariant::SnpVlek | EvidenceVariant::Tdx => {
                Asked::ReportData
            }
            EvidenceVariant::AzureSnpVtpm
            | EvidenceVariant::AzureTdxVtpm
            | EvidenceVariant::AzureVtpm
            | EvidenceVariant::GcpVtpm
            | EvidenceVariant::Swtpm
            | EvidenceVariant::AwsNitrotpm
            | EvidenceVariant::AwsNitroEnclave
            | EvidenceVariant::NvidiaGpu => Asked::Nonce,
            EvidenceVariant::TpmEk | EvidenceVariant::Eventlog => Asked::Nothing,
        };
        let wrong = match asked {
            Asked::ReportData if self.nonce.is_some() => Some("--report-data and not --nonce"),
            Asked::Nonce if self.report_data.is_some() => Some("--nonce and not --report-data"),
            Asked::Nothing if self.nonce.is_some() || self.report_data.is_some() => {
                Some("neither --nonce nor --report-data: it is made once and not for a question")
            }
            Asked::ReportData | Asked::Nonce | Asked::Nothing => None,
        };
        if let Some(wrong) = wrong {
            return Err(Failure::usage(format!(
                "evidence of the kind {name} takes {wrong}"
            )));
        }
        let Some(policy) = &self.policy else {
            return Ok(());
        };
        let machine = policy.machine();
        let fitting = machines(self.variant);
        if fitting.contains(&machine) {
            return Ok(());
        }
        let names: Vec<&str> = fitting.iter().map(|machine| machine.as_str()).collect();
        Err(Failure::config(format!(
            "the policy is for {machine}, and the evidence is of the kind {name}"
        ))
        .hint(match (undecided(machine), names.is_empty()) {
            (Some(why), _) => why.to_owned(),
            (None, true) => "there are no policies for this kind: leave --policy out".to_owned(),
            (None, false) => format!("it takes a policy for {}", names.join(" or ")),
        }))
    }
}

/// The machines that prove themselves by evidence of this kind and nothing else: what a policy demands of another part of a
/// machine would go unseen.
const fn machines(variant: EvidenceVariant) -> &'static [Machine] {
    match variant {
        EvidenceVariant::SnpVcek | EvidenceVariant::SnpVlek => &[Machine::SevSnp],
        EvidenceVariant::Tdx => &[Machine::Tdx],
        EvidenceVariant::AzureSnpVtpm => &[Machine::AzureSevSnp],
        EvidenceVariant::AzureTdxVtpm => &[Machine::AzureTdx],
        EvidenceVariant::AzureVtpm => &[Machine::AzureTrustedLaunch],
        EvidenceVariant::GcpVtpm => &[Machine::GcpSevEs],
        EvidenceVariant::Swtpm => &[Machine::QemuVtpm],
        EvidenceVariant::AwsNitrotpm => &[Machine::AwsNitroTpm],
        EvidenceVariant::AwsNitroEnclave
        | EvidenceVariant::TpmEk
        | EvidenceVariant::Eventlog
        | EvidenceVariant::NvidiaGpu
        | EvidenceVariant::Roots
        | EvidenceVariant::TdxCollateral => &[],
    }
}

/// Why no evidence in files shows what a policy for a kind of machine demands: its processor's report and what its hypervisor's
/// TPM states are of one machine by nothing that is in them.
const fn undecided(machine: Machine) -> Option<&'static str> {
    match machine {
        Machine::AwsSevSnp => Some(
            "no file ties an SEV-SNP report to a document of a NitroTPM, so another machine's report would do: the document alone is decided about by a policy for aws-nitro-tpm",
        ),
        Machine::GcpSevSnp | Machine::GcpTdx => Some(
            "outside a session nothing ties a report to a quote of the hypervisor's TPM, so another machine's report would do: each alone is decided about, by a policy for sev-snp or tdx and one for gcp-sev-es",
        ),
        Machine::QemuVtpm
        | Machine::AzureSevSnp
        | Machine::AzureTdx
        | Machine::AzureTrustedLaunch
        | Machine::GcpSevEs
        | Machine::AwsNitroTpm
        | Machine::SevSnp
        | Machine::Tdx => None,
    }
}

/// The name on the command line.
pub(crate) fn name(variant: EvidenceVariant) -> String {
    use clap::ValueEnum;
    variant
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

fn no_evidence(variant: EvidenceVariant) -> Failure {
    Failure::usage(format!(
        "{} are endorsements and no evidence: they say something about machines, and are of none",
        name(variant)
    ))
    .hint("give them with --endorsements beside evidence; `evidence inspect` prints what they say")
}

/// Says that the evidence may be as old as it likes: `name` passed because the evidence was held against itself.
fn warn_of_replay(
    findings: &mut Findings,
    (step, name): (Step, CheckName),
    actual: &[u8],
    flag: &str,
) {
    findings.qualify(
        step,
        name,
        "what you asked the machine to prove, such as a nonce",
        &format!(
            "{}, which is not bound to anything you asked for",
            match actual {
                [] => "nothing".to_owned(),
                actual => hex::encode(actual),
            }
        ),
        &format!("the evidence may be a copy of another machine's or of another time: give what you asked for with {flag}"),
    );
}

/// Says that nothing was compared.
fn warn_of_no_policy(findings: &mut Findings, what: &str) {
    findings.warn(
        Step::Measurements,
        CheckName::ReferenceValues,
        "a policy that says what must run",
        &format!("{what}: not compared with any policy"),
        "anybody who owns such a machine gets this verdict: say with --policy what must run",
    );
}

/// Refuses because something of the vendor's is missing.
fn needs(findings: &mut Findings, what: &str, next_step: &str) -> End {
    match findings.demand(
        Step::Endorsements,
        CheckName::EndorsementsGiven,
        RefusalCode::NotAuthentic,
        false,
        what,
        "needs endorsements: nothing of the kind was given",
        next_step,
    ) {
        Err(stop) => stop.into(),
        Ok(()) => End::Refused,
    }
}

/// A defect of this program: a demand that its module does not take.
fn impossible(error: impl std::error::Error) -> End {
    Failure::internal("make the demands").because(error).into()
}
