//! Documents of AWS.

use attest::aws::{
    Claim, Document, ExpectedPcrs, Kind, Requirements, Roots, appraise, appraise_quote,
};
use attest::policy::Generation;
use attest::{CheckName, Findings, Step, aws};

use super::{End, Question, warn_of_no_policy, warn_of_replay};
use crate::arguments::EvidenceVariant;
use crate::failure::Failure;

pub(super) fn verify(
    question: &Question,
    generation: Option<&Generation>,
    findings: &mut Findings,
) -> Result<(), End> {
    let bytes = question.files.need(&["document.cbor"])?;
    let kind = if question.variant == EvidenceVariant::AwsNitroEnclave {
        Kind::Enclave
    } else {
        Kind::NitroTpm
    };
    let document = Document::parse(bytes).ok();
    let nonce = match &question.nonce {
        Some(nonce) => Claim::Exactly(nonce.clone()),
        None => claim(document.as_ref().and_then(|it| it.nonce())),
    };
    // what the measured software put in is told and not judged
    let requirements = Requirements::new(kind, nonce)
        .with_user_data(claim(document.as_ref().and_then(|it| it.user_data())))
        .with_public_key(claim(document.as_ref().and_then(|it| it.public_key())));
    let appraised = appraise(
        bytes,
        &Roots::built_in(),
        &requirements,
        question.now,
        findings,
    )?;
    if question.nonce.is_none() {
        let own = appraised.nonce().unwrap_or_default();
        let name = CheckName::Aws(aws::CheckName::Nonce);
        warn_of_replay(findings, (Step::Report, name), own, "--nonce");
    }
    let files = &question.files;
    match (files.get(&["quote.msg"]), files.get(&["quote.sig"])) {
        (Some(statement), Some(signature)) => {
            // the module takes a statement as a TPM gives it, with its size before it
            let sized = sized(statement);
            appraise_quote(&appraised, &sized, signature, findings)?;
        }
        (None, None) => {}
        (Some(_), None) => return files.need(&["quote.sig"]).map(drop).map_err(End::from),
        (None, Some(_)) => return files.need(&["quote.msg"]).map(drop).map_err(End::from),
    }
    for (name, value) in [
        (aws::CheckName::UserData, appraised.user_data()),
        (aws::CheckName::PublicKey, appraised.public_key()),
    ] {
        if let Some(value) = value {
            findings.qualify(
                Step::Report,
                CheckName::Aws(name),
                "what you know of",
                &format!("{} bytes: {}", value.len(), hex::encode(value)),
                "the measured software put it in, and it is worth as much as that software",
            );
        }
    }
    match generation {
        Some(generation) => {
            let expected = ExpectedPcrs::try_from(generation)
                .map_err(|error| Failure::config("the policy's PCRs").because(error))?;
            appraised.demand_pcrs(&expected, findings)?;
        }
        None => warn_of_no_policy(findings, "the registers of the document"),
    }
    Ok(())
}

fn claim(said: Option<&[u8]>) -> Claim {
    said.map_or(Claim::Absent, |bytes| Claim::Exactly(bytes.to_vec()))
}

fn sized(statement: &[u8]) -> Vec<u8> {
    match u16::try_from(statement.len()) {
        Ok(size) if statement.starts_with(&[0xff, b'T', b'C', b'G']) => {
            let mut sized = size.to_be_bytes().to_vec();
            sized.extend_from_slice(statement);
            sized
        }
        _ => statement.to_vec(),
    }
}
