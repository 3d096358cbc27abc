//! A real TPM (swtpm) makes evidence, `attest` appraises it. Needs the packages swtpm and swtpm-tools.

use std::sync::Arc;

use attest::{
    Binding, ClusterIdDigest, ClusterMark, Digest, Evidence, Issue as _, PcrIndex, Policy,
    RefusalCode, Role, Variant, Verified,
};
use tee::report::PcrTable;
use tee::{Tpm, TpmAddress, TpmIssuer};
use testkit::appraise;
use testkit::boot::Image;
use testkit::swtpm::{Banks, Swtpm};

const CLUSTER_ID: [u8; 32] = [0x42; 32];
const SHA384: u16 = 0x000c;

fn binding(session: u8) -> Binding {
    Binding::for_channel(Role::Node, &[session; 64], &[2; 32], b"server", None)
}

fn pcr(number: u32) -> PcrIndex {
    PcrIndex::new(number).expect("a PCR")
}

fn issuer(tpm: &Swtpm, log_of: &Image) -> TpmIssuer {
    TpmIssuer::new(
        TpmAddress::Unix(tpm.socket()),
        tpm.write_event_log(log_of).expect("the log is written"),
    )
}

fn accepted(evidence: &Evidence, image: &Image) -> Verified {
    appraise(
        evidence,
        &binding(1),
        &image.policy(),
        &ClusterMark::NotJoined,
    )
    .unwrap_or_else(|refusal| panic!("{refusal}"))
}

/// The failed checks of a refusal.
fn refused(
    evidence: &Evidence,
    binding: &Binding,
    policy: &Policy,
    mark: &ClusterMark,
) -> (RefusalCode, Vec<String>) {
    let refusal = appraise(evidence, binding, policy, mark).expect_err("must be refused");
    (
        refusal.code(),
        refusal
            .failed()
            .map(|check| check.name.to_string())
            .collect(),
    )
}

#[test]
fn a_machine_that_booted_the_image_is_accepted() {
    let image = Image::default();
    let tpm = Swtpm::boot(&image).unwrap();
    let verified = accepted(&issuer(&tpm, &image).issue(&binding(1)).unwrap(), &image);
    assert_eq!(verified.measurements(), &image.pcrs());
    assert!(!verified.is_confidential());
}

#[test]
fn the_same_tpm_has_the_same_key_and_another_has_another() {
    let image = Image::default();
    let (one, other) = (Swtpm::boot(&image).unwrap(), Swtpm::boot(&image).unwrap());
    let id =
        |tpm: &Swtpm| accepted(&issuer(tpm, &image).issue(&binding(1)).unwrap(), &image).ak_id();
    assert_eq!(id(&one), id(&one));
    assert_ne!(id(&one), id(&other));
}

#[test]
fn evidence_of_one_session_is_refused_in_another() {
    let image = Image::default();
    let tpm = Swtpm::boot(&image).unwrap();
    let evidence = issuer(&tpm, &image).issue(&binding(1)).unwrap();
    let refusal = refused(
        &evidence,
        &binding(2),
        &image.policy(),
        &ClusterMark::NotJoined,
    );
    assert_eq!(
        refusal,
        (
            RefusalCode::WrongBinding,
            vec!["bound to this session".to_owned()]
        )
    );
}

#[test]
fn a_quote_with_the_key_of_another_tpm_is_refused() {
    let image = Image::default();
    let (one, other) = (Swtpm::boot(&image).unwrap(), Swtpm::boot(&image).unwrap());
    let document = |tpm: &Swtpm| {
        let evidence = issuer(tpm, &image).issue(&binding(1)).unwrap();
        attest::qemu_vtpm::Document::parse(evidence.document()).unwrap()
    };
    let mut mixed = document(&one);
    mixed.ak_public = document(&other).ak_public;
    let evidence = Evidence::new(Variant::QemuVtpm, mixed.to_json()).unwrap();
    let refusal = refused(
        &evidence,
        &binding(1),
        &image.policy(),
        &ClusterMark::NotJoined,
    );
    assert_eq!(
        refusal,
        (RefusalCode::NotAuthentic, vec!["signature".to_owned()])
    );
}

#[test]
fn another_initrd_is_refused_by_its_name() {
    let image = Image::default();
    let booted = Image {
        initrd: b"another initrd".to_vec(),
        ..image.clone()
    };
    let tpm = Swtpm::boot(&booted).unwrap();
    let evidence = issuer(&tpm, &booted).issue(&binding(1)).unwrap();
    let refusal = appraise(
        &evidence,
        &binding(1),
        &image.policy(),
        &ClusterMark::NotJoined,
    )
    .unwrap_err();
    assert_eq!(
        refusal.summary(),
        "boot measurements not accepted: initrd (PCR 9), initrd (PCR 11)"
    );
}

