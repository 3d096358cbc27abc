//! Credential activation against a real TPM: what `attest` encrypts, swtpm decrypts for the right keys and no others.

use std::collections::BTreeSet;

use attest::tpm::ek::{
    ActivatedAk, Challenge, EkPublic, EndorsementKey, Enrolled, Randomness, Template, Trust,
    WrongAnswer,
};
use attest::tpm::{
    BankValues, HashAlgorithm, PublicArea, QualifyingData, Selection, Signature, Statement,
    TrustedAk, VerifiedQuote,
};
use attest::{Digest, Findings, Stop};
use tee::{Tpm, TpmError};
use testkit::swtpm::Swtpm;

/// Not secret, and different for each challenge of a test.
fn randomness(seed: u8) -> Randomness {
    let mut bytes = [0; Randomness::LENGTH];
    for (byte, value) in bytes.iter_mut().zip(0_u8..) {
        *byte = value.wrapping_mul(37).wrapping_add(seed);
    }
    Randomness::new(bytes)
}

fn enrolled(public: &[u8]) -> EndorsementKey {
    let public = EkPublic::parse(public).unwrap();
    Enrolled::new(BTreeSet::from([public.name().clone()]))
        .admit(public)
        .unwrap()
}

fn activated(tpm: &mut Tpm, template: Template) -> Result<ActivatedAk, WrongAnswer> {
    let ek = tpm.create_endorsement_key(template).unwrap();
    let ak = tpm.create_attestation_key().unwrap();
    let challenge = Challenge::new(
        &enrolled(&ek.public),
        PublicArea::parse(&ak.public).unwrap(),
        randomness(1),
    )
    .unwrap();
    let answer = tpm.activate_challenge(&ek, &ak, &challenge).unwrap();
    tpm.flush_endorsement_key(ek).unwrap();
    tpm.flush_key(ak).unwrap();
    challenge.answer(&answer)
}

#[test]
fn a_tpm_activates_its_key_by_each_kind_of_endorsement_key() {
    let swtpm = Swtpm::start().unwrap();
    let mut tpm = Tpm::connect_swtpm(&swtpm.socket()).unwrap();
    // twice, so that a slot or a session that is left behind shows
    for _ in 0..2 {
        for template in [
            Template::L1,
            Template::L2,
            Template::H1,
            Template::H2,
            Template::H3,
            Template::H6,
        ] {
            let activated = activated(&mut tpm, template).unwrap();
            assert_eq!(activated.trust(), Trust::Enrolled);
        }
    }
}

/// A quote that this TPM makes now, as somebody who trusts `ak` sees it.
fn quoted(tpm: &mut Tpm, ak: &TrustedAk, findings: &mut Findings) -> Result<VerifiedQuote, Stop> {
    let data = Digest::of(b"data");
    let key = tpm.create_attestation_key().unwrap();
    let quote = tpm.quote(&key, &data).unwrap();
    tpm.flush_key(key).unwrap();
    let signed = ak.signed_quote(
        Statement::parse(&quote.quoted),
        Signature::parse(&quote.signature),
        &QualifyingData::of_nonce(data.as_bytes()).unwrap(),
        findings,
    )?;
    let values = BankValues::from(&tpm.read_pcrs().unwrap());
    signed.with_values(findings, &values, HashAlgorithm::Sha256, &Selection::All)
}

#[test]
fn an_activated_key_vouches_for_the_quotes_of_its_tpm_and_of_no_other() {
    let (one, other) = (Swtpm::start().unwrap(), Swtpm::start().unwrap());
    let mut one = Tpm::connect_swtpm(&one.socket()).unwrap();
    let mut other = Tpm::connect_swtpm(&other.socket()).unwrap();
    let activated = activated(&mut one, Template::H3).unwrap();
    let id = activated.public_area().id();
    let ak = activated.trusted();
    assert_eq!(ak.origin(), "of a TPM that was enrolled");

    let mut findings = Findings::new();
    let verified = quoted(&mut one, &ak, &mut findings);
    let verified = verified.unwrap_or_else(|_| panic!("{findings}"));
    assert_eq!(verified.ak_id(), id);

    let mut findings = Findings::new();
    assert!(quoted(&mut other, &ak, &mut findings).is_err());
    let last = findings.checks().last().unwrap();
    assert_eq!(last.name.to_string(), "signature");
}

