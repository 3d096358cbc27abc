//! Azure's machines as variants: what vouches for the TPM's key of each. The steps that follow are those of every virtual TPM.

use super::{
    CheckName, ConfidentialVm, HclReport, SevSnpDocument, TdxDocument, TdxEvidence,
    TrustedLaunchDocument, trusted_launch_ak,
};
use crate::Verified;
use crate::appraise::Question;
use crate::sev_snp::Report;
use crate::verdict::{self, Refusal, Step};
use crate::vtpm::{self, HardwareRoot, vouched};

pub(crate) fn appraise_sev_snp(question: &Question<'_>) -> Result<Verified, Refusal> {
    vtpm::appraise(
        question,
        SevSnpDocument::parse(question.evidence.document()),
        |document| &document.tpm,
        |document, generation, findings| {
            let demanded = question
                .policy
                .document()
                .azure_snp_requirements(generation);
            let requirements = vouched::demanded(findings, demanded)?;
            let certificates = vouched::certificates(findings, &document.certificates)?;
            let report = HclReport::claimed_snp_report(&document.hcl_report);
            let fields = report.as_ref().map(Report::fields);
            let trust = vouched::amd_trust(question.trust);
            let vm = vouched::amd(question, fields, &certificates).try_each(
                findings,
                |endorsements, findings| {
                    ConfidentialVm::appraise_snp(
                        &document.hcl_report,
                        endorsements,
                        &requirements,
                        &trust,
                        findings,
                    )
                },
            );
            let Some(vm) = vm else {
                findings.parse(
                    Step::Document,
                    verdict::CheckName::Azure(CheckName::HclFormat),
                    HclReport::parse(&document.hcl_report),
                )?;
                return Err(vouched::missing(
                    findings,
                    "AMD's certificate of the key that signed the report",
                ));
            };
            vtpm::endorsed_key(
                findings,
                &document.tpm,
                vm?.into_ak(),
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
            let demanded = question
                .policy
                .document()
                .azure_tdx_requirements(generation);
            let requirements = vouched::demanded(findings, demanded)?;
            let endorsements = vouched::intel(question, &document.td_quote, findings)?;
            let vm = ConfidentialVm::appraise_tdx(
                &TdxEvidence {
                    hcl_report: &document.hcl_report,
                    quote: &document.td_quote,
                },
                &endorsements,
                &requirements,
                &vouched::intel_trust(question.trust),
                findings,
            )?;
            vtpm::endorsed_key(
                findings,
                &document.tpm,
                vm.into_ak(),
                HardwareRoot::Processor,
            )
        },
    )
}

pub(crate) fn appraise_trusted_launch(question: &Question<'_>) -> Result<Verified, Refusal> {
    vtpm::appraise(
        question,
        TrustedLaunchDocument::parse(question.evidence.document()),
        |document| &document.tpm,
        |document, _, findings| {
            let certificates = vouched::certificates(findings, &document.certificates)?;
            let authorities = &question.trust.roots.microsoft;
            let ak = trusted_launch_ak(
                &document.ak_certificate,
                &vouched::between(question, &document.ak_certificate, &certificates),
                authorities,
                &authorities.revocation(question.trust.endorsements.crls()),
                question.trust.now,
                findings,
            )?;
            vtpm::endorsed_key(
                findings,
                &document.tpm,
                ak,
                HardwareRoot::None {
                    who: "none: Microsoft certifies the key of a TPM outside of the machine",
                },
            )
        },
    )
}