#[test]
fn another_root_file_system_is_refused_by_its_name() {
    let image = Image::default();
    let booted = Image {
        root_hash: Digest::of(b"a root file system with a back door"),
        ..image.clone()
    };
    let tpm = Swtpm::boot(&booted).unwrap();
    let file = tpm.directory().join("cmdline");
    std::fs::write(&file, format!("{}\n", booted.command_line())).unwrap();
    let evidence = issuer(&tpm, &booted)
        .with_command_line(file)
        .issue(&binding(1))
        .unwrap();
    let refusal = appraise(
        &evidence,
        &binding(1),
        &image.policy(),
        &ClusterMark::NotJoined,
    )
    .unwrap_err();
    assert_eq!(
        refusal.summary(),
        "boot measurements not accepted: root file system (PCR 9), root file system (PCR 11)",
        "{refusal}"
    );
    println!("{refusal}");
}

#[test]
fn a_pcr_extended_after_the_boot_is_refused() {
    let image = Image::default();
    let tpm = Swtpm::boot(&image).unwrap();
    tpm.extend(pcr(12), &Digest::of(b"credential from the host"))
        .unwrap();
    let evidence = issuer(&tpm, &image).issue(&binding(1)).unwrap();
    let refusal = refused(
        &evidence,
        &binding(1),
        &image.policy(),
        &ClusterMark::NotJoined,
    );
    assert_eq!(
        refusal,
        (
            RefusalCode::Measurements,
            vec!["log replay".to_owned(), "PCR 12".to_owned()]
        )
    );
}

#[test]
fn pcr_values_written_by_hand_are_refused() {
    let image = Image::default();
    let booted = Image {
        uki: Digest::of(b"evil"),
        ..image.clone()
    };
    let tpm = Swtpm::boot(&booted).unwrap();
    let evidence = issuer(&tpm, &image).issue(&binding(1)).unwrap();
    let mut document = attest::qemu_vtpm::Document::parse(evidence.document()).unwrap();
    document.pcrs = image.pcrs();
    let forged = Evidence::new(Variant::QemuVtpm, document.to_json()).unwrap();
    let refusal = refused(
        &forged,
        &binding(1),
        &image.policy(),
        &ClusterMark::NotJoined,
    );
    assert_eq!(
        refusal,
        (RefusalCode::NotAuthentic, vec!["PCR digest".to_owned()])
    );
}

#[test]
fn the_cluster_mark_is_the_event_over_the_cluster_id() {
    let image = Image::default();
    let tpm = Swtpm::boot(&image).unwrap();
    Tpm::connect_swtpm(&tpm.socket())
        .unwrap()
        .extend_event(PcrIndex::CLUSTER_MARK, &CLUSTER_ID)
        .unwrap();
    let evidence = issuer(&tpm, &image).issue(&binding(1)).unwrap();
    let this = ClusterIdDigest::of(&CLUSTER_ID);
    for mark in [
        ClusterMark::Cluster(this),
        ClusterMark::AnyCluster,
        ClusterMark::NotJoinedOrCluster(this),
    ] {
        let verified = appraise(&evidence, &binding(1), &image.policy(), &mark).unwrap();
        assert!(verified.has_joined());
    }
    let other = ClusterIdDigest::of(&[0; 32]);
    for mark in [
        ClusterMark::NotJoined,
        ClusterMark::Cluster(other),
        ClusterMark::NotJoinedOrCluster(other),
    ] {
        let refusal = refused(&evidence, &binding(1), &image.policy(), &mark);
        assert_eq!(
            refusal,
            (RefusalCode::ClusterMark, vec!["PCR 15".to_owned()]),
            "{mark}"
        );
    }
}

/// A TPM with more banks is fine as long as the quote is about SHA-256 alone; what is in the other banks neither helps
/// nor hurts, and the mark goes into all of them.
#[test]
fn other_banks_do_not_matter() {
    let image = Image::default();
    let tpm = Swtpm::start_with(Banks::All).unwrap();
    tpm.measure(&image).unwrap();
    tpm.extend_bank(pcr(4), SHA384, &[7; 48]).unwrap();
    let verified = accepted(&issuer(&tpm, &image).issue(&binding(1)).unwrap(), &image);
    assert_eq!(verified.measurements(), &image.pcrs());

    let empty = Swtpm::start_with(Banks::All).unwrap();
    empty.extend_bank(pcr(4), SHA384, &[7; 48]).unwrap();
    let evidence = issuer(&empty, &image).issue(&binding(1)).unwrap();
    let (code, _) = refused(
        &evidence,
        &binding(1),
        &image.policy(),
        &ClusterMark::NotJoined,
    );
    assert_eq!(code, RefusalCode::Measurements);
}

