//! Attestation keys of other kinds than this system makes, in a real TPM: those of machines whose owner chose them.

use std::collections::BTreeSet;

use attest::tpm::ek::{Challenge, EkPublic, Enrolled, Randomness, Template};
use attest::tpm::{
    BankValues, HashAlgorithm, PublicArea, QualifyingData, Selection, Signature, Statement,
};
use attest::{Digest, Findings};
use testkit::swtpm::Swtpm;
use tpm2_protocol::data::{TpmAlgId, TpmEccCurve};

use super::{Tpm, attestation_key_template};

/// Activates a key of this kind, and verifies a quote that it signs.
fn is_activated_and_quotes(tpm: &mut Tpm, kind: (TpmAlgId, TpmEccCurve, TpmAlgId)) {
    let (name_alg, curve, hash) = kind;
    let ek = tpm.create_endorsement_key(Template::H2).unwrap();
    let key = tpm
        .create_attestation_key_of(attestation_key_template(name_alg, curve, hash))
        .unwrap();
    let public = EkPublic::parse(&ek.public).unwrap();
    let enrolled = Enrolled::new(BTreeSet::from([public.name().clone()]));
    let challenge = Challenge::new(
        &enrolled.admit(public).unwrap(),
        PublicArea::parse(&key.public).unwrap(),
        Randomness::new([7; Randomness::LENGTH]),
    )
    .unwrap();
    let answer = tpm
        .activate_challenge(&ek, &key, &challenge)
        .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
    let ak = challenge.answer(&answer).unwrap().trusted();

    let data = Digest::of(b"data");
    let quote = tpm.quote(&key, &data).unwrap();
    let mut findings = Findings::new();
    let signed = ak.signed_quote(
        Statement::parse(&quote.quoted),
        Signature::parse(&quote.signature),
        &QualifyingData::of_nonce(data.as_bytes()).unwrap(),
        &mut findings,
    );
    let verified = signed.and_then(|signed| {
        signed.with_values(
            &mut findings,
            &BankValues::from(&tpm.read_pcrs().unwrap()),
            HashAlgorithm::Sha256,
            &Selection::All,
        )
    });
    assert!(verified.is_ok(), "{kind:?}: {findings}");
    tpm.flush_key(key).unwrap();
    tpm.flush_endorsement_key(ek).unwrap();
}

#[test]
fn keys_of_every_name_curve_and_hash_are_activated_and_quote() {
    let swtpm = Swtpm::start().unwrap();
    let mut tpm = Tpm::connect_swtpm(&swtpm.socket()).unwrap();
    let hashes = [TpmAlgId::Sha256, TpmAlgId::Sha384, TpmAlgId::Sha512];
    for name_alg in hashes {
        for curve in [TpmEccCurve::NistP256, TpmEccCurve::NistP384] {
            for hash in hashes {
                is_activated_and_quotes(&mut tpm, (name_alg, curve, hash));
            }
        }
    }
}
