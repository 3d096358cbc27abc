//! `qemu-vtpm`: a TPM 2.0 without a hardware root.
//!
//! What it shows: some TPM quoted these PCRs over this binding. What it does not show: that the TPM is not a program in
//! the hands of the host. Its key is therefore trusted because the variant was chosen, and for no other reason
//! ([`trusted_key`]); every verdict says so. The steps are those of every virtual TPM ([`crate::vtpm`]).

mod document;

pub use crate::vtpm::DocumentError;
pub use document::Document;

use crate::appraise::Question;
use crate::tpm::{ObjectAttributes, TrustedAk};
use crate::verdict::{CheckName, Findings, Refusal, RefusalCode, Step, Stop};
use crate::{Verified, vtpm};

pub(crate) fn appraise(question: &Question<'_>) -> Result<Verified, Refusal> {
    vtpm::appraise(
        question,
        Document::parse(question.evidence.document()),
        |document| document,
        |document, _, findings| trusted_key(document, findings),
    )
}

/// The only place where this variant decides to trust a key.
fn trusted_key(document: &Document, findings: &mut Findings) -> Result<TrustedAk, Stop> {
    let area = vtpm::public_area(findings, document)?;
    findings.demand(
        Step::Key,
        CheckName::KeyAttributes,
        RefusalCode::NotAuthentic,
        area.attributes().is_attestation_key(),
        ObjectAttributes::DEMAND,
        &area.attributes().describe(),
        "a key with other attributes can sign statements that were composed outside a TPM: refuse this machine",
    )?;
    findings.warn(
        Step::Key,
        CheckName::HardwareRoot,
        "a key that hardware vouches for",
        "none: qemu-vtpm trusts whatever TPM the host provides",
        "no hardware root of trust: this machine is not confidential; do not give it secrets its host must not read",
    );
    Ok(TrustedAk::of_public_area(&area, "in the document"))
}
