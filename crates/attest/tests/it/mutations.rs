//! One lie per row, and the one check it must fail. A check without a row here is not done.

use attest::event_log::event_type;
use attest::qemu_vtpm::Document;
use attest::{
    Binding, ClusterIdDigest, ClusterMark, Digest, Evidence, Outcome, PcrIndex, Policy,
    RefusalCode, Role, Variant,
};
use testkit::appraise;
use testkit::boot::Image;
use testkit::tee::{PublicParts, QuoteParts, SoftTpm, tpm2b};

use crate::{CLUSTER_ID, binding, evidence, named, verdict};

/// A document whose statement was changed and signed again: what an attacker with a software TPM can do.
fn resigned(tpm: &SoftTpm, change: impl FnOnce(&mut QuoteParts)) -> Document {
    let mut document = tpm.document(&binding());
    let mut parts = SoftTpm::quote_parts(&binding(), &document.pcrs);
    change(&mut parts);
    let statement = parts.to_tpms_attest();
    document.signature = tpm.sign(&statement);
    document.quote = tpm2b(&statement);
    document
}

fn with_key(tpm: &SoftTpm, change: impl FnOnce(&mut PublicParts)) -> Document {
    let mut document = tpm.document(&binding());
    let mut parts = tpm.public_parts();
    change(&mut parts);
    document.ak_public = parts.to_tpm2b();
    document
}

fn changed(tpm: &SoftTpm, change: impl FnOnce(&mut Document)) -> Document {
    let mut document = tpm.document(&binding());
    change(&mut document);
    document
}

fn pcr(number: u32) -> PcrIndex {
    PcrIndex::new(number).unwrap()
}

#[test]
fn true_evidence_is_accepted_and_said_to_be_not_confidential() {
    let image = Image::default();
    let tpm = SoftTpm::boot(&image);
    let verified = verdict(&tpm.document(&binding()), &image.policy()).unwrap();
    assert_eq!(verified.variant(), Variant::QemuVtpm);
    assert!(!verified.is_confidential());
    assert!(!verified.has_joined());
    assert_eq!(verified.image_name(), Some("v0.1.0"));
    assert_eq!(verified.measurements(), &image.pcrs());
    assert_eq!(verified.ak_id().len(), 64);
    assert_eq!(
        named(verified.checks(), Outcome::Warning),
        ["hardware root of trust"]
    );
    assert_eq!(named(verified.checks(), Outcome::Failed), [""; 0]);
    assert!(
        verified.to_string().contains("no hardware root of trust"),
        "{verified}"
    );
}

