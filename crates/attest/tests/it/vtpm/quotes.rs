//! One check of a quote at a time, on quotes of real machines.

use std::collections::{BTreeMap, BTreeSet};

use attest::tpm::{
    BankValues, BankValuesError, HashAlgorithm, PcrRequirements, PcrRequirementsError, PcrValue,
    PublicArea, PublicKey, QualifyingData, Selection, SignedQuote, TrustedAk, VerifiedQuote,
};
use attest::{Findings, PcrIndex, RefusalCode, Stop};
use testkit::cloud::CloudTpm;
use testkit::tee::tpm2b;

use super::{Quote, accepted, assert_refused, evidence, public_key, values};

/// RSA, SHA-256 bank, all PCRs.
const GCE: &str = "gcp-vtpm/go-tpm-tools/gce-cos-85-sha256";
/// The same machine, SHA-384 bank.
const GCE_384: &str = "gcp-vtpm/go-tpm-tools/gce-cos-85-sha384";
/// RSA, SHA-256 bank, PCRs 15, 16 and 22.
const KEYLIME: &str = "swtpm/keylime";

fn pcr(number: u32) -> PcrIndex {
    PcrIndex::new(number).unwrap()
}

fn gce_ak() -> TrustedAk {
    let area = tpm2b(&evidence(format!("{GCE}/ak.tpmt_public")));
    TrustedAk::enrolled_by_operator(PublicArea::parse(&area).unwrap().key().clone())
}

fn keylime_ak() -> TrustedAk {
    TrustedAk::enrolled_by_operator(public_key(&evidence(format!("{KEYLIME}/ak.pem"))))
}

#[test]
fn each_change_of_a_real_statement_fails_its_own_check() {
    type Change = fn(&mut Quote);
    let rows: [(&str, RefusalCode, Change); 11] = [
        ("made by a TPM", RefusalCode::NotAuthentic, |q| {
            q.statement[3] ^= 1
        }),
        ("statement type", RefusalCode::NotAuthentic, |q| {
            q.statement[5] = 0x17
        }),
        ("quote format", RefusalCode::Malformed, |q| {
            q.statement.push(0)
        }),
        ("quote format", RefusalCode::Malformed, |q| {
            q.statement.truncate(5)
        }),
        ("quote format", RefusalCode::Malformed, |q| {
            q.statement.resize(2000, 0)
        }),
        ("signature format", RefusalCode::Malformed, |q| {
            q.signature[1] = 0x10
        }),
        // SHA-1
        ("signature format", RefusalCode::Malformed, |q| {
            q.signature[3] = 0x04
        }),
        ("signature", RefusalCode::NotAuthentic, |q| {
            q.signature[100] ^= 1
        }),
        // RSAPSS
        ("signature", RefusalCode::NotAuthentic, |q| {
            q.signature[1] = 0x16
        }),
        // the last byte of the PCR digest
        ("signature", RefusalCode::NotAuthentic, |q| {
            *q.statement.last_mut().unwrap() ^= 1
        }),
        ("bound to this session", RefusalCode::WrongBinding, |q| {
            q.nonce = vec![0x90, 0x09, 0]
        }),
    ];
    let ak = gce_ak();
    let quote = Quote::of(GCE);
    let mut findings = Findings::new();
    accepted(quote.verify(&ak, &mut findings), &findings);
    for (name, code, change) in rows {
        let mut changed = quote.clone();
        change(&mut changed);
        let mut findings = Findings::new();
        let result = changed.verify(&ak, &mut findings);
        assert_refused(&result, &findings, &[name]);
        assert_eq!(findings.refusal_code(), Some(code), "{name}");
    }
}

