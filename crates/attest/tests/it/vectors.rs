//! Quotes of real TPMs. Provenance: `testdata/README.md`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use attest::event_log::EventLog;
use attest::tpm::{KeyScheme, PublicArea, Quote, Signature, Statement};
use attest::{
    ClusterMark, Digest, Evidence, Issue as _, PcrIndex, PcrValues, RefusalCode, Variant,
};
use testkit::appraise;
use testkit::boot::Image;
use testkit::tee::{SoftTpm, tpm2b};

use crate::binding;

fn testdata(path: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The whole path on evidence that a real TPM implementation (libtpms) made over the binding of these tests.
#[test]
fn captured_evidence_of_swtpm_is_accepted() {
    let image = Image::default();
    let evidence = Evidence::new(Variant::QemuVtpm, testdata("qemu-vtpm/swtpm.json")).unwrap();
    let verified = appraise(
        &evidence,
        &binding(),
        &image.policy(),
        &ClusterMark::NotJoined,
    )
    .unwrap_or_else(|refusal| panic!("{refusal}"));
    assert_eq!(verified.measurements(), &image.pcrs());
    let refusal = appraise(
        &evidence,
        &attest::Binding::for_verification(&[0; 32]),
        &image.policy(),
        &ClusterMark::NotJoined,
    );
    assert_eq!(refusal.unwrap_err().code(), RefusalCode::WrongBinding);
}

#[test]
fn a_verdict_says_how_often_the_tpm_was_reset() {
    let image = Image::default();
    let tpm = SoftTpm::boot(&image);
    let count = || {
        let evidence = tpm.issue(&binding()).unwrap();
        let verdict = appraise(
            &evidence,
            &binding(),
            &image.policy(),
            &ClusterMark::NotJoined,
        );
        verdict.unwrap().reset_count()
    };
    assert_eq!(count(), 0);
    tpm.reboot(&image);
    tpm.reboot(&image);
    assert_eq!(count(), 2);
}

fn gce_pcrs() -> PcrValues {
    let json: BTreeMap<String, serde_json::Value> =
        serde_json::from_slice(&testdata("tpm-quote/gce-cos-85/pcrs.json")).unwrap();
    let bank = json
        .get("sha256")
        .and_then(|bank| bank.as_object().cloned());
    let bank = bank.unwrap_or_else(|| json.into_iter().collect());
    let mut pcrs = PcrValues::at_reset();
    for index in PcrIndex::all() {
        pcrs.set(
            index,
            bank[&index.to_string()]
                .as_str()
                .unwrap()
                .parse::<Digest>()
                .unwrap(),
        );
    }
    pcrs
}

#[test]
fn quote_of_a_google_vtpm_parses_and_verifies() {
    let public =
        PublicArea::parse(&tpm2b(&testdata("tpm-quote/gce-cos-85/ak.tpmt_public"))).unwrap();
    assert_eq!(public.scheme(), KeyScheme::Rsassa);
    assert!(
        public.attributes().is_attestation_key(),
        "{}",
        public.attributes().describe()
    );
    let quoted = tpm2b(&testdata("tpm-quote/gce-cos-85/quote.msg"));
    let statement = Statement::parse(&quoted).unwrap();
    let signature = Signature::parse(&testdata("tpm-quote/gce-cos-85/quote.sig")).unwrap();
    assert!(public.verify(statement.signed(), &signature));
    assert!(!public.verify(&statement.signed()[1..], &signature));

    let quote = statement.quote().unwrap();
    assert_eq!(quote.extra_data, [0x90, 0x09]);
    assert_eq!(quote.selections.len(), 1);
    assert!(quote.selections[0].is_sha256() && quote.selections[0].is_all());
    assert_eq!(quote.firmware_version, 0x2016_0511_0016_2800);
    assert_eq!(quote.pcr_digest, gce_pcrs().quote_digest().as_bytes());

    let log = testdata("tpm-quote/gce-cos-85/eventlog.bin");
    assert_eq!(EventLog::parse(&log).unwrap().unexplained(&gce_pcrs()), []);
}

/// The trap of the original: a genuine quote of another bank must never vouch for SHA-256 values.
#[test]
fn quote_of_another_bank_is_told_apart() {
    let quoted = tpm2b(&testdata("tpm-quote/gce-cos-85-sha384/quote.msg"));
    let quote = Quote::parse(&quoted).unwrap();
    assert!(!quote.selections[0].is_sha256());
    assert_eq!(quote.selections[0].bank_name(), "sha384");
    assert_ne!(quote.pcr_digest, gce_pcrs().quote_digest().as_bytes());
}

/// Every prefix of a real structure is refused, and so is one byte more.
#[test]
fn cut_off_structures_are_refused() {
    let public = tpm2b(&testdata("tpm-quote/gce-cos-85/ak.tpmt_public"));
    let quoted = tpm2b(&testdata("tpm-quote/gce-cos-85/quote.msg"));
    let signature = testdata("tpm-quote/gce-cos-85/quote.sig");
    for length in 0..public.len() {
        assert!(PublicArea::parse(&public[..length]).is_err(), "{length}");
    }
    for length in 0..quoted.len() {
        assert!(Quote::parse(&quoted[..length]).is_err(), "{length}");
    }
    for length in 0..signature.len() {
        assert!(Signature::parse(&signature[..length]).is_err(), "{length}");
    }
    assert!(PublicArea::parse(&[public, vec![0]].concat()).is_err());
    assert!(Quote::parse(&[quoted, vec![0]].concat()).is_err());
    assert!(Signature::parse(&[signature, vec![0]].concat()).is_err());
}