#[test]
fn each_lie_fails_its_own_check_and_no_other() {
    let image = Image::default();
    let tpm = SoftTpm::boot(&image);
    let other = SoftTpm::boot(&image);
    let t = &tpm;
    let rows: Vec<(&str, Document, &str, RefusalCode)> = vec![
        // the key
        (
            "key: cut off",
            changed(t, |d| d.ak_public.truncate(40)),
            "key format",
            RefusalCode::Malformed,
        ),
        (
            "key: a byte after it",
            changed(t, |d| d.ak_public.push(0)),
            "key format",
            RefusalCode::Malformed,
        ),
        (
            "key: an unknown curve",
            with_key(t, |k| k.curve = 5),
            "key format",
            RefusalCode::Malformed,
        ),
        (
            "key: another curve",
            with_key(t, |k| k.curve = 4),
            "signature",
            RefusalCode::NotAuthentic,
        ),
        (
            "key: another hash",
            with_key(t, |k| k.scheme.1 = 0x000c),
            "signature",
            RefusalCode::NotAuthentic,
        ),
        (
            "key: for storage",
            with_key(t, |k| k.symmetric = 6),
            "key format",
            RefusalCode::Malformed,
        ),
        (
            "key: ECDAA",
            with_key(t, |k| k.scheme.0 = 0x1a),
            "key format",
            RefusalCode::Malformed,
        ),
        (
            "key: SHA-1 scheme",
            with_key(t, |k| k.scheme.1 = 4),
            "key format",
            RefusalCode::Malformed,
        ),
        (
            "key: no scheme",
            with_key(t, |k| k.scheme.0 = 0x10),
            "key format",
            RefusalCode::Malformed,
        ),
        (
            "key: coordinate too long",
            with_key(t, |k| k.point.0 = vec![1; 33]),
            "key format",
            RefusalCode::Malformed,
        ),
        (
            "key: not restricted",
            with_key(t, |k| k.attributes &= !(1 << 16)),
            "key attributes",
            RefusalCode::NotAuthentic,
        ),
        (
            "key: not fixedTPM",
            with_key(t, |k| k.attributes &= !(1 << 1)),
            "key attributes",
            RefusalCode::NotAuthentic,
        ),
        (
            "key: not fixedParent",
            with_key(t, |k| k.attributes &= !(1 << 4)),
            "key attributes",
            RefusalCode::NotAuthentic,
        ),
        (
            "key: imported",
            with_key(t, |k| k.attributes &= !(1 << 5)),
            "key attributes",
            RefusalCode::NotAuthentic,
        ),
        (
            "key: does not sign",
            with_key(t, |k| k.attributes &= !(1 << 18)),
            "key attributes",
            RefusalCode::NotAuthentic,
        ),
        (
            "key: decrypts too",
            with_key(t, |k| k.attributes |= 1 << 17),
            "key attributes",
            RefusalCode::NotAuthentic,
        ),
        (
            "key: signs certificates",
            with_key(t, |k| k.attributes |= 1 << 19),
            "key attributes",
            RefusalCode::NotAuthentic,
        ),
        (
            "key: of another machine",
            changed(t, |d| d.ak_public = other.public_parts().to_tpm2b()),
            "signature",
            RefusalCode::NotAuthentic,
        ),
        (
            "key: not on the curve",
            with_key(t, |k| k.point.1 = vec![3; 32]),
            "signature",
            RefusalCode::NotAuthentic,
        ),
        // the statement
        (
            "quote: cut off",
            changed(t, |d| d.quote.truncate(60)),
            "quote format",
            RefusalCode::Malformed,
        ),
        (
            "quote: a byte after it",
            changed(t, |d| d.quote.push(0)),
            "quote format",
            RefusalCode::Malformed,
        ),
        (
            "quote: a byte inside after the digest",
            restated(t, |statement| statement.push(0)),
            "quote format",
            RefusalCode::Malformed,
        ),
        (
            "quote: a clock that is neither safe nor not",
            restated(t, |statement| statement[SAFE] = 2),
            "quote format",
            RefusalCode::Malformed,
        ),
        (
            "quote: longer than any",
            changed(t, |d| d.quote = tpm2b(&[0; 1025])),
            "quote format",
            RefusalCode::Malformed,
        ),
        (
            "quote: 2^32-1 banks",
            endless_banks(t),
            "quote format",
            RefusalCode::Malformed,
        ),
        (
            "quote: magic",
            resigned(t, |q| q.magic = 0xff54_4348),
            "made by a TPM",
            RefusalCode::NotAuthentic,
        ),
        (
            "quote: a certification",
            resigned(t, |q| q.kind = 0x8017),
            "statement type",
            RefusalCode::NotAuthentic,
        ),
        (
            "quote: no bank",
            resigned(t, |q| q.selections.clear()),
            "PCR bank",
            RefusalCode::NotAuthentic,
        ),
        (
            "quote: SHA-1 bank",
            resigned(t, |q| q.selections[0].0 = 4),
            "PCR bank",
            RefusalCode::NotAuthentic,
        ),
        (
            "quote: SHA-384 bank",
            resigned(t, |q| q.selections[0].0 = 0xc),
            "PCR bank",
            RefusalCode::NotAuthentic,
        ),
        (
            "quote: a second bank",
            resigned(t, |q| q.selections.push((0xc, vec![0xff; 3]))),
            "PCR bank",
            RefusalCode::NotAuthentic,
        ),
        (
            "quote: the bank twice",
            resigned(t, |q| q.selections.push((0xb, vec![0xff; 3]))),
            "PCR bank",
            RefusalCode::NotAuthentic,
        ),
        (
            "quote: without PCR 4",
            resigned(t, |q| q.selections[0].1 = vec![0xef, 0xff, 0xff]),
            "PCR selection",
            RefusalCode::NotAuthentic,
        ),
        (
            "quote: 16 PCRs",
            resigned(t, |q| q.selections[0].1 = vec![0xff; 2]),
            "PCR selection",
            RefusalCode::NotAuthentic,
        ),
        (
            "quote: 32 PCRs",
            resigned(t, |q| q.selections[0].1 = vec![0xff; 4]),
            "PCR selection",
            RefusalCode::NotAuthentic,
        ),
        (
            "quote: digest of other values",
            resigned(t, |q| q.pcr_digest = vec![9; 32]),
            "PCR digest",
            RefusalCode::NotAuthentic,
        ),
        (
            "quote: empty digest",
            resigned(t, |q| q.pcr_digest.clear()),
            "PCR digest",
            RefusalCode::NotAuthentic,
        ),
        (
            "quote: short digest",
            resigned(t, |q| q.pcr_digest.truncate(31)),
            "PCR digest",
            RefusalCode::NotAuthentic,
        ),
        // the signature
        (
            "signature: cut off",
            changed(t, |d| d.signature.truncate(20)),
            "signature format",
            RefusalCode::Malformed,
        ),
        (
            "signature: a byte after it",
            changed(t, |d| d.signature.push(0)),
            "signature format",
            RefusalCode::Malformed,
        ),
        (
            "signature: HMAC",
            changed(t, |d| d.signature[1] = 5),
            "signature format",
            RefusalCode::Malformed,
        ),
        (
            "signature: SHA-1",
            changed(t, |d| d.signature[3] = 4),
            "signature format",
            RefusalCode::Malformed,
        ),
        (
            "signature: of an RSA key",
            rsa_signature(t),
            "signature",
            RefusalCode::NotAuthentic,
        ),
        (
            "signature: one bit",
            changed(t, |d| d.signature[10] ^= 1),
            "signature",
            RefusalCode::NotAuthentic,
        ),
        (
            "signature: zero",
            changed(t, |d| {
                d.signature = [vec![0, 0x18, 0, 0xb], tpm2b(&[]), tpm2b(&[])].concat()
            }),
            "signature",
            RefusalCode::NotAuthentic,
        ),
        (
            "signature: by another machine",
            other_signs(t, &other),
            "signature",
            RefusalCode::NotAuthentic,
        ),
        (
            "quote: changed after it was signed",
            changed(t, |d| d.quote[60] ^= 1),
            "signature",
            RefusalCode::NotAuthentic,
        ),
        // the binding
        (
            "report data: empty",
            resigned(t, |q| q.extra_data.clear()),
            "bound to this session",
            RefusalCode::WrongBinding,
        ),
        (
            "report data: short",
            resigned(t, |q| q.extra_data.truncate(31)),
            "bound to this session",
            RefusalCode::WrongBinding,
        ),
        (
            "report data: padded",
            resigned(t, |q| q.extra_data.push(0)),
            "bound to this session",
            RefusalCode::WrongBinding,
        ),
        (
            "report data: of another session",
            resigned(t, |q| q.extra_data[0] ^= 1),
            "bound to this session",
            RefusalCode::WrongBinding,
        ),
        // the values
        (
            "PCR: another value than quoted",
            changed(t, |d| d.pcrs.set(pcr(4), Digest::ZERO)),
            "PCR digest",
            RefusalCode::NotAuthentic,
        ),
        (
            "PCR: a resettable one other than quoted",
            changed(t, |d| d.pcrs.set(pcr(23), Digest::of(b"x"))),
            "PCR digest",
            RefusalCode::NotAuthentic,
        ),
        // the log
        (
            "log: none",
            changed(t, |d| d.event_log.clear()),
            "log format",
            RefusalCode::Measurements,
        ),
        (
            "log: cut off in a record",
            changed(t, |d| d.event_log.truncate(d.event_log.len() - 1)),
            "log format",
            RefusalCode::Measurements,
        ),
        (
            "log: bytes after it",
            changed(t, |d| d.event_log.extend([0; 5])),
            "log format",
            RefusalCode::Measurements,
        ),
        (
            "log: last record missing",
            changed(t, without_last_record),
            "log replay",
            RefusalCode::Measurements,
        ),
        (
            "log: a digest changed",
            changed(t, change_digest),
            "log replay",
            RefusalCode::Measurements,
        ),
    ];
    let policy = image.policy();
    for (what, document, check, code) in rows {
        let refusal = verdict(&document, &policy).expect_err(what);
        assert_eq!(
            named(refusal.checks(), Outcome::Failed),
            [check],
            "{what}: {refusal}"
        );
        assert_eq!(refusal.code(), code, "{what}");
        let failed = refusal.failed().next().unwrap();
        assert!(failed.next_step.is_some(), "{what} says what to do");
        assert!(failed.actual.is_some(), "{what} says what was found");
    }
}