/// The numbers stand behind the name of the signer and the nonce (TPM 2.0 Part 2, 10.12.8 and 10.12.12).
#[test]
fn a_quote_says_when_it_was_made_and_by_which_firmware() {
    let statement = Quote::of(GCE).statement;
    let mut rest = &statement[6..];
    for _ in 0..2 {
        let length = usize::from(u16::from_be_bytes(rest[..2].try_into().unwrap()));
        rest = &rest[2 + length..];
    }
    let number = |at: usize, length: usize| {
        let bytes = rest[at..at + length].iter();
        bytes.fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
    };
    let bank = HashAlgorithm::Sha256;
    let (result, findings) = with_values(GCE, &gce_ak(), &values(GCE), bank, &Selection::All);
    let quote = accepted(result, &findings);
    assert!(quote.clock() > 1 && quote.firmware_version() > 1);
    assert_eq!(quote.clock(), number(0, 8));
    assert_eq!(u64::from(quote.reset_count()), number(8, 4));
    assert_eq!(u64::from(quote.restart_count()), number(12, 4));
    assert_eq!(quote.is_clock_safe(), number(16, 1) == 1);
    assert_eq!(quote.firmware_version(), number(17, 8));
}

#[test]
fn a_quote_is_good_for_its_own_key_only() {
    let quote = Quote::of(GCE);
    for other in [
        keylime_ak(),
        TrustedAk::enrolled_by_operator(PublicKey::rsa(&CloudTpm::new().modulus(), 0).unwrap()),
    ] {
        let mut findings = Findings::new();
        let result = quote.verify(&other, &mut findings);
        assert_refused(&result, &findings, &["signature"]);
    }
}

fn with_values(
    id: &str,
    ak: &TrustedAk,
    values: &BankValues,
    bank: HashAlgorithm,
    selection: &Selection,
) -> (Result<VerifiedQuote, Stop>, Findings) {
    let mut findings = Findings::new();
    let quote = Quote::of(id);
    let signed: SignedQuote<'_> = accepted(quote.verify(ak, &mut findings), &findings);
    let result = signed.with_values(&mut findings, values, bank, selection);
    (result, findings)
}

/// The trap of the original: a genuine quote of another bank beside invented SHA-256 values.
#[test]
fn a_quote_of_another_bank_vouches_for_nothing() {
    let ak = gce_ak();
    for (id, bank) in [
        (GCE, HashAlgorithm::Sha384),
        (GCE_384, HashAlgorithm::Sha256),
        (GCE, HashAlgorithm::Sha1),
        (GCE_384, HashAlgorithm::Sha512),
    ] {
        let (result, findings) = with_values(id, &ak, &values(id), bank, &Selection::All);
        assert_refused(&result, &findings, &["PCR bank"]);
    }
    for (id, other) in [(GCE, GCE_384), (GCE_384, GCE)] {
        let bank = values(id).bank();
        let (result, findings) = with_values(id, &ak, &values(other), bank, &Selection::All);
        assert_refused(&result, &findings, &["PCR digest"]);
    }
}

#[test]
fn values_are_the_quoted_ones_no_more_and_no_fewer() {
    let ak = gce_ak();
    for id in [GCE, GCE_384] {
        let truth = values(id);
        let bank = truth.bank();
        let changed = |change: &dyn Fn(&mut BTreeMap<PcrIndex, PcrValue>)| {
            let mut map = truth.iter().map(|(i, v)| (i, v.clone())).collect();
            change(&mut map);
            BankValues::new(bank, map).unwrap()
        };
        let zero = PcrValue::new(bank, &vec![0; bank.length()]).unwrap();
        let another = changed(&|map| {
            map.insert(pcr(4), zero.clone());
        });
        let fewer = changed(&|map| {
            map.remove(&pcr(23));
        });
        let swapped = changed(&|map| {
            let (four, five) = (map[&pcr(4)].clone(), map[&pcr(5)].clone());
            map.insert(pcr(4), five);
            map.insert(pcr(5), four);
        });
        for lie in [another, fewer, swapped] {
            let (result, findings) = with_values(id, &ak, &lie, bank, &Selection::All);
            assert_refused(&result, &findings, &["PCR digest"]);
        }
        let (result, findings) = with_values(id, &ak, &truth, bank, &Selection::All);
        let verified = accepted(result, &findings);
        assert_eq!(verified.bank(), bank);
        assert_eq!(verified.get(pcr(4)), truth.get(pcr(4)));
        assert_eq!(verified.ak_id(), ak.id());
        let whole = verified.whole_sha256_bank();
        assert_eq!(whole.is_ok(), bank == HashAlgorithm::Sha256);
    }
    // a value that was not quoted must not come along with those that were
    let truth = values(KEYLIME);
    let bank = truth.bank();
    let more = truth
        .iter()
        .map(|(i, v)| (i, v.clone()))
        .chain([(pcr(4), PcrValue::new(bank, &[0; 32]).unwrap())]);
    let more = BankValues::new(bank, more).unwrap();
    let any = Selection::Including(BTreeSet::from([pcr(15)]));
    let (result, findings) = with_values(KEYLIME, &keylime_ak(), &more, bank, &any);
    assert_refused(&result, &findings, &["PCR digest"]);
    let (result, findings) = with_values(KEYLIME, &keylime_ak(), &truth, bank, &any);
    let verified = accepted(result, &findings);
    assert_eq!(verified.get(pcr(4)), None);
    assert!(verified.whole_sha256_bank().is_err());
}

