//! `evidence verify` and `evidence inspect`: every sample of real machines, and samples with one thing changed.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::harness::{Lab, Ran};

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../attest/testdata/evidence")
}

fn manifest() -> Vec<Value> {
    let json = std::fs::read(samples().join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&json).unwrap();
    manifest["samples"].as_array().unwrap().clone()
}

fn folder(id: &str) -> String {
    samples().join(id).to_str().unwrap().to_owned()
}

fn variant(id: &str) -> &str {
    id.split('/').next().unwrap()
}

/// One run of the program.
struct Run {
    id: String,
    arguments: Vec<String>,
    /// The exit code.
    expected: i32,
}

impl Run {
    fn verify(id: &str, at: Option<&str>, expected: i32) -> Self {
        let mut arguments = vec!["evidence", "verify", "--variant", variant(id)];
        let folder = folder(id);
        arguments.push(&folder);
        arguments.extend(at.iter().flat_map(|at| ["--at", at]));
        Self {
            id: id.to_owned(),
            arguments: arguments.into_iter().map(str::to_owned).collect(),
            expected,
        }
    }

    fn with(mut self, more: &[&str]) -> Self {
        self.arguments
            .extend(more.iter().map(|it| (*it).to_owned()));
        self
    }

    fn endorsed(self, id: &str) -> Self {
        self.with(&["--endorsements", &folder(id)])
    }
}