/// `safe` in the statement: behind magic, type, signer, qualifying data, clock and two counters.
const SAFE: usize = 4 + 2 + (2 + 34) + (2 + 32) + 8 + 4 + 4;

/// The host sets every clock of a machine, also the TPM's counter of milliseconds, and whether that ever ran backwards. Nothing of a
/// verdict depends on a clock: the binding says that evidence is new.
#[test]
fn a_clock_set_back_or_forward_a_year_changes_no_verdict() {
    const YEAR: u64 = 365 * 24 * 3600 * 1000;
    const CLOCK: usize = SAFE - 16;
    let tpm = SoftTpm::boot(&Image::default());
    let policy = Image::default().policy();
    let expected = verdict(&tpm.document(&binding()), &policy).unwrap();
    for clock in [0, 1_000 + YEAR, YEAR, u64::MAX] {
        for is_safe in [0, 1] {
            let document = restated(&tpm, |statement| {
                assert_eq!(statement[CLOCK..CLOCK + 8], 1_000_u64.to_be_bytes());
                statement[CLOCK..CLOCK + 8].copy_from_slice(&clock.to_be_bytes());
                statement[SAFE] = is_safe;
            });
            let verified = verdict(&document, &policy).unwrap();
            assert_eq!(verified.measurements(), expected.measurements());
            assert_eq!(verified.ak_id(), expected.ak_id());
        }
    }
}