#[test]
fn the_demanded_pcrs_are_selected() {
    let truth = values(KEYLIME);
    for (selection, holds) in [
        (Selection::All, false),
        (Selection::Including(BTreeSet::from([pcr(15)])), true),
        (
            Selection::Including(BTreeSet::from([pcr(15), pcr(22)])),
            true,
        ),
        (
            Selection::Including(BTreeSet::from([pcr(4), pcr(15)])),
            false,
        ),
    ] {
        let (result, findings) =
            with_values(KEYLIME, &keylime_ak(), &truth, truth.bank(), &selection);
        if holds {
            accepted(result, &findings);
        } else {
            assert_refused(&result, &findings, &["PCR selection"]);
        }
    }
}

/// Selections that no sample has, by a TPM that lies.
#[test]
fn odd_selections_are_refused() {
    let tpm = CloudTpm::new();
    let ak = TrustedAk::enrolled_by_operator(PublicKey::rsa(&tpm.modulus(), 0).unwrap());
    let bank = HashAlgorithm::Sha256;
    let truth = BankValues::new(bank, [(pcr(4), PcrValue::new(bank, &[4; 32]).unwrap())]).unwrap();
    let nothing = BankValues::new(bank, []).unwrap();
    let four = Selection::Including(BTreeSet::from([pcr(4)]));
    let none = Selection::Including(BTreeSet::new());
    type Lie = fn(&mut testkit::tee::QuoteParts);
    let rows: [(&str, &BankValues, &Selection, Lie); 5] = [
        ("PCR bank", &truth, &four, |q| q.selections.clear()),
        ("PCR bank", &truth, &four, |q| {
            q.selections.push((0x0c, vec![0; 3]));
        }),
        ("PCR bank", &truth, &four, |q| q.selections[0].0 = 0x12),
        // a PCR beyond the 24 of a PC
        ("PCR selection", &truth, &four, |q| {
            q.selections[0].1.push(1);
        }),
        // nothing selected proves nothing, whatever is demanded
        ("PCR selection", &nothing, &none, |_| ()),
    ];
    for (name, values, selection, lie) in rows {
        let quoted = tpm.quote_with(b"nonce", values, lie);
        let quote = Quote {
            statement: quoted.statement,
            signature: quoted.signature,
            nonce: b"nonce".to_vec(),
        };
        let mut findings = Findings::new();
        let signed = accepted(quote.verify(&ak, &mut findings), &findings);
        let result = signed.with_values(&mut findings, values, bank, selection);
        assert_refused(&result, &findings, &[name]);
    }
}