#[test]
fn a_node_accepts_its_like_and_refuses_another() {
    let image = Image::default();
    let (node, service) = (Swtpm::boot(&image).unwrap(), Swtpm::boot(&image).unwrap());
    let (pcrs, log) = issuer(&node, &image).own_measurements().unwrap();
    let policy = Policy::from_own_measurements(Variant::QemuVtpm, &pcrs, &log).unwrap();
    Tpm::connect_swtpm(&service.socket())
        .unwrap()
        .extend_event(PcrIndex::CLUSTER_MARK, &CLUSTER_ID)
        .unwrap();
    let evidence = issuer(&service, &image).issue(&binding(1)).unwrap();
    appraise(&evidence, &binding(1), &policy, &ClusterMark::AnyCluster).unwrap();

    let other = Image {
        kernel: Digest::of(b"another kernel"),
        ..image
    };
    let stranger = Swtpm::boot(&other).unwrap();
    stranger
        .extend(PcrIndex::CLUSTER_MARK, &Digest::of(b"x"))
        .unwrap();
    let evidence = issuer(&stranger, &other).issue(&binding(1)).unwrap();
    let refusal = appraise(&evidence, &binding(1), &policy, &ClusterMark::AnyCluster).unwrap_err();
    assert_eq!(
        refusal.summary(),
        "boot measurements not accepted: kernel (PCR 4)"
    );
}

#[test]
fn many_statements_at_once_leave_the_tpm_usable() {
    let image = Image::default();
    let tpm = Swtpm::boot(&image).unwrap();
    let issuer = Arc::new(issuer(&tpm, &image));
    let threads: Vec<_> = (0..8)
        .map(|session| {
            let issuer = Arc::clone(&issuer);
            std::thread::spawn(move || (session, issuer.issue(&binding(session)).unwrap()))
        })
        .collect();
    for thread in threads {
        let (session, evidence) = thread.join().unwrap();
        appraise(
            &evidence,
            &binding(session),
            &image.policy(),
            &ClusterMark::NotJoined,
        )
        .unwrap();
    }
}

#[test]
fn what_goes_wrong_is_said() {
    let image = Image::default();
    let tpm = Swtpm::boot(&image).unwrap();
    let socket = tpm.socket();
    let without_log = TpmIssuer::new(
        TpmAddress::Unix(socket.clone()),
        tpm.directory().join("no-log"),
    );
    let error = without_log.issue(&binding(1)).unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("cannot read the event log"), "{source}");

    let long = tpm.directory().join("long-log");
    std::fs::write(&long, vec![0; attest::event_log::MAX_LOG + 1]).unwrap();
    let error = TpmIssuer::new(TpmAddress::Unix(socket.clone()), long)
        .issue(&binding(1))
        .unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("longer than"), "{source}");

    let error = Tpm::connect_swtpm(&socket)
        .unwrap()
        .extend_event(pcr(15), &[0; 1025])
        .unwrap_err();
    assert!(error.to_string().contains("TPM2_PCR_Event"), "{error}");

    drop(tpm);
    let error = Tpm::connect_swtpm(&socket).unwrap_err();
    assert!(error.to_string().contains("cannot open the TPM"), "{error}");
}

#[test]
fn the_report_says_what_was_found() {
    let image = Image::default();
    let tpm = Swtpm::boot(&image).unwrap();
    let log = tpm.write_event_log(&image).unwrap();
    let address = TpmAddress::Unix(tpm.socket());
    let report = tee::report::of(&address, &log).to_string();
    for line in [
        "event log leads to the PCRs",
        "cluster mark (PCR 15): not set",
        "not confidential",
    ] {
        assert!(report.contains(line), "{line}: {report}");
    }
    let line = format!(
        "PCR  4  {}  boot loader (UKI) or kernel",
        image.pcrs().get(pcr(4))
    );
    assert!(report.contains(&line), "{report}");
    assert_eq!(PcrTable(&image.pcrs()).to_string().lines().count(), 24);

    tpm.extend(pcr(9), &Digest::of(b"x")).unwrap();
    let report = tee::report::of(&address, &log).to_string();
    assert!(
        report.contains("event log does not lead to PCR 9"),
        "{report}"
    );

    let missing = tee::report::of(&TpmAddress::Unix("/nonexistent/tpm".into()), &log).to_string();
    assert!(
        missing.contains("no usable TPM at /nonexistent/tpm"),
        "{missing}"
    );
}