/// A document whose statement was changed byte by byte and signed again.
fn restated(tpm: &SoftTpm, change: impl FnOnce(&mut Vec<u8>)) -> Document {
    let mut document = tpm.document(&binding());
    let mut statement = SoftTpm::quote_parts(&binding(), &document.pcrs).to_tpms_attest();
    change(&mut statement);
    document.signature = tpm.sign(&statement);
    document.quote = tpm2b(&statement);
    document
}

fn endless_banks(tpm: &SoftTpm) -> Document {
    restated(tpm, |statement| {
        let count = statement.len() - (2 + 32) - (2 + 1 + 3) - 4;
        statement[count..count + 4].copy_from_slice(&[0xff; 4]);
    })
}

fn rsa_signature(tpm: &SoftTpm) -> Document {
    changed(tpm, |d| {
        d.signature = [vec![0, 0x14, 0, 0x0b], tpm2b(&[1; 256])].concat()
    })
}

fn other_signs(tpm: &SoftTpm, other: &SoftTpm) -> Document {
    changed(tpm, |d| d.signature = other.sign(&d.quote[2..]))
}

/// Removes the record of PCR 5 that the test image's boot ends with.
fn without_last_record(document: &mut Document) {
    let last = testkit::boot::record(Image::default().boot().last().unwrap());
    document
        .event_log
        .truncate(document.event_log.len() - last.len());
}

fn change_digest(document: &mut Document) {
    let last = testkit::boot::record(Image::default().boot().last().unwrap());
    let at = document.event_log.len() - last.len() + 14;
    document.event_log[at] ^= 1;
}

#[test]
fn evidence_is_good_for_its_own_binding_only() {
    let image = Image::default();
    let tpm = SoftTpm::boot(&image);
    let evidence = evidence(&tpm.document(&binding()));
    let others = [
        (
            "role",
            Binding::for_channel(
                Role::JoinService,
                &[1; 64],
                &[2; 32],
                b"server spki",
                Some(b"client spki"),
            ),
        ),
        (
            "exporter",
            Binding::for_channel(
                Role::Node,
                &[3; 64],
                &[2; 32],
                b"server spki",
                Some(b"client spki"),
            ),
        ),
        (
            "transcript",
            Binding::for_channel(
                Role::Node,
                &[1; 64],
                &[3; 32],
                b"server spki",
                Some(b"client spki"),
            ),
        ),
        (
            "server",
            Binding::for_channel(
                Role::Node,
                &[1; 64],
                &[2; 32],
                b"other spki",
                Some(b"client spki"),
            ),
        ),
        (
            "client",
            Binding::for_channel(Role::Node, &[1; 64], &[2; 32], b"server spki", None),
        ),
        (
            "swapped",
            Binding::for_channel(
                Role::Node,
                &[1; 64],
                &[2; 32],
                b"client spki",
                Some(b"server spki"),
            ),
        ),
        (
            "shifted",
            Binding::for_channel(
                Role::Node,
                &[1; 64],
                &[2; 32],
                b"server spkic",
                Some(b"lient spki"),
            ),
        ),
        ("verification", Binding::for_verification(&[2; 32])),
    ];
    for (what, other) in others {
        let refusal =
            appraise(&evidence, &other, &image.policy(), &ClusterMark::NotJoined).expect_err(what);
        assert_eq!(
            named(refusal.checks(), Outcome::Failed),
            ["bound to this session"],
            "{what}"
        );
        assert_eq!(refusal.code(), RefusalCode::WrongBinding, "{what}");
    }
}