#[test]
fn sha1_is_no_bank_to_believe() {
    let tpm = CloudTpm::new();
    let ak = TrustedAk::enrolled_by_operator(PublicKey::rsa(&tpm.modulus(), 0).unwrap());
    let bank = HashAlgorithm::Sha1;
    let truth = BankValues::new(bank, [(pcr(4), PcrValue::new(bank, &[4; 20]).unwrap())]).unwrap();
    let quoted = tpm.quote(b"nonce", &truth);
    let quote = Quote {
        statement: quoted.statement,
        signature: quoted.signature,
        nonce: b"nonce".to_vec(),
    };
    let mut findings = Findings::new();
    let signed = accepted(quote.verify(&ak, &mut findings), &findings);
    assert_eq!(signed.bank(), Some(bank));
    let selection = Selection::Including(BTreeSet::from([pcr(4)]));
    let result = signed.with_values(&mut findings, &truth, bank, &selection);
    assert_refused(&result, &findings, &["PCR bank"]);
}

fn requirements(
    accepted: impl IntoIterator<Item = (u32, PcrValue)>,
) -> Result<PcrRequirements, PcrRequirementsError> {
    let mut map: BTreeMap<PcrIndex, BTreeSet<PcrValue>> = BTreeMap::new();
    for (index, value) in accepted {
        map.entry(pcr(index)).or_default().insert(value);
    }
    PcrRequirements::new(HashAlgorithm::Sha256, map)
}

#[test]
fn accepted_values_decide() {
    let truth = values(GCE);
    let value = |number| truth.get(pcr(number)).unwrap().clone();
    let run = |requirements: &PcrRequirements| {
        let (quote, mut findings) = with_values(
            GCE,
            &gce_ak(),
            &truth,
            requirements.bank(),
            &requirements.selection(),
        );
        let quote = accepted(quote, &findings);
        let result = requirements.accept(quote, &mut findings);
        (result, findings)
    };
    let (result, findings) = run(&requirements([(4, value(4)), (7, value(7))]).unwrap());
    let pcrs = accepted(result, &findings);
    assert_eq!(pcrs.quote().get(pcr(4)), Some(&value(4)));

    // another value beside the true one
    let (result, findings) = run(&requirements([(4, value(5)), (4, value(4))]).unwrap());
    accepted(result, &findings);

    let (result, findings) =
        run(&requirements([(4, value(5)), (5, value(5)), (7, value(5))]).unwrap());
    assert_refused(&result, &findings, &["PCR 4", "PCR 7"]);
    assert_eq!(findings.refusal_code(), Some(RefusalCode::Measurements));
}

/// Values of a PCR that was not quoted, and of a quote over another bank.
#[test]
fn what_was_not_quoted_is_not_accepted() {
    let wanted = requirements([(4, values(GCE).get(pcr(4)).unwrap().clone())]).unwrap();
    for (id, ak) in [(KEYLIME, keylime_ak()), (GCE_384, gce_ak())] {
        let truth = values(id);
        let some = Selection::Including(BTreeSet::from([pcr(15)]));
        let (quote, mut findings) = with_values(id, &ak, &truth, truth.bank(), &some);
        let quote = accepted(quote, &findings);
        let result = wanted.accept(quote, &mut findings);
        assert_refused(&result, &findings, &["PCR 4"]);
    }
}

#[test]
fn requirements_that_decide_nothing_cannot_be_made() {
    let bank = HashAlgorithm::Sha256;
    let value = || PcrValue::new(bank, &[4; 32]).unwrap();
    assert_eq!(requirements([]), Err(PcrRequirementsError::Empty));
    for number in 16..24 {
        assert_eq!(
            requirements([(4, value()), (number, value())]),
            Err(PcrRequirementsError::Resettable(pcr(number)))
        );
    }
    let other = PcrValue::new(HashAlgorithm::Sha384, &[4; 48]).unwrap();
    assert_eq!(
        requirements([(4, other)]),
        Err(PcrRequirementsError::OtherBank(
            pcr(4),
            HashAlgorithm::Sha384
        ))
    );
    assert_eq!(
        PcrRequirements::new(bank, BTreeMap::from([(pcr(4), BTreeSet::new())])),
        Err(PcrRequirementsError::NoValue(pcr(4)))
    );
    let sha1 = PcrValue::new(HashAlgorithm::Sha1, &[4; 20]).unwrap();
    assert_eq!(
        PcrRequirements::new(
            HashAlgorithm::Sha1,
            BTreeMap::from([(pcr(4), BTreeSet::from([sha1]))])
        ),
        Err(PcrRequirementsError::WeakBank(HashAlgorithm::Sha1))
    );
    let many = (0..65).map(|byte| (4, PcrValue::new(bank, &[byte; 32]).unwrap()));
    assert_eq!(
        requirements(many),
        Err(PcrRequirementsError::TooManyValues(pcr(4)))
    );
}

