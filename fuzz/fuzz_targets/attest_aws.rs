//! Documents of AWS, and answers of its security module, from a peer or a host.
#![cfg_attr(fuzzing, no_main)]

use attest::Findings;
use attest::aws::{Claim, Document, Requirements, Roots, appraise, nsm};

fuzz::fuzz_target!(|bytes: &[u8]| {
    drop(nsm::attestation_response(bytes));
    let Ok(document) = Document::parse(bytes) else {
        return;
    };
    let claim =
        |value: Option<&[u8]>| value.map_or(Claim::Absent, |bytes| Claim::Exactly(bytes.to_vec()));
    let requirements = Requirements::new(document.kind(), claim(document.nonce()))
        .with_user_data(claim(document.user_data()))
        .with_public_key(claim(document.public_key()));
    let mut findings = Findings::new();
    let appraised = appraise(
        bytes,
        &Roots::built_in(),
        &requirements,
        document.timestamp(),
        &mut findings,
    );
    // a seed may be whole; what was changed must not be
    assert_eq!(appraised.is_ok(), findings.refusal_code().is_none());
});