#[test]
fn cluster_mark_is_demanded_as_the_caller_says() {
    let image = Image::default();
    let fresh = SoftTpm::boot(&image);
    let joined = SoftTpm::boot(&image);
    joined.join(&CLUSTER_ID);
    let twice = SoftTpm::boot(&image);
    twice.join(&CLUSTER_ID);
    twice.join(&CLUSTER_ID);
    let this = ClusterIdDigest::of(&CLUSTER_ID);
    let other = ClusterIdDigest::of(&[0x43; 32]);
    let table = [
        (ClusterMark::NotJoined, [true, false, false]),
        (ClusterMark::Cluster(this), [false, true, false]),
        (ClusterMark::Cluster(other), [false, false, false]),
        (ClusterMark::AnyCluster, [false, true, true]),
        (ClusterMark::NotJoinedOrCluster(this), [true, true, false]),
        (ClusterMark::NotJoinedOrCluster(other), [true, false, false]),
    ];
    for (mark, accepted) in table {
        for (tpm, accepted) in [&fresh, &joined, &twice].into_iter().zip(accepted) {
            let verdict = appraise(
                &evidence(&tpm.document(&binding())),
                &binding(),
                &image.policy(),
                &mark,
            );
            match verdict {
                Ok(verified) => {
                    assert!(accepted, "{mark}");
                    assert_eq!(
                        verified.has_joined(),
                        tpm.pcrs().get(pcr(15)) != Digest::ZERO
                    );
                }
                Err(refusal) => {
                    assert!(!accepted, "{mark}: {refusal}");
                    assert_eq!(refusal.code(), RefusalCode::ClusterMark);
                    assert_eq!(named(refusal.checks(), Outcome::Failed), ["PCR 15"]);
                    assert!(
                        refusal.summary().contains("cluster mark (PCR 15)"),
                        "{}",
                        refusal.summary()
                    );
                }
            }
        }
    }
}

#[test]
fn a_pcr_that_only_warns_is_accepted_with_a_warning() {
    let image = Image::default();
    let mut measurements = image.policy().measurements().clone();
    measurements.get_mut(&pcr(8)).unwrap().warn_only = true;
    let policy = Policy::new(Variant::QemuVtpm, None, measurements, Vec::new()).unwrap();
    let digest = Digest::of(b"another boot loader's");
    let changed = Image {
        extra: vec![(8, event_type::IPL, Vec::new(), digest)],
        ..image
    };
    let verified = verdict(&SoftTpm::boot(&changed).document(&binding()), &policy).unwrap();
    assert_eq!(
        named(verified.checks(), Outcome::Warning),
        ["hardware root of trust", "PCR 8"]
    );
    assert_eq!(verified.warnings().count(), 2);
}

#[test]
fn resettable_pcrs_do_not_decide() {
    let image = Image::default();
    let tpm = SoftTpm::boot(&image);
    for number in [16, 23] {
        tpm.extend(pcr(number), &Digest::of(b"anything"));
    }
    verdict(&tpm.document(&binding()), &image.policy()).unwrap();
}

#[test]
fn a_pcr_extended_after_boot_is_refused_twice() {
    let image = Image::default();
    let tpm = SoftTpm::boot(&image);
    tpm.extend(pcr(12), &Digest::of(b"credential from the host"));
    let refusal = verdict(&tpm.document(&binding()), &image.policy()).unwrap_err();
    assert_eq!(
        named(refusal.checks(), Outcome::Failed),
        ["log replay", "PCR 12"]
    );
    assert_eq!(refusal.code(), RefusalCode::Measurements);
}

#[test]
fn own_measurements_accept_the_same_image_and_no_other() {
    let image = Image::default();
    let own = SoftTpm::boot(&image);
    let policy =
        Policy::from_own_measurements(Variant::QemuVtpm, &own.pcrs(), own.event_log()).unwrap();
    verdict(&SoftTpm::boot(&image).document(&binding()), &policy).unwrap();
    let other = Image {
        initrd: b"another initrd".to_vec(),
        ..image
    };
    let refusal = verdict(&SoftTpm::boot(&other).document(&binding()), &policy).unwrap_err();
    assert_eq!(
        named(refusal.checks(), Outcome::Failed),
        ["PCR 9", "PCR 11"]
    );
    assert!(
        refusal
            .failed()
            .all(|check| check.component.as_deref() == Some("initrd")),
        "{refusal}"
    );
}