#[test]
fn values_belong_to_one_bank() {
    let sha256 = || PcrValue::new(HashAlgorithm::Sha256, &[4; 32]).unwrap();
    assert_eq!(
        BankValues::new(HashAlgorithm::Sha384, [(pcr(4), sha256())]),
        Err(BankValuesError::OtherBank {
            index: pcr(4),
            found: HashAlgorithm::Sha256,
            expected: HashAlgorithm::Sha384,
        })
    );
    assert_eq!(
        BankValues::new(
            HashAlgorithm::Sha256,
            [(pcr(4), sha256()), (pcr(4), sha256())]
        ),
        Err(BankValuesError::Twice(pcr(4)))
    );
    assert!(PcrValue::new(HashAlgorithm::Sha256, &[4; 31]).is_err());
    assert!(PcrValue::from_hex(HashAlgorithm::Sha256, &"4x".repeat(32)).is_err());
    assert!(PcrValue::from_hex(HashAlgorithm::Sha256, &"44".repeat(1000)).is_err());
}

#[test]
fn qualifying_data_is_never_empty() {
    assert!(QualifyingData::of_nonce(&[]).is_err());
    assert!(QualifyingData::of_nonce(&[1; 65]).is_err());
    assert!(QualifyingData::of_nonce(&[1; 64]).is_ok());
}

/// The forms in which tools save a signature; a changed one is of no other form.
#[test]
fn saved_forms_of_signatures_are_read() {
    use attest::tpm::{KeyScheme, Signature};

    let id = "gcp-vtpm/vaportpm/amd";
    let der = evidence(format!("{id}/quote.sig"));
    let chain =
        attest::x509::Certificate::chain_from_pem(&evidence(format!("{id}/ak-chain.pem")), 4);
    let chain = chain.unwrap();
    let key = PublicKey::try_from(chain[0].public_key()).unwrap();
    let signature = Signature::parse_any_form(&key, &der).unwrap();
    assert_eq!(signature.scheme(), KeyScheme::Ecdsa);
    assert_eq!(signature.hash(), HashAlgorithm::Sha256);
    for length in 0..der.len() {
        assert!(Signature::parse_any_form(&key, &der[..length]).is_err());
    }
    assert!(Signature::parse_any_form(&key, &[&der[..], &[0]].concat()).is_err());
    // a zero in front of a number that needs none, and a number below zero
    let spare = [&[0x30, 0x07, 0x02, 0x02, 0, 1, 0x02, 0x01, 1][..]].concat();
    assert!(Signature::parse_any_form(&key, &spare).is_err());
    let negative = [0x30, 0x06, 0x02, 0x01, 0x80, 0x02, 0x01, 1];
    assert!(Signature::parse_any_form(&key, &negative).is_err());
    let least = [0x30, 0x06, 0x02, 0x01, 1, 0x02, 0x01, 1];
    assert!(Signature::parse_any_form(&key, &least).is_ok());
}