/// Runs all of them beside each other.
fn run_all(runs: &[Run], check: impl Fn(&Run, &Ran) + Sync) {
    let lab = Lab::new();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let arguments: Vec<&str> = run.arguments.iter().map(String::as_str).collect();
                    let ran = lab.run(&arguments);
                    if ran.code == Some(run.expected) {
                        check(run, &ran);
                    } else {
                        wrong.lock().unwrap().push(format!(
                            "{}: exit code {:?} and not {}\n{}\n{}",
                            run.id, ran.code, run.expected, ran.stdout, ran.stderr
                        ));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A sample whose verdict is another than the manifest's word for it.
struct Stricter {
    id: &'static str,
    /// The check that refuses.
    check: &'static str,
    /// Why that is the better verdict.
    why: &'static str,
}

/// The profile has one separator per register, and UEFI maps PCR 1 and 7 to RTMR0, 2 to 6 to RTMR1 (2.10, 38.4.1). In these the
/// second one stands in RTMR0 and none in RTMR1; newer firmware (trustee-gke) writes one into each.
const TWO_LINES: &str =
    "the same two separators in RTMR0 for which the manifest refuses go-eventlog-dupe-separator";

const STRICTER: [Stricter; 5] = [
    Stricter {
        id: "tdx/intel-qvl/reference-set-test-root",
        check: "PCK certificate",
        why: "of a root for tests, which is not built in; the manifest refuses it so, and accepts it under that root, as attest's tests do",
    },
    Stricter {
        id: "tpm-ek/stm/rsa-ek-nv-padded",
        check: "TPM certificate chain",
        why: "its chain is not in the sample, and a certificate without one proves nothing",
    },
    Stricter {
        id: "eventlog/go-attestation/short-no-action",
        check: "log format",
        why: "not one measurement: the manifest asks for no more than that nothing crashes",
    },
    Stricter {
        id: "eventlog/ccel/trustee-grub",
        check: "Secure Boot by the log",
        why: TWO_LINES,
    },
    Stricter {
        id: "eventlog/ccel/trustee-ovmf",
        check: "Secure Boot by the log",
        why: TWO_LINES,
    },
];

/// What the manifest says, as an exit code.
fn expected(sample: &Value) -> i32 {
    let id = sample["id"].as_str().unwrap();
    if ["roots", "tdx-collateral"].contains(&variant(id)) {
        return 2;
    }
    if STRICTER.iter().any(|stricter| stricter.id == id) {
        return 3;
    }
    match sample["expect"].as_str().unwrap() {
        "accept" => 0,
        "policy" | "reject" | "tcb" | "crypto-only" => 3,
        other => panic!("{id}: the manifest says {other}"),
    }
}

fn failed(json: &Value) -> Vec<String> {
    named(json, "failed")
}

fn named(json: &Value, outcome: &str) -> Vec<String> {
    let checks = json["checks"].as_array().unwrap().iter();
    let checks = checks.filter(|check| check["outcome"] == outcome);
    checks
        .map(|check| check["name"].as_str().unwrap().to_owned())
        .collect()
}

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

#[test]
fn every_sample_gets_the_verdict_of_the_manifest() {
    let manifest = manifest();
    let at_of = |id: &str| {
        let sample = manifest.iter().find(|sample| sample["id"] == id).unwrap();
        sample["at"].as_str().unwrap()
    };
    let mut runs = Vec::new();
    for sample in &manifest {
        let id = sample["id"].as_str().unwrap();
        let code = expected(sample);
        let at = sample["at"].as_str().filter(|at| at.starts_with('2'));
        let Some(pairs) = sample["tcb_expected"].as_object() else {
            let run = Run::verify(id, at, code).with(&["-o", "json"]);
            // the makers of TPMs are not built in: who asks says which one is accepted
            runs.push(if variant(id) == "tpm-ek" {
                run.endorsed(id)
            } else {
                run
            });
            continue;
        };
        // without a word of Intel's nothing is accepted
        runs.push(Run::verify(id, at, 3).with(&["-o", "json"]));
        for (collateral, status) in pairs {
            let collateral = format!("tdx-collateral/{collateral}");
            let is_up_to_date = status == "UpToDate" && sample["expect"] != "policy";
            let code = if is_up_to_date { 0 } else { 3 };
            let run = Run::verify(id, Some(at_of(&collateral)), code);
            runs.push(run.endorsed(&collateral).with(&["-o", "json"]));
        }
    }
    assert!(runs.len() > 180, "{}", runs.len());
    run_all(&runs, |run, ran| {
        if run.expected == 2 {
            assert_eq!(ran.stdout, "");
            assert!(
                ran.stderr.contains("endorsements and no evidence"),
                "{ran:?}"
            );
            return;
        }
        let json = json(ran);
        let failed = failed(&json);
        assert_eq!(json["variant"], variant(&run.id));
        assert_eq!(failed.is_empty(), run.expected == 0, "{}: {ran:?}", run.id);
        let word = if run.expected == 0 {
            "accepted"
        } else {
            "refused"
        };
        assert_eq!(json["verdict"], word);
        assert_eq!(json["refusal"].is_null(), run.expected == 0);
        if let Some(stricter) = STRICTER.iter().find(|stricter| stricter.id == run.id) {
            assert_eq!(failed, [stricter.check], "{}: {}", run.id, stricter.why);
        }
        // nobody asked for anything, and that is said; but a log and a certificate answer no question
        if run.expected == 0 && variant(&run.id) != "eventlog" {
            let warned = ran.stdout.contains("not bound to anything you asked for")
                || ran.stdout.contains("which anybody can copy")
                || named(&json, "warning").contains(&"PCRs of the policy".to_owned());
            assert!(warned, "{}: {ran:?}", run.id);
        }
    });
}

/// What is refused of a healthy machine's log is refused with what to do about it.
#[test]
fn a_log_that_is_not_whole_is_refused_with_its_remedy() {
    let lab = Lab::new();
    for (id, remedy) in [
        ("eventlog/go-attestation/ebs-missing", "Linux 5.3"),
        ("eventlog/ccel/go-eventlog-dupe-separator", "older OVMF"),
        ("eventlog/ccel/trustee-ovmf", "older OVMF"),
    ] {
        let ran = lab.run(&["evidence", "verify", "--variant", "eventlog", &folder(id)]);
        assert_eq!(ran.code, Some(3), "{id}: {ran:?}");
        assert!(ran.stdout.contains(remedy), "{id}: {ran:?}");
    }
}

/// Linux before 5.3 leaves out of its log what firmware measured last. Where the programs that firmware started measured something, the log is
/// not cut off for it, but shows nothing about Secure Boot either; where they did not, nothing tells it from one that is.
#[test]
fn a_log_without_the_end_of_boot_services_shows_no_secure_boot() {
    let lab = Lab::new();
    let verify = |folder: &str| {
        let ran = lab.run(&[
            "evidence",
            "verify",
            "--variant",
            "eventlog",
            folder,
            "-o",
            "json",
        ]);
        (ran.code, json(&ran))
    };
    // firmware's variables are in them: one that is off is off
    let (off, not_shown) = ("off: firmware started what it found", "not shown");
    for (id, said) in [
        ("go-tpm-tools/arch-linux-workstation", off),
        ("go-tpm-tools/debian-10", not_shown),
        ("keylime/bios-measurements", off),
        ("tpm2-tools/postcode", not_shown),
    ] {
        let (code, verdict) = verify(&folder(&format!("eventlog/{id}")));
        assert!(verdict.to_string().contains(said), "{id}: {verdict}");
        assert_eq!(code, Some(0), "{id}");
        assert!(
            named(&verdict, "warning").contains(&"Secure Boot by the log".to_owned()),
            "{id}: {verdict}"
        );
    }
    // the same log, cut behind the first program that firmware started: PCR, kind, SHA-1, length, text
    const PROGRAM: u32 = 0x8000_0003;
    let whole =
        std::fs::read(samples().join("eventlog/go-tpm-tools/debian-10/eventlog.bin")).unwrap();
    let number = |at: usize| u32::from_le_bytes(whole[at..at + 4].try_into().unwrap());
    let mut end = 0;
    loop {
        let (kind, length) = (number(end + 4), number(end + 28));
        end += 32 + usize::try_from(length).unwrap();
        if kind == PROGRAM {
            break;
        }
    }
    assert!(end < whole.len());
    let cut_off = |bytes: &[u8]| {
        let cut = lab.path().join("cut");
        std::fs::create_dir_all(&cut).unwrap();
        std::fs::write(cut.join("eventlog.bin"), bytes).unwrap();
        let (code, verdict) = verify(cut.to_str().unwrap());
        assert_eq!(code, Some(3), "{verdict}");
        assert_eq!(failed(&verdict), ["Secure Boot by the log"]);
    };
    cut_off(&whole[..end]);
    // what firmware itself measured as IPL, before it started anything: PCR 8, kind, SHA-1, length
    let mut ipl = [[8, 0, 0, 0], 0xd_u32.to_le_bytes()].concat();
    ipl.resize(32, 0);
    cut_off(&[&ipl, &whole[..end]].concat());
    // a trust domain's log is read whole by every kernel: register, kind, count, algorithm, SHA-384 and length stand before the text
    let gke = std::fs::read(samples().join("eventlog/ccel/trustee-gke/eventlog.bin")).unwrap();
    let text = b"Exit Boot Services Invocation";
    let at = gke.windows(text.len()).position(|it| it == text).unwrap();
    cut_off(&gke[..at - 66]);
}

#[test]
fn each_reason_is_that_of_the_manifest() {
    let at = |id: &str| {
        let manifest = manifest();
        let sample = manifest.iter().find(|sample| sample["id"] == id).unwrap();
        sample["at"].as_str().map(str::to_owned)
    };
    let lab = Lab::new();
    for (id, more, reasons) in [
        (
            "snp-vcek/go-sev-guest/milan-v2-debug",
            None,
            &["debug off"][..],
        ),
        (
            "snp-vcek/trustee/milan-v2-bad-vcek-new",
            None,
            &["AMD certificate chain"],
        ),
        (
            "snp-vcek/cmc/milan-v2-bad-signature",
            None,
            &["SNP report signature"],
        ),
        (
            "snp-vcek/sidecar/pre-production-v1",
            None,
            &["SNP report format"],
        ),
        (
            "snp-vcek/snp-guard/vcek-of-another-chip",
            None,
            &[
                "TCB of the VEK certificate",
                "chip id",
                "SNP report signature",
            ],
        ),
        (
            "azure-snp-vtpm/trustee/milan-v2-quote-of-other-vm",
            None,
            &["signature"],
        ),
        (
            "azure-snp-vtpm/kinvolk/milan-v2-vcek-of-other-chip",
            None,
            &["chip id", "SNP report signature"],
        ),
        (
            "azure-vtpm/aicert/trusted-launch-2024",
            None,
            &["bound to this session"],
        ),
        (
            "azure-vtpm/cmcp/trusted-launch-2026-07",
            None,
            &["hardware root of trust"],
        ),
        (
            "aws-nitro-enclave/dstack/2025-12-25-debug",
            None,
            &["debug mode"],
        ),
        (
            "aws-nitro-enclave/eternis/invalid",
            None,
            &["AWS document signature"],
        ),
        (
            "tdx/trustee/v4-debug-50806f",
            Some("tdx-collateral/50806f-2023-06-go-tdx-guest"),
            &["debug off"],
        ),
        (
            "tdx/attestation-rs/v4-b0c06f-live",
            None,
            &["vendor's statements"],
        ),
        (
            "tdx/automata/v4-gcp-00806f",
            Some("tdx-collateral/00806f-2025-06-automata"),
            &["TCB status"],
        ),
        (
            "tdx/trustee/v5-90c06f",
            Some("tdx-collateral/90c06f-2026-02-dcap-qvl"),
            &["TCB level"],
        ),
        (
            "tdx/cc-trusted-api/v4-pre-production-root",
            Some("tdx-collateral/00806f-2025-06-automata"),
            &["PCK certificate"],
        ),
        (
            "tpm-ek/nuvoton/root-2110-bad-set-order",
            None,
            &["TPM certificate chain"],
        ),
        (
            "eventlog/go-attestation/ebs-missing",
            None,
            &["Secure Boot by the log"],
        ),
        (
            "eventlog/ccel/go-eventlog-dupe-separator",
            None,
            &["Secure Boot by the log"],
        ),
    ] {
        let at = at(more.unwrap_or(id));
        let mut run = Run::verify(id, at.as_deref(), 3).with(&["-o", "json"]);
        if let Some(more) = more {
            run = run.endorsed(more);
        }
        let arguments: Vec<&str> = run.arguments.iter().map(String::as_str).collect();
        let ran = lab.run(&arguments);
        assert_eq!(ran.code, Some(3), "{id}: {ran:?}");
        assert_eq!(failed(&json(&ran)), reasons, "{id}: {ran:?}");
    }
}

const MILAN: &str = "snp-vcek/virtee-sev/milan-v2";
const MILAN_AT: &str = "2023-04-04T19:23:43Z";
const MILAN_DATA: &str = "d447b55d197491bfe15cf298f9de9986b7a7c4be2468b4f6e2d53b71d7c645810b0f2cdfca0040433be063fc1a8293f0f3f8dae7b79fecb3d1cd82bd6a93ebfd";
const GOOGLE: &str = "gcp-vtpm/vaportpm/amd";
const GOOGLE_AT: &str = "2026-02-03T06:57:47Z";
const GOOGLE_NONCE: &str = "8a543108a653b4a1162232744cc9b945017a449dea4fbb0ca62f42d3ef145562";
const TD: &str = "tdx/zkdcap/v4-00806f";
const TD_COLLATERAL: &str = "tdx-collateral/00806f-2025-01-zkdcap";
const TD_AT: &str = "2025-02-05T11:57:03Z";

fn flipped(hexadecimal: &str) -> String {
    let last = if hexadecimal.ends_with('0') { "1" } else { "0" };
    format!("{}{last}", &hexadecimal[..hexadecimal.len() - 1])
}

#[test]
fn what_was_asked_must_be_answered() {
    let lab = Lab::new();
    let verify = |id: &str, at: &str, more: &[&str]| {
        let run = Run::verify(id, Some(at), 0)
            .with(&["-o", "json"])
            .with(more);
        let arguments: Vec<&str> = run.arguments.iter().map(String::as_str).collect();
        lab.run(&arguments)
    };
    let document = "aws-nitrotpm/vaportpm/2026-02-03";
    let gpu = "nvidia-gpu/trustee/hopper-coco";
    for (id, at, flag, value, name) in [
        (
            MILAN,
            MILAN_AT,
            "--report-data",
            MILAN_DATA,
            "SNP report data",
        ),
        (
            GOOGLE,
            GOOGLE_AT,
            "--nonce",
            GOOGLE_NONCE,
            "bound to this session",
        ),
        (
            document,
            "2026-02-03T11:42:00Z",
            "--nonce",
            "230af3f7c0ec43ccf99a4cab47ac61469a36ea74b1e79740fdf8ccfc8f56161a",
            "nonce",
        ),
        (
            gpu,
            "2026-06-01T00:00:00Z",
            "--nonce",
            "87d8e24ab336adafe228d49e83d745f6dba4ae505372b6a5704820856b343fec",
            "GPU report bound to this session",
        ),
    ] {
        let ran = verify(id, at, &[flag, value]);
        assert_eq!(ran.code, Some(0), "{id}: {ran:?}");
        assert!(
            !ran.stdout.contains("not bound to anything"),
            "{id}: {ran:?}"
        );
        assert!(
            named(&json(&ran), "passed").contains(&name.to_owned()),
            "{ran:?}"
        );
        let ran = verify(id, at, &[flag, &flipped(value)]);
        assert_eq!(ran.code, Some(3), "{id}: {ran:?}");
        assert_eq!(failed(&json(&ran)), [name], "{id}");
        // and without it the line is a warning
        let ran = verify(id, at, &[]);
        assert_eq!(ran.code, Some(0), "{id}: {ran:?}");
        assert!(
            named(&json(&ran), "warning").contains(&name.to_owned()),
            "{ran:?}"
        );
    }
    let quote = std::fs::read(samples().join(TD).join("quote.bin")).unwrap();
    let data = hex::encode(&quote[568..632]);
    let collateral = folder(TD_COLLATERAL);
    let ran = verify(
        TD,
        TD_AT,
        &["--endorsements", &collateral, "--report-data", &data],
    );
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let wrong = flipped(&data);
    let ran = verify(
        TD,
        TD_AT,
        &["--endorsements", &collateral, "--report-data", &wrong],
    );
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert_eq!(failed(&json(&ran)), ["report data"]);
}

/// A copy of a sample, to be changed.
fn copy(lab: &Lab, id: &str) -> PathBuf {
    let to = lab.path().join("copy").join(id);
    std::fs::create_dir_all(&to).unwrap();
    for file in std::fs::read_dir(samples().join(id)).unwrap() {
        let file = file.unwrap().path();
        std::fs::write(
            to.join(file.file_name().unwrap()),
            std::fs::read(&file).unwrap(),
        )
        .unwrap();
    }
    to
}

#[test]
fn a_changed_byte_of_real_evidence_is_refused() {
    let lab = Lab::new();
    for (id, at, file, offset, more) in [
        (MILAN, MILAN_AT, "report.bin", 0x90, None),
        (MILAN, MILAN_AT, "vek.der", 700, None),
        (
            "snp-vlek/trustee/aws-us-east-2-v3",
            "2025-06-11T10:14:21Z",
            "report.bin",
            0x90,
            None,
        ),
        (TD, TD_AT, "quote.bin", 300, Some(TD_COLLATERAL)),
        (
            "azure-snp-vtpm/trustee/milan-v3",
            "2025-01-29T16:26:55Z",
            "hcl-report.bin",
            1400,
            None,
        ),
        (
            "azure-snp-vtpm/trustee/milan-v3",
            "2025-01-29T16:26:55Z",
            "quote.sig",
            100,
            None,
        ),
        (
            "azure-tdx-vtpm/flashbots/tdx-2026-06",
            "2026-06-23T11:56:35Z",
            "quote.bin",
            300,
            Some("tdx-collateral/90c06f-2026-06-flashbots"),
        ),
        (GOOGLE, GOOGLE_AT, "quote.msg", 120, None),
        (
            "swtpm/trustee",
            "2026-01-01T00:00:00Z",
            "quote.sig",
            100,
            None,
        ),
        (
            "aws-nitrotpm/vaportpm/2026-02-03",
            "2026-02-03T11:42:00Z",
            "document.cbor",
            300,
            None,
        ),
        (
            "aws-nitrotpm/vaportpm/2026-02-03",
            "2026-02-03T11:42:00Z",
            "quote.msg",
            120,
            None,
        ),
        (
            "nvidia-gpu/trustee/hopper-coco",
            "2026-06-01T00:00:00Z",
            "report.bin",
            200,
            None,
        ),
        (
            "tpm-ek/gcp/pca-rsa-enc",
            "2022-11-24T18:33:43Z",
            "cert.der",
            900,
            None,
        ),
        (
            "gcp-vtpm/go-tpm-tools/gce-cos-85-sha256",
            "2021-09-01T23:11:05Z",
            // a digest of SHA-256: data that no digest is over may be anything
            "eventlog.bin",
            109,
            None,
        ),
    ] {
        let directory = copy(&lab, id);
        let directory = directory.to_str().unwrap();
        let verify = || {
            let mut arguments = vec![
                "evidence",
                "verify",
                "--variant",
                variant(id),
                directory,
                "--at",
                at,
            ];
            let more = more.map(folder);
            if let Some(more) = &more {
                arguments.extend(["--endorsements", more]);
            }
            lab.run(&arguments)
        };
        let ran = verify();
        assert_eq!(ran.code, Some(0), "{id}: {ran:?}");
        assert!(ran.stdout.starts_with("✓ accepted\n"), "{id}: {ran:?}");
        let path = Path::new(directory).join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[offset] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let ran = verify();
        assert_eq!(ran.code, Some(3), "{id}, {file}: {ran:?}");
        assert!(ran.stdout.starts_with("✗ refused: "), "{id}: {ran:?}");
        bytes[offset] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
    }
}

#[test]
fn a_changed_pcr_value_is_not_the_quoted_one() {
    let lab = Lab::new();
    let directory = copy(&lab, GOOGLE);
    let path = directory.join("pcrs.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"0\": \"", "\"0\": \"00", 1)).unwrap();
    let directory = directory.to_str().unwrap();
    let arguments = [
        "evidence",
        "verify",
        "--variant",
        "gcp-vtpm",
        directory,
        "--at",
        GOOGLE_AT,
        "-o",
        "json",
    ];
    // a value of another length is no value
    let ran = lab.run(&arguments);
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let mut values: Value = serde_json::from_str(&text).unwrap();
    values["sha256"]["0"] = "11".repeat(32).into();
    std::fs::write(&path, values.to_string()).unwrap();
    let ran = lab.run(&arguments);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert_eq!(failed(&json(&ran)), ["PCR digest"]);
}

#[test]
fn certificates_and_statements_hold_in_their_time_only() {
    let lab = Lab::new();
    for (id, at, more) in [
        (MILAN, "2022-01-01T00:00:00Z", None),
        (MILAN, "2031-01-01T00:00:00Z", None),
        (TD, "2025-03-30T00:00:00Z", Some(TD_COLLATERAL)),
        (
            "aws-nitrotpm/vaportpm/2026-02-03",
            "2026-02-04T00:00:00Z",
            None,
        ),
        (
            "azure-snp-vtpm/trustee/milan-v3",
            "2033-01-01T00:00:00Z",
            None,
        ),
        (GOOGLE, "2020-01-01T00:00:00Z", None),
    ] {
        let mut run = Run::verify(id, Some(at), 3);
        if let Some(more) = more {
            run = run.endorsed(more);
        }
        let arguments: Vec<&str> = run.arguments.iter().map(String::as_str).collect();
        let ran = lab.run(&arguments);
        assert_eq!(ran.code, Some(3), "{id} at {at}: {ran:?}");
    }
}

#[test]
fn what_can_not_be_read_is_exit_code_2() {
    let lab = Lab::new();
    let milan = folder(MILAN);
    let google = folder(GOOGLE);
    let empty = lab.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let empty = empty.to_str().unwrap();
    let without = copy(&lab, GOOGLE);
    std::fs::remove_file(without.join("quote.sig")).unwrap();
    let without = without.to_str().unwrap();
    for (arguments, words) in [
        (
            vec!["--variant", "snp-vcek", "/nowhere"],
            "read the directory /nowhere",
        ),
        (vec!["--variant", "snp-vcek", empty], "holds no files"),
        (
            vec!["--variant", "snp-vcek", &google],
            "holds no report.bin",
        ),
        (vec!["--variant", "gcp-vtpm", without], "holds no quote.sig"),
        (vec!["--variant", "sgx", &milan], "invalid value 'sgx'"),
        (vec![&milan], "--variant"),
        (
            vec!["--variant", "snp-vcek", &milan, "--report-data", "xyz"],
            "--report-data is not hexadecimal",
        ),
        (
            vec!["--variant", "snp-vcek", &milan, "--report-data", "0011"],
            "--report-data has 2 bytes, and must have 64",
        ),
        (
            vec!["--variant", "snp-vcek", &milan, "--nonce", "0011"],
            "takes --report-data and not --nonce",
        ),
        (
            vec![
                "--variant",
                "gcp-vtpm",
                &google,
                "--report-data",
                MILAN_DATA,
            ],
            "takes --nonce and not --report-data",
        ),
        (
            vec!["--variant", "gcp-vtpm", &google, "--nonce", ""],
            "--nonce has 0 bytes",
        ),
        (
            vec!["--variant", "snp-vcek", &milan, "--at", "yesterday"],
            "--at",
        ),
        (
            vec!["--variant", "snp-vcek", &milan, "--endorsements", empty],
            "holds no endorsements",
        ),
    ] {
        let mut all = vec!["evidence", "verify"];
        all.extend(arguments);
        let ran = lab.run(&all);
        assert_eq!(ran.code, Some(2), "{ran:?}");
        assert_eq!(ran.stdout, "");
        assert!(ran.stderr.contains(words), "{words}: {ran:?}");
    }
    // a file that is there and holds nothing of the kind is refused and not unreadable
    let directory = copy(&lab, MILAN);
    std::fs::write(directory.join("report.bin"), b"no report").unwrap();
    let ran = lab.run(&[
        "evidence",
        "verify",
        "--variant",
        "snp-vcek",
        directory.to_str().unwrap(),
    ]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.stdout.contains("SNP report format"), "{ran:?}");
}

fn snp_policy(measurement: &str) -> String {
    format!(
        "version: 2
variant: sev-snp
measurements:
  generations:
    - launch: {{ accepted: [{measurement}], warnOnly: false }}
snp:
  products:
    Milan:
      minimumTcb: {{ bootloader: 3, tee: 0, snp: 8, microcode: 115 }}
  guestPolicy: {{ permitted: [smt] }}
  platformInfo: {{ aliasCheckComplete: optional }}
  revocationList: warnOnly
"
    )
}

fn measured(id: &str, field: &str) -> String {
    let manifest = manifest();
    let sample = manifest.iter().find(|sample| sample["id"] == id).unwrap();
    sample["measured"][field].as_str().unwrap().to_owned()
}

#[test]
fn a_policy_is_followed() {
    let lab = Lab::new();
    let verify = |id: &str, at: &str, policy: &str, more: &[&str]| {
        std::fs::write(lab.path().join("policy.yaml"), policy).unwrap();
        let run = Run::verify(id, Some(at), 0)
            .with(&["--policy", "policy.yaml", "-o", "json"])
            .with(more);
        let arguments: Vec<&str> = run.arguments.iter().map(String::as_str).collect();
        lab.run(&arguments)
    };
    let measurement = measured(MILAN, "measurement");
    let ran = verify(MILAN, MILAN_AT, &snp_policy(&measurement), &[]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        !ran.stdout.contains("not compared with any policy"),
        "{ran:?}"
    );
    for (policy, check) in [
        (snp_policy(&"c3".repeat(48)), "launch measurement"),
        (
            snp_policy(&measurement).replace("snp: 8,", "snp: 9,"),
            "reported TCB",
        ),
        (
            snp_policy(&measurement)
                .replace("revocationList: warnOnly", "revocationList: enforced"),
            "AMD revocation list",
        ),
    ] {
        let ran = verify(MILAN, MILAN_AT, &policy, &[]);
        assert_eq!(ran.code, Some(3), "{check}: {ran:?}");
        assert!(
            failed(&json(&ran)).contains(&check.to_owned()),
            "{check}: {ran:?}"
        );
    }
    // AMD's list was issued in 2022 for a year
    let policy =
        snp_policy(&measurement).replace("revocationList: warnOnly", "revocationList: enforced");
    let lists = folder("roots/amd-crl");
    let ran = verify(MILAN, MILAN_AT, &policy, &["--endorsements", &lists]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    // and a site may ask for a newer one
    for (from, code) in [("2022-05-01", 0), ("2022-06-01", 3)] {
        let policy = format!("{policy}  revocationListsFrom: {from}T00:00:00Z\n");
        let ran = verify(MILAN, MILAN_AT, &policy, &["--endorsements", &lists]);
        assert_eq!(ran.code, Some(code), "{from}: {ran:?}");
        if code == 3 {
            assert_eq!(failed(&json(&ran)), ["AMD revocation list"], "{ran:?}");
        }
    }

    let td_policy = |mrtd: &str| {
        format!(
            "version: 2
variant: tdx
measurements:
  generations:
    - mrtd: {{ accepted: [{mrtd}], warnOnly: false }}
      rtmrs:
        1: {{ accepted: [{0}], warnOnly: false }}
        2: {{ accepted: [{1}], warnOnly: false }}
tdx:
  tcbStatuses: [UpToDate]
  attributes: {{ permitted: [pks, perfmon], septVeDisable: optional }}
",
            measured(COS, "rtmr1"),
            measured(COS, "rtmr2"),
        )
    };
    const COS: &str = "tdx/go-tdx-guest/v4-gcp-cos-113";
    let collateral = folder(TD_COLLATERAL);
    let given = ["--endorsements", collateral.as_str()];
    let ran = verify(COS, TD_AT, &td_policy(&measured(COS, "mrtd")), &given);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = verify(COS, TD_AT, &td_policy(&"c3".repeat(48)), &given);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert_eq!(failed(&json(&ran)), ["MRTD"]);

    // PCR 11 of this machine is zero, which a policy can not accept; the others are its own
    let quoted: Value =
        serde_json::from_slice(&std::fs::read(samples().join(GOOGLE).join("pcrs.json")).unwrap())
            .unwrap();
    let mut policy =
        "version: 2\nvariant: gcp-sev-es\nmeasurements:\n  generations:\n    - pcrs:\n".to_owned();
    for pcr in ["4", "8", "9", "11", "12", "13"] {
        let own = quoted["sha256"][pcr].as_str().unwrap().to_owned();
        let value = if pcr == "11" { "ab".repeat(32) } else { own };
        policy += &format!("        {pcr}: {{ expected: {value}, warnOnly: false }}\n");
    }
    let ran = verify(GOOGLE, GOOGLE_AT, &policy, &[]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    let answer = json(&ran);
    assert_eq!(failed(&answer), ["PCR 11"], "{ran:?}");
    let passed = named(&answer, "passed");
    for pcr in ["PCR 4", "PCR 8", "PCR 9", "PCR 12", "PCR 13"] {
        assert!(passed.contains(&pcr.to_owned()), "{pcr}: {ran:?}");
    }

    // a machine that is more than its TPM: nothing in a directory says whose a report is
    let snp = "snp:\n  products:\n    Milan:\n      minimumTcb: { bootloader: 4, tee: 0, snp: 24, microcode: 219 }\n";
    let td = "tdx:\n  tcbStatuses: [UpToDate]\n";
    for (machine, section) in [("gcp-sev-snp", snp), ("gcp-tdx", td)] {
        let policy = policy.replace("gcp-sev-es", machine) + section;
        for (id, at) in [(GOOGLE, GOOGLE_AT), (MILAN, MILAN_AT)] {
            let ran = verify(id, at, &policy, &[]);
            assert_eq!(ran.code, Some(4), "{ran:?}");
            assert!(
                ran.stderr.contains("another machine's report would do"),
                "{ran:?}"
            );
        }
    }

    // a policy of another kind of machine, and one for a kind that has none
    let ran = verify(MILAN, MILAN_AT, &policy, &[]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(
        ran.stderr.contains("it takes a policy for sev-snp"),
        "{ran:?}"
    );
    let gpu = "nvidia-gpu/trustee/hopper-coco";
    let ran = verify(gpu, "2026-06-01T00:00:00Z", &policy, &[]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    let ran = verify(MILAN, MILAN_AT, "version: 2\n", &[]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
}

/// PCR 11 of this machine is zero, which a policy can not accept; the others are its own.
#[test]
fn a_policy_is_compared_with_a_document_of_aws() {
    const ID: &str = "aws-nitrotpm/vaportpm/2026-02-03";
    let lab = Lab::new();
    let stated: Value =
        serde_json::from_slice(&std::fs::read(samples().join(ID).join("pcrs.json")).unwrap())
            .unwrap();
    let policy = |variant: &str, changed: &[&str], end: &str| {
        let mut text =
            format!("version: 2\nvariant: {variant}\nmeasurements:\n  generations:\n    - pcrs:\n");
        for pcr in ["4", "8", "9", "11", "12", "13"] {
            let own = stated["sha384"][pcr].as_str().unwrap().to_owned();
            let value = match pcr {
                "11" => "ab".repeat(48),
                _ if changed.contains(&pcr) => flipped(&own),
                _ => own,
            };
            text += &format!(
                "        {pcr}: {{ expected: {value}, warnOnly: {} }}\n",
                pcr == "13"
            );
        }
        text + end
    };
    let verify = |policy: &str| {
        std::fs::write(lab.path().join("policy.yaml"), policy).unwrap();
        let directory = folder(ID);
        lab.run(&[
            "evidence",
            "verify",
            "--variant",
            "aws-nitrotpm",
            &directory,
            "--at",
            "2026-02-03T11:42:00Z",
            "--policy",
            "policy.yaml",
            "-o",
            "json",
        ])
    };
    for (changed, refused, warned) in [
        (&[][..], &["SHA-384 PCR 11"][..], &[][..]),
        (
            &["4", "9"],
            &["SHA-384 PCR 4", "SHA-384 PCR 9", "SHA-384 PCR 11"],
            &[],
        ),
        (&["13"], &["SHA-384 PCR 11"], &["SHA-384 PCR 13"]),
    ] {
        let ran = verify(&policy("aws-nitro-tpm", changed, ""));
        assert_eq!(ran.code, Some(3), "{ran:?}");
        let answer = json(&ran);
        assert_eq!(failed(&answer), refused, "{ran:?}");
        let warnings = named(&answer, "warning");
        let warnings: Vec<_> = warnings.iter().filter(|it| it.contains("PCR")).collect();
        assert_eq!(warnings, warned, "{ran:?}");
        assert!(!ran.stdout.contains("not compared with any policy"));
    }
    // an instance with SEV-SNP is more than its document
    let snp = "snp:\n  products:\n    Milan:\n      minimumTcb: { bootloader: 4, tee: 0, snp: 24, microcode: 219 }\n";
    let ran = verify(&policy("aws-sev-snp", &[], snp));
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(
        ran.stderr.contains("another machine's report would do"),
        "{ran:?}"
    );
    let ran = verify(&policy("azure-trustedlaunch", &[], ""));
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.stderr.contains("a value of SHA-384"), "{ran:?}");
}

#[test]
fn the_newest_statement_that_holds_is_taken_from_a_directory_of_several() {
    let lab = Lab::new();
    let all = samples().join("tdx-collateral");
    let all = all.to_str().unwrap();
    for (id, at, code) in [
        (TD, TD_AT, 0),
        // Intel has raised the level since
        (TD, "2026-07-15T08:03:03Z", 3),
        ("tdx/dcap-qvl/v4-20a06f", "2025-09-17T07:22:55Z", 0),
        ("tdx/go-tdx-guest/v5-90c06f", "2026-03-05T10:50:03Z", 0),
    ] {
        let run = Run::verify(id, Some(at), code).with(&["--endorsements", all, "-o", "json"]);
        let arguments: Vec<&str> = run.arguments.iter().map(String::as_str).collect();
        let ran = lab.run(&arguments);
        assert_eq!(ran.code, Some(code), "{id} at {at}: {ran:?}");
        if code == 3 {
            assert_eq!(failed(&json(&ran)), ["TCB status"], "{ran:?}");
        }
    }
}

#[test]
fn amds_certificate_may_come_from_elsewhere() {
    let lab = Lab::new();
    let directory = copy(&lab, MILAN);
    std::fs::remove_file(directory.join("vek.der")).unwrap();
    let directory = directory.to_str().unwrap();
    let verify = |more: &[&str]| {
        let mut arguments = vec![
            "evidence",
            "verify",
            "--variant",
            "snp-vcek",
            directory,
            "--at",
            MILAN_AT,
            "-o",
            "json",
        ];
        arguments.extend(more);
        lab.run(&arguments)
    };
    let ran = verify(&[]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert_eq!(failed(&json(&ran)), ["vendor's statements"]);
    assert!(
        ran.stdout.contains("constellation collateral fetch"),
        "{ran:?}"
    );
    // among certificates of other chips
    let (own, other) = (folder(MILAN), folder("snp-vcek/oak/milan-v3-oc-release"));
    let ran = verify(&["--endorsements", &other, "--endorsements", &own]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = verify(&["--endorsements", &other]);
    assert_eq!(ran.code, Some(3), "{ran:?}");
}

#[test]
fn the_cache_and_a_bundle_of_collateral_are_endorsements() {
    use collateral::{Bundle, Entry, Item};
    let lab = Lab::new();
    let at = "2025-02-05T00:00:00Z".parse().unwrap();
    let file = |name: &str| std::fs::read(samples().join(TD_COLLATERAL).join(name)).unwrap();
    let entry = |item: &str, body: &str, chain: Option<&str>| {
        let item: Item = item.parse().unwrap();
        let chain = chain.map(file);
        Entry::new(item, at, &file(body), chain.as_deref()).unwrap()
    };
    let signing = Some("tcb_signing_chain.pem");
    let entries = vec![
        entry(
            "intel-tdx-tcb-info/00806f050000/standard",
            "tcb_info.json",
            signing,
        ),
        entry("intel-td-qe-identity/standard", "qe_identity.json", signing),
        entry(
            "intel-pck-crl/platform",
            "pck_crl.der",
            Some("pck_crl_issuer_chain.pem"),
        ),
        entry("intel-root-crl", "root_ca_crl.der", None),
    ];
    let verify = |place: &Path| {
        let run =
            Run::verify(TD, Some(TD_AT), 0).with(&["--endorsements", place.to_str().unwrap()]);
        let arguments: Vec<&str> = run.arguments.iter().map(String::as_str).collect();
        lab.run(&arguments)
    };
    let cache = lab.path().join("cache");
    std::fs::create_dir(&cache).unwrap();
    for (number, entry) in entries.iter().enumerate() {
        let bundle = Bundle::new(at, vec![entry.clone()]).unwrap();
        std::fs::write(
            cache.join(format!("{number}.tar")),
            bundle.to_bytes().unwrap(),
        )
        .unwrap();
    }
    let ran = verify(&cache);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let bundle = lab.path().join("bundle.tar");
    let bytes = Bundle::new(at, entries).unwrap().to_bytes().unwrap();
    std::fs::write(&bundle, bytes).unwrap();
    let ran = verify(&bundle);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

#[test]
fn a_root_that_came_with_a_tpms_certificate_proves_nothing() {
    let lab = Lab::new();
    let id = "tpm-ek/stm/rsa-ek";
    let at = Some("2018-07-12T00:00:00Z");
    for (id, run, code) in [
        (id, Run::verify(id, at, 3), 3),
        (id, Run::verify(id, at, 0).endorsed(id), 0),
        // the chain that this one lacks
        (
            "tpm-ek/stm/rsa-ek-nv-padded",
            Run::verify("tpm-ek/stm/rsa-ek-nv-padded", at, 0).endorsed(id),
            0,
        ),
    ] {
        let arguments: Vec<&str> = run.arguments.iter().map(String::as_str).collect();
        let ran = lab.run(&arguments);
        assert_eq!(ran.code, Some(code), "{id}: {ran:?}");
    }
}

#[test]
fn every_sample_can_be_inspected() {
    let ids: Vec<String> = manifest()
        .iter()
        .map(|sample| sample["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids.len(), 117);
    let inspect = |id: &str, output: &str| Run {
        id: id.to_owned(),
        arguments: [
            "evidence",
            "inspect",
            "--variant",
            variant(id),
            &folder(id),
            "-o",
            output,
        ]
        .map(str::to_owned)
        .to_vec(),
        expected: 0,
    };
    let runs: Vec<Run> = ids
        .iter()
        .flat_map(|id| [inspect(id, "table"), inspect(id, "json")])
        .collect();
    run_all(&runs, |run, ran| {
        assert_eq!(ran.stderr, "", "{}", run.id);
        let files: Vec<String> = std::fs::read_dir(samples().join(&run.id))
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        if run.arguments.contains(&"json".to_owned()) {
            let sheets: Value = serde_json::from_str(&ran.stdout).unwrap();
            assert_eq!(sheets.as_array().unwrap().len(), files.len(), "{}", run.id);
            return;
        }
        for file in files {
            assert!(
                ran.stdout.contains(&format!("{file}: ")),
                "{}: {file}",
                run.id
            );
        }
        // whatever a machine says, a terminal obeys none of it
        let is_plain = |c: char| c == '\n' || !c.is_control();
        assert!(ran.stdout.chars().all(is_plain), "{}", run.id);
    });
}

#[test]
fn what_is_inspected_is_what_the_manifest_measured() {
    let lab = Lab::new();
    for (id, field, name) in [
        (MILAN, "measurement", "launch measurement"),
        (TD, "mrtd", "MRTD"),
        (
            "azure-snp-vtpm/trustee/milan-v3",
            "",
            "configuration.secure-boot",
        ),
        (GOOGLE, "", "qualifying data (nonce)"),
        ("aws-nitrotpm/vaportpm/2026-02-03", "", "module"),
        ("eventlog/keylime/secureboot", "", "Secure Boot"),
        ("nvidia-gpu/trustee/hopper-coco", "", "driver"),
        ("tdx-collateral/00806f-2025-01-zkdcap", "", "tcbInfo.fmspc"),
        ("roots/amd-crl", "", "revoked certificates"),
    ] {
        let ran = lab.run(&[
            "evidence",
            "inspect",
            "--variant",
            variant(id),
            &folder(id),
            "-o",
            "json",
        ]);
        let sheets: Value = serde_json::from_str(&ran.stdout).unwrap();
        let fields = sheets.as_array().unwrap().iter();
        let found = fields
            .flat_map(|sheet| sheet["fields"].as_array().unwrap())
            .find(|found| found["name"] == name)
            .unwrap_or_else(|| panic!("{id}: no {name}: {sheets}"));
        if !field.is_empty() {
            assert_eq!(found["value"], measured(id, field), "{id}");
        }
    }
}