#[test]
fn documents_with_anything_else_in_them_are_refused() {
    let image = Image::default();
    let tpm = SoftTpm::boot(&image);
    let document = tpm.document(&binding());
    let json: serde_json::Value = serde_json::from_slice(&document.to_json()).unwrap();
    let change = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut json = json.clone();
        change(&mut json);
        serde_json::to_vec(&json).unwrap()
    };
    let text = String::from_utf8(document.to_json()).unwrap();
    let rows: Vec<(&str, Vec<u8>)> = vec![
        ("not JSON", b"x".to_vec()),
        ("an unknown field", change(&|j| j["userData"] = "".into())),
        (
            "a field missing",
            change(&|j| {
                j.as_object_mut().unwrap().remove("quote");
            }),
        ),
        (
            "no log field",
            change(&|j| {
                j.as_object_mut().unwrap().remove("eventLog");
            }),
        ),
        (
            "a second bank",
            change(&|j| j["pcrs"]["sha384"] = j["pcrs"]["sha256"].clone()),
        ),
        (
            "another bank alone",
            change(&|j| {
                let b = j["pcrs"]["sha256"].take();
                j["pcrs"] = serde_json::json!({ "sha384": b });
            }),
        ),
        (
            "23 PCRs",
            change(&|j| {
                j["pcrs"]["sha256"].as_object_mut().unwrap().remove("23");
            }),
        ),
        (
            "a 25th PCR",
            change(&|j| j["pcrs"]["sha256"]["24"] = j["pcrs"]["sha256"]["0"].clone()),
        ),
        (
            "PCR 04",
            change(&|j| j["pcrs"]["sha256"]["04"] = j["pcrs"]["sha256"]["4"].clone()),
        ),
        (
            "a PCR twice",
            text.replacen("\"1\":", "\"0\":", 1).into_bytes(),
        ),
        (
            "a field twice",
            text.replacen('{', "{\"eventLog\":\"\",", 1).into_bytes(),
        ),
        (
            "a short PCR",
            change(&|j| j["pcrs"]["sha256"]["0"] = "00".into()),
        ),
        (
            "url-safe base64",
            change(&|j| j["signature"] = "-_-_".into()),
        ),
        (
            "base64 without padding",
            change(&|j| j["signature"] = "QQ".into()),
        ),
        ("an array of the fields", {
            let fields = [
                "akPublic",
                "quote",
                "signature",
                "pcrs",
                "eventLog",
                "commandLine",
            ];
            serde_json::to_vec(&fields.map(|field| json[field].clone())).unwrap()
        }),
        (
            "an array of the banks",
            change(&|j| j["pcrs"] = serde_json::json!([j["pcrs"]["sha256"]])),
        ),
        (
            "no command line where there is one",
            change(&|j| j["commandLine"] = serde_json::Value::Null),
        ),
        (
            "a huge key",
            change(&|j| j["akPublic"] = "A".repeat(4096).into()),
        ),
        (
            "a huge command line",
            change(&|j| j["commandLine"] = "x".repeat(4097).into()),
        ),
        (
            "a huge log",
            change(&|j| j["eventLog"] = "A".repeat(240_000).into()),
        ),
        ("text after it", [text.as_bytes(), b"{}"].concat()),
        ("nested beyond reason", "[".repeat(200_000).into_bytes()),
    ];
    for (what, bytes) in rows {
        let evidence = Evidence::new(Variant::QemuVtpm, bytes).expect(what);
        let refusal = appraise(
            &evidence,
            &binding(),
            &image.policy(),
            &ClusterMark::NotJoined,
        )
        .expect_err(what);
        assert_eq!(
            named(refusal.checks(), Outcome::Failed),
            ["document format"],
            "{what}"
        );
        assert_eq!(refusal.code(), RefusalCode::Malformed, "{what}");
    }
    assert!(Evidence::new(Variant::QemuVtpm, Vec::new()).is_err());
    assert!(Evidence::new(Variant::QemuVtpm, vec![b' '; attest::MAX_EVIDENCE + 1]).is_err());
}