/// The PCR digest of a quote is made with the hash of the key's scheme, whatever the bank.
#[test]
fn the_scheme_decides_the_hash_of_the_values() {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};

    let key = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap();
    let point = PublicKey::P384(key.public_key().as_ref().try_into().unwrap());
    let ak = TrustedAk::enrolled_by_operator(point);
    let bank = HashAlgorithm::Sha512;
    let truth = BankValues::new(bank, [(pcr(4), PcrValue::new(bank, &[4; 64]).unwrap())]).unwrap();
    let selection = Selection::Including(BTreeSet::from([pcr(4)]));
    let tpm = CloudTpm::new();
    for (hash, holds) in [
        (HashAlgorithm::Sha384, true),
        (HashAlgorithm::Sha256, false),
        (HashAlgorithm::Sha512, false),
    ] {
        let quoted = tpm.quote_with(b"nonce", &truth, |q| {
            q.pcr_digest = truth.quote_digest(hash)
        });
        let numbers = key.sign(&SystemRandom::new(), &quoted.statement).unwrap();
        let (r, s) = numbers.as_ref().split_at(48);
        let quote = Quote {
            statement: quoted.statement,
            signature: [vec![0x00, 0x18, 0x00, 0x0c], tpm2b(r), tpm2b(s)].concat(),
            nonce: b"nonce".to_vec(),
        };
        let mut findings = Findings::new();
        let signed = accepted(quote.verify(&ak, &mut findings), &findings);
        let result = signed.with_values(&mut findings, &truth, bank, &selection);
        if holds {
            accepted(result, &findings);
        } else {
            assert_refused(&result, &findings, &["PCR digest"]);
        }
    }
}

/// The digest is over the values alone: it does not say which PCRs they are of.
#[test]
fn values_are_of_the_pcrs_that_were_selected() {
    let tpm = CloudTpm::new();
    let bank = HashAlgorithm::Sha256;
    let of = |numbers: [u32; 2]| {
        let value = |byte: u8| PcrValue::new(bank, &[byte; 32]).unwrap();
        let [first, second] = numbers.map(pcr);
        BankValues::new(bank, [(first, value(1)), (second, value(2))]).unwrap()
    };
    let quoted = tpm.quote(b"nonce", &of([4, 11]));
    let ak = TrustedAk::enrolled_by_operator(PublicKey::rsa(&tpm.modulus(), 0).unwrap());
    let any = Selection::Including(BTreeSet::from([pcr(4)]));
    for (values, is_true) in [
        (of([4, 11]), true),
        (of([4, 9]), false),
        (of([9, 11]), false),
    ] {
        let mut findings = Findings::new();
        let signed = ak
            .signed_quote(
                attest::tpm::Statement::parse_bare(&quoted.statement),
                attest::tpm::Signature::parse(&quoted.signature),
                &QualifyingData::of_nonce(b"nonce").unwrap(),
                &mut findings,
            )
            .unwrap();
        let result = signed.with_values(&mut findings, &values, bank, &any);
        if is_true {
            accepted(result, &findings);
        } else {
            assert_refused(&result, &findings, &["PCR digest"]);
        }
    }
}

/// Two values of 48 bytes are as long as three of 32.
#[test]
fn values_of_another_bank_with_the_same_digest_are_refused() {
    let tpm = CloudTpm::new();
    let of = |bank: HashAlgorithm, count: u32| {
        let value = PcrValue::new(bank, &vec![7; bank.length()]).unwrap();
        BankValues::new(bank, (0..count).map(|number| (pcr(number), value.clone()))).unwrap()
    };
    let truth = of(HashAlgorithm::Sha256, 3);
    let lie = of(HashAlgorithm::Sha384, 2);
    assert_eq!(
        truth.quote_digest(HashAlgorithm::Sha256),
        lie.quote_digest(HashAlgorithm::Sha256)
    );
    let quoted = tpm.quote(b"nonce", &truth);
    let ak = TrustedAk::enrolled_by_operator(PublicKey::rsa(&tpm.modulus(), 0).unwrap());
    let any = Selection::Including(BTreeSet::from([pcr(0)]));
    for (values, is_true) in [(truth, true), (lie, false)] {
        let mut findings = Findings::new();
        let signed = ak
            .signed_quote(
                attest::tpm::Statement::parse_bare(&quoted.statement),
                attest::tpm::Signature::parse(&quoted.signature),
                &QualifyingData::of_nonce(b"nonce").unwrap(),
                &mut findings,
            )
            .unwrap();
        let result = signed.with_values(&mut findings, &values, HashAlgorithm::Sha256, &any);
        if is_true {
            let verified = accepted(result, &findings);
            // three of 24
            assert!(verified.whole_sha256_bank().is_err());
        } else {
            assert_refused(&result, &findings, &["PCR digest"]);
        }
    }
}
