//! Google's machines as variants: what vouches for the TPM's key of each. The steps that follow are those of every virtual TPM.

use super::{
    CertifiedInstance, ConfidentialInstance, SevEsDocument, SevSnpDocument, TdxDocument, ak,
};
use crate::Verified;
use crate::appraise::Question;
use crate::sev_snp::{self, Report};
use crate::verdict::{CheckName, Findings, Refusal, Step, Stop};
use crate::vtpm::{self, HardwareRoot, vouched};
use crate::x509::Certificate;

pub(crate) fn appraise_sev_es(question: &Question<'_>) -> Result<Verified, Refusal> {
    vtpm::appraise(
        question,
        SevEsDocument::parse(question.evidence.document()),
        |document| &document.tpm,
        |document, _, findings| {
            let certificates = vouched::certificates(findings, &document.certificates)?;
            let instance = instance(question, &document.ak_certificate, &certificates, findings)?;
            vtpm::endorsed_key(
                findings,
                &document.tpm,
                instance.into_ak(),
                HardwareRoot::None {
                    who: "none: Google certifies the key of a TPM outside of the machine, and no report shows SEV-ES",
                },
            )
        },
    )
}

pub(crate) fn appraise_sev_snp(question: &Question<'_>) -> Result<Verified, Refusal> {
    vtpm::appraise(
        question,
        SevSnpDocument::parse(question.evidence.document()),
        |document| &document.tpm,
        |document, generation, findings| {
            let demanded = question.policy.document().snp_requirements(generation);
            let requirements = vouched::demanded(findings, demanded)?;
            let certificates = vouched::certificates(findings, &document.certificates)?;
            let amds = vouched::certificates(findings, &document.snp_certificates)?;
            let report = Report::parse(&document.snp_report);
            let fields = report.as_ref().ok().map(Report::fields);
            let trust = vouched::amd_trust(question.trust);
            // once, however many certificates may be of the processor's key
            let instance = instance(question, &document.ak_certificate, &certificates, findings)?;
            let machine = vouched::amd(question, fields, &amds).try_each(
                findings,
                |endorsements, findings| {
                    ConfidentialInstance::appraise_snp(
                        instance.clone(),
                        &document.snp_report,
                        endorsements,
                        &requirements,
                        question.binding,
                        &trust,
                        findings,
                    )
                },
            );
            let Some(machine) = machine else {
                findings.parse(
                    Step::Document,
                    CheckName::Snp(sev_snp::CheckName::ReportFormat),
                    report,
                )?;
                return Err(vouched::missing(
                    findings,
                    "AMD's certificate of the key that signed the report",
                ));
            };
            vtpm::endorsed_key(
                findings,
                &document.tpm,
                machine?.into_ak(),
                HardwareRoot::Processor,
            )
        },
    )
}

pub(crate) fn appraise_tdx(question: &Question<'_>) -> Result<Verified, Refusal> {
    vtpm::appraise(
        question,
        TdxDocument::parse(question.evidence.document()),
        |document| &document.tpm,
        |document, generation, findings| {
            let demanded = question.policy.document().tdx_requirements(generation);
            let requirements = vouched::demanded(findings, demanded)?;
            let certificates = vouched::certificates(findings, &document.certificates)?;
            let instance = instance(question, &document.ak_certificate, &certificates, findings)?;
            let machine = ConfidentialInstance::appraise_tdx(
                instance,
                &document.td_quote,
                &vouched::intel(question, &document.td_quote, findings)?,
                &requirements,
                question.binding,
                &vouched::intel_trust(question.trust),
                findings,
            )?;
            vtpm::endorsed_key(
                findings,
                &document.tpm,
                machine.into_ak(),
                HardwareRoot::Processor,
            )
        },
    )
}

/// The instance that Google's certificate names, with its key.
fn instance(
    question: &Question<'_>,
    certificate: &[u8],
    certificates: &[Certificate],
    findings: &mut Findings,
) -> Result<CertifiedInstance, Stop> {
    let authorities = &question.trust.roots.google;
    ak(
        certificate,
        &vouched::between(question, certificate, certificates),
        authorities,
        &authorities.revocation(question.trust.endorsements.crls()),
        &question.policy.document().gcp_requirements(),
        question.trust.now,
        findings,
    )
}
