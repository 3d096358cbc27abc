//! Evidence of GPUs: that of real devices, and that of a device under a test root, with one named lie each.

use std::collections::{BTreeMap, BTreeSet};

use attest::nvidia::{
    Appraised, CheckName, Evidence, NONCE_LENGTH, OpaqueField, Report, ReportError, Requirements,
    RequirementsError, Roots, Sha384, appraise,
};
use attest::x509::{Certificate, Revocation};
use attest::{Findings, Outcome, RefusalCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

use crate::x509::{at, sample};

mod device;
mod lies;

const SAMPLES: [(&str, &str, &str); 3] = [
    (
        "attestation-sdk/hopper",
        "e97b23a1718095a0e9e35edca810768c70a6a5a389b705e753b197912bc11576",
        "590.12",
    ),
    (
        "nvtrust/hopper-sample",
        "931d8dd0add203ac3d8b4fbde75e115278eefcdceac5b87671a748f32364dfcb",
        "550.90.07",
    ),
    (
        "trustee/hopper-coco",
        "87d8e24ab336adafe228d49e83d745f6dba4ae505372b6a5704820856b343fec",
        "580.95.05",
    ),
];

fn now() -> Timestamp {
    at("2026-06-01T00:00:00Z")
}

fn nonce(hexadecimal: &str) -> [u8; NONCE_LENGTH] {
    hex::decode(hexadecimal).unwrap().try_into().unwrap()
}

/// A device's evidence, its nonce and what is required of it.
#[derive(Clone)]
struct Case {
    report: Vec<u8>,
    chain: Vec<u8>,
    nonce: [u8; NONCE_LENGTH],
    roots: Roots,
    requirements: Requirements,
    now: Timestamp,
}

impl Case {
    fn sample(index: usize) -> Self {
        let (name, hexadecimal, driver) = SAMPLES[index];
        let report = sample(&format!("evidence/nvidia-gpu/{name}/report.bin"));
        Self {
            chain: sample(&format!("evidence/nvidia-gpu/{name}/chain.pem")),
            nonce: nonce(hexadecimal),
            roots: Roots::nvidia().clone(),
            requirements: requirements(&report, driver),
            report,
            now: now(),
        }
    }

    fn appraise(&self) -> (Result<Appraised, attest::Stop>, Findings) {
        let mut findings = Findings::new();
        let evidence = Evidence {
            report: &self.report,
            chain: &self.chain,
        };
        let appraised = appraise(
            &evidence,
            &self.roots,
            &Revocation::DangerousNotLookedAt,
            &self.requirements,
            &self.nonce,
            self.now,
            &mut findings,
        );
        (appraised, findings)
    }

    fn accepted(&self) -> Appraised {
        let (appraised, findings) = self.appraise();
        assert_eq!(findings.refusal_code(), None, "{findings}");
        appraised.unwrap_or_else(|_| panic!("{findings}"))
    }

    /// The one check that failed, and what the peer would learn.
    fn refused(&self) -> (CheckName, RefusalCode) {
        let (appraised, findings) = self.appraise();
        assert!(appraised.is_err(), "{findings}");
        let failed: Vec<_> = findings
            .checks()
            .iter()
            .filter(|check| check.outcome == Outcome::Failed)
            .collect();
        let [check] = failed.as_slice() else {
            panic!("{findings}");
        };
        assert!(check.next_step.is_some(), "{findings}");
        match check.name {
            attest::CheckName::Nvidia(name) => (name, findings.refusal_code().unwrap()),
            other => panic!("{other}"),
        }
    }
}

/// The first measurements that are not zero, as a manifest for this driver would list them.
fn requirements(report: &[u8], driver: &str) -> Requirements {
    let report = Report::parse(report).unwrap();
    let measurements: BTreeMap<u8, BTreeSet<Sha384>> = report
        .indexes()
        .filter_map(|index| {
            let value: Sha384 = report.measurement(index)?.try_into().ok()?;
            (value != [0; 48]).then(|| (index, BTreeSet::from([[0xee; 48], value])))
        })
        .take(12)
        .collect();
    Requirements::new(
        measurements,
        BTreeSet::from([driver.to_owned()]),
        BTreeSet::from([report.vbios().unwrap()]),
    )
    .unwrap()
}

#[test]
fn real_devices_are_accepted() {
    for (index, (name, _, driver)) in SAMPLES.into_iter().enumerate() {
        let appraised = Case::sample(index).accepted();
        let report = appraised.report();
        assert_eq!(report.driver(), Some(driver), "{name}");
        assert_eq!(report.indexes().count(), 64, "{name}");
        assert_eq!(
            appraised.path().leaf().subject().common_name(),
            Some("GH100 A01 GSP FMC LF")
        );
        assert_eq!(appraised.path().certificates().len(), 5);
    }
    let report = Case::sample(1).accepted();
    assert_eq!(report.report().vbios().as_deref(), Some("96.00.9F.00.01"));
}

#[test]
fn evidence_as_the_sdk_serialises_it_is_accepted() {
    for file in ["evidence.json", "cert-hold-evidence.json"] {
        let json = sample(&format!(
            "evidence/nvidia-gpu/attestation-sdk/hopper/{file}"
        ));
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let field = |name: &str| json[0][name].as_str().unwrap().to_owned();
        let report = STANDARD.decode(field("evidence")).unwrap();
        let driver = Report::parse(&report).unwrap().driver().unwrap().to_owned();
        let case = Case {
            requirements: requirements(&report, &driver),
            report,
            chain: STANDARD.decode(field("certificate")).unwrap(),
            nonce: nonce(&field("nonce")),
            ..Case::sample(0)
        };
        case.accepted();
    }
}

#[test]
fn the_root_is_built_in() {
    let root = sample("evidence/roots/nvidia/device-root.der");
    let root = Certificate::parse(&root).unwrap();
    assert_eq!(Case::sample(0).accepted().path().root(), &root);
}

#[test]
fn no_bit_of_a_real_report_can_be_flipped() {
    let case = Case::sample(2);
    // one byte of padding stands behind the signature, and no check before it may let a change pass
    for at in (0..case.report.len()).step_by(97) {
        let mut report = case.report.clone();
        report[at] ^= 1 << (at % 8);
        let (appraised, findings) = Case {
            report,
            ..case.clone()
        }
        .appraise();
        assert!(appraised.is_err(), "byte {at}: {findings}");
    }
}