#[test]
fn another_tpm_cannot_answer() {
    let (one, other) = (Swtpm::start().unwrap(), Swtpm::start().unwrap());
    let mut one = Tpm::connect_swtpm(&one.socket()).unwrap();
    let mut other = Tpm::connect_swtpm(&other.socket()).unwrap();
    for template in [Template::L1, Template::L2, Template::H3] {
        let ek = one.create_endorsement_key(template).unwrap();
        let ak = one.create_attestation_key().unwrap();
        let others_ek = other.create_endorsement_key(template).unwrap();
        let others_ak = other.create_attestation_key().unwrap();
        let challenge = |ek: &[u8], ak: &[u8]| {
            Challenge::new(&enrolled(ek), PublicArea::parse(ak).unwrap(), randomness(2)).unwrap()
        };
        // for the keys of one TPM, answered by the other
        let refused = other
            .activate_challenge(&others_ek, &others_ak, &challenge(&ek.public, &ak.public))
            .unwrap_err();
        assert!(matches!(refused, TpmError::Refused { .. }), "{refused}");
        // for the endorsement key of one and the attestation key of the other: neither can answer
        let mixed = challenge(&ek.public, &others_ak.public);
        assert!(one.activate_challenge(&ek, &ak, &mixed).is_err());
        assert!(
            other
                .activate_challenge(&others_ek, &others_ak, &mixed)
                .is_err()
        );
        // and the right one still can: no session was left behind, no key locked
        let right = challenge(&ek.public, &ak.public);
        let answer = one.activate_challenge(&ek, &ak, &right).unwrap();
        assert!(right.answer(&answer).is_ok());

        for (tpm, ek, ak) in [(&mut one, ek, ak), (&mut other, others_ek, others_ak)] {
            tpm.flush_endorsement_key(ek).unwrap();
            tpm.flush_key(ak).unwrap();
        }
    }
}

#[test]
fn a_changed_challenge_is_refused_by_the_tpm() {
    let swtpm = Swtpm::start().unwrap();
    let mut tpm = Tpm::connect_swtpm(&swtpm.socket()).unwrap();
    let ek = tpm.create_endorsement_key(Template::H2).unwrap();
    let ak = tpm.create_attestation_key().unwrap();
    let challenge = Challenge::new(
        &enrolled(&ek.public),
        PublicArea::parse(&ak.public).unwrap(),
        randomness(3),
    )
    .unwrap();
    let (blob, secret) = (challenge.credential_blob(), challenge.encrypted_secret());
    assert!(tpm.activate(&ek, &ak, blob, secret).is_ok());
    for position in [4, blob.len() - 1] {
        let mut changed = blob.to_vec();
        changed[position] ^= 1;
        assert!(tpm.activate(&ek, &ak, &changed, secret).is_err());
    }
    let mut changed = secret.to_vec();
    *changed.last_mut().unwrap() ^= 1;
    assert!(tpm.activate(&ek, &ak, blob, &changed).is_err());
}

#[test]
fn the_same_tpm_has_the_same_endorsement_key_and_another_has_another() {
    let (one, other) = (Swtpm::start().unwrap(), Swtpm::start().unwrap());
    let id = |swtpm: &Swtpm| {
        let mut tpm = Tpm::connect_swtpm(&swtpm.socket()).unwrap();
        let ek = tpm.create_endorsement_key(Template::L1).unwrap();
        let id = enrolled(&ek.public).id();
        tpm.flush_endorsement_key(ek).unwrap();
        id
    };
    assert_eq!(id(&one), id(&one));
    assert_ne!(id(&one), id(&other));
}

#[test]
fn areas_are_made_written_and_read_whole() {
    let swtpm = Swtpm::start().unwrap();
    let mut tpm = Tpm::connect_swtpm(&swtpm.socket()).unwrap();
    let index = 0x0140_0002;
    assert_eq!(tpm.nv_read(index).unwrap(), None);
    tpm.nv_write(index, &[7; 64]).unwrap();
    assert_eq!(tpm.nv_read(index).unwrap(), Some(vec![7; 64]));
    tpm.nv_write(index, &[8; 64]).unwrap();
    assert_eq!(tpm.nv_read(index).unwrap(), Some(vec![8; 64]));
    let refused = tpm.nv_write(index, &[8; 65]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the NV area 0x01400002 has 64 bytes, and must have 65"
    );
    // more than one command takes
    let long: Vec<u8> = (0..1300_u32).map(|byte| byte.to_le_bytes()[0]).collect();
    tpm.nv_write(0x0150_0001, &long).unwrap();
    assert_eq!(tpm.nv_read(0x0150_0001).unwrap(), Some(long));
}
