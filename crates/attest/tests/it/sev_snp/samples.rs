//! Every sample of `snp-vcek` and `snp-vlek` gives the manifest's verdict, for the manifest's reason.

use attest::sev_snp::{
    Accepted, AcceptedKeys, AcceptedLine, AcceptedLines, Chips, GuestPolicy, HostData,
    IdKeyDigests, LaunchMeasurements, PlatformInfo, ProductLine, ProviderNames, Providers, Report,
    Requirements, RevocationDemand, Roots, SigningKey, Tcb, VekOwner, Vmpl,
};
use attest::x509::{Certificate, Crl};
use attest::{Outcome, RefusalCode};
use serde_json::Value;

use super::{Input, Output, evidence, time};

/// One sample with what the manifest measured of it.
struct Sample {
    id: String,
    expect: String,
    verdict: String,
    at: String,
    measured: Value,
}

fn samples() -> Vec<Sample> {
    let manifest: Value = serde_json::from_slice(&evidence("manifest.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let samples: Vec<Sample> = manifest["samples"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|sample| {
            let id = sample["id"].as_str().unwrap();
            id.starts_with("snp-vcek/") || id.starts_with("snp-vlek/")
        })
        .map(|sample| Sample {
            id: text(&sample["id"]),
            expect: text(&sample["expect"]),
            verdict: text(&sample["verdict"]),
            at: text(&sample["at"]),
            measured: sample["measured"].clone(),
        })
        .collect();
    assert_eq!(samples.len(), 21);
    samples
}

fn sample(id: &str) -> Sample {
    samples()
        .into_iter()
        .find(|sample| sample.id == id)
        .unwrap()
}

/// Whose region the machines with a VLEK are in.
const AWS_US_EAST_2: &str = "CN=cc-us-east-2.amazonaws.com";

fn provider(name: &str) -> Providers {
    Providers::Listed(ProviderNames::new(vec![name.to_owned()]).unwrap())
}

/// Levels all released machines among the samples reach.
fn lines() -> AcceptedLines {
    mitigated_lines(0)
}

fn mitigated_lines(bits: u64) -> AcceptedLines {
    let line = |line, minimum| {
        let accepted = AcceptedLine::new(line, minimum, minimum).unwrap();
        accepted.mitigations(bits)
    };
    AcceptedLines::new([
        line(ProductLine::Milan, Tcb::milan_genoa(2, 0, 5, 0x43)),
        line(ProductLine::Genoa, Tcb::milan_genoa(10, 0, 23, 27)),
        line(ProductLine::Turin, Tcb::turin(1, 1, 1, 4, 81)),
    ])
    .unwrap()
}

impl Sample {
    fn bytes<const N: usize>(&self, field: &str) -> [u8; N] {
        hex::decode(self.measured[field].as_str().unwrap())
            .unwrap()
            .try_into()
            .unwrap()
    }

    fn number(&self, field: &str) -> u64 {
        self.measured[field].as_u64().unwrap()
    }

    /// What an owner of this guest would demand: its measurement, its identity key if it has one, its privilege level. Multithreading is
    /// on in all of these machines; before version 3 no report says that the alias check was made; for most no list was kept.
    fn requirements(&self) -> Requirements {
        self.requirements_of(lines())
    }

    fn requirements_of(&self, lines: AcceptedLines) -> Requirements {
        let measurement =
            LaunchMeasurements::Enforce(Accepted::new(vec![self.bytes("measurement")]).unwrap());
        let digest: [u8; 48] = self.bytes("id_key_digest");
        let id_key = if digest == [0; 48] {
            IdKeyDigests::NotDemanded
        } else {
            IdKeyDigests::Enforce(Accepted::new(vec![digest]).unwrap())
        };
        let requirements = Requirements::new(lines, measurement, id_key)
            .host_data(HostData::Exactly(self.bytes("host_data")))
            .keys(AcceptedKeys::Either)
            .vlek_providers(provider(AWS_US_EAST_2))
            .vmpl(Vmpl::new(u8::try_from(self.number("vmpl")).unwrap()).unwrap())
            .allow_smt()
            .allow_provisional_firmware()
            .revocation(RevocationDemand::Warn);
        if self.number("report_version") < 3 {
            requirements.platform_info(PlatformInfo::NONE)
        } else {
            requirements
        }
    }

    fn input(&self) -> Input {
        Input {
            report: evidence(&format!("{}/report.bin", self.id)),
            vek: evidence(&format!("{}/vek.der", self.id)),
            signing: vec![],
            crls: vec![],
            requirements: self.requirements(),
            report_data: self.bytes("report_data"),
            roots: Roots::amd(),
            now: time(&self.at),
        }
    }

    /// The checks that the manifest's reason is about.
    fn expected(&self) -> (&'static [&'static str], Option<RefusalCode>) {
        match self.verdict.as_str() {
            "valid" => (&[], None),
            "signature and chain valid; guest policy allows DEBUG (bit 19) -> refuse under any production policy" => {
                (&["debug off"], Some(RefusalCode::Platform))
            }
            "invalid: altered VCEK" => {
                (&["AMD certificate chain"], Some(RefusalCode::NotAuthentic))
            }
            "invalid: signature" => (&["SNP report signature"], Some(RefusalCode::NotAuthentic)),
            "invalid: no matching VCEK, report version 1" => {
                (&["SNP report format"], Some(RefusalCode::Malformed))
            }
            "invalid: genuine VCEK, wrong chip and TCB" => (
                &[
                    "TCB of the VEK certificate",
                    "chip id",
                    "SNP report signature",
                ],
                Some(RefusalCode::NotAuthentic),
            ),
            other => panic!("{}: no row for {other:?}", self.id),
        }
    }
}

#[test]
fn every_sample_gives_the_verdict_of_the_manifest_for_its_reason() {
    for sample in samples() {
        let output = sample.input().appraise();
        let (failed, code) = sample.expected();
        assert_eq!(
            output.failed(),
            failed,
            "{}: {}",
            sample.id,
            output.findings
        );
        assert_eq!(output.code(), code, "{}", sample.id);
        assert_eq!(
            output.appraised.is_some(),
            sample.expect == "accept",
            "{}",
            sample.id
        );
        if code.is_none() {
            assert_eq!(output.warnings(), ["AMD revocation list"], "{}", sample.id);
        }
    }
}

#[test]
fn what_is_read_from_a_sample_is_what_the_manifest_measured() {
    for sample in samples() {
        let Ok(report) = Report::parse(&evidence(&format!("{}/report.bin", sample.id))) else {
            assert_eq!(sample.number("report_version"), 1, "{}", sample.id);
            continue;
        };
        let fields = report.fields();
        let measured = &sample.measured;
        let id = &sample.id;
        assert_eq!(
            u64::from(fields.version.number()),
            sample.number("report_version"),
            "{id}"
        );
        assert!(fields.version.is_known(), "{id}");
        assert_eq!(u64::from(fields.vmpl), sample.number("vmpl"), "{id}");
        assert_eq!(
            format!("{:#x}", fields.policy.bits()),
            measured["policy"].as_str().unwrap(),
            "{id}"
        );
        assert_eq!(
            fields.policy.contains(GuestPolicy::DEBUG),
            measured["debug"].as_bool().unwrap(),
            "{id}"
        );
        assert_eq!(
            fields.key_info.signing_key(),
            match measured["signing_key"].as_str().unwrap() {
                "vcek" => SigningKey::Vcek,
                "vlek" => SigningKey::Vlek,
                other => panic!("{other}"),
            },
            "{id}"
        );
        assert_eq!(fields.report_data, sample.bytes("report_data"), "{id}");
        assert_eq!(fields.measurement, sample.bytes("measurement"), "{id}");
        assert_eq!(fields.host_data, sample.bytes("host_data"), "{id}");
        assert_eq!(fields.id_key_digest, sample.bytes("id_key_digest"), "{id}");
        assert_eq!(fields.reported_tcb.0, sample.bytes("reported_tcb"), "{id}");
        assert_eq!(fields.chip_id, sample.bytes("chip_id"), "{id}");
        assert_eq!(fields.report_id_ma, [0xff; 32], "{id}");
        let cpu_id = fields.cpu_id.map(|cpu_id| {
            format!(
                "fam={:#04x} mod={:#04x} step={:#04x}",
                cpu_id.family, cpu_id.model, cpu_id.stepping
            )
        });
        assert_eq!(cpu_id.as_deref(), measured["cpuid"].as_str(), "{id}");
        assert_eq!(
            fields.mitigations.is_some(),
            sample.number("report_version") >= 5,
            "{id}"
        );
    }
}

#[test]
fn an_accepted_sample_names_its_line_levels_and_owner() {
    for (id, line, tcb) in [
        (
            "snp-vcek/oak/milan-v3-oc-release",
            ProductLine::Milan,
            Tcb::milan_genoa(4, 0, 24, 219),
        ),
        (
            "snp-vcek/attestation-rs/genoa-v5-a0",
            ProductLine::Genoa,
            Tcb::milan_genoa(10, 0, 27, 27),
        ),
        (
            "snp-vcek/tav/turin-v5",
            ProductLine::Turin,
            Tcb::turin(1, 1, 1, 4, 81),
        ),
    ] {
        let sample = sample(id);
        let appraised = sample.input().appraise().appraised.unwrap();
        assert_eq!(appraised.product_line(), line);
        assert_eq!(appraised.reported_tcb(), tcb);
        let VekOwner::Chip(chip) = appraised.owner() else {
            panic!("{id}");
        };
        assert_eq!(chip.chip_id(), sample.bytes("chip_id"));
    }
    let aws = sample("snp-vlek/trustee/aws-us-east-2-v3")
        .input()
        .appraise();
    assert_eq!(
        aws.appraised.unwrap().owner(),
        &VekOwner::Provider(AWS_US_EAST_2.into())
    );
}

#[test]
fn a_revocation_list_that_travelled_along_is_enough() {
    let sample = sample("snp-vcek/steward/milan-v2-with-crls");
    let mut input = sample.input();
    input.requirements = sample.requirements().revocation(RevocationDemand::Enforce);
    assert_eq!(input.appraise().failed(), ["AMD revocation list"]);
    // the one of Genoa is another issuer's and changes nothing
    for file in ["crl-genoa.der", "crl-milan.der"] {
        let der = evidence(&format!("{}/{file}", sample.id));
        input.crls.push(Crl::parse(&der).unwrap());
    }
    let output = input.appraise();
    assert_eq!(output.failed(), [""; 0], "{}", output.findings);
    assert_eq!(output.warnings(), [""; 0]);
    input.now = time("2024-01-01T00:00:00Z");
    assert_eq!(input.appraise().failed(), ["AMD revocation list"]);
}

/// AMD revoked the first signing key of Genoa, by a list that has run out long since, and certified the name anew.
#[test]
fn the_signing_key_that_amd_revoked_is_not_followed() {
    let sample = sample("snp-vcek/tav/genoa-v3");
    let revoked =
        Certificate::parse(&evidence("roots/amd-crl/ask-genoa-revoked-0x20001.der")).unwrap();
    let crl = Crl::parse(&evidence("roots/amd-crl/crl-genoa-2022-10-31.der")).unwrap();
    let mut root = Roots::amd().line(ProductLine::Genoa).unwrap().clone();
    root.signing = vec![revoked];
    let mut input = sample.input();
    input.roots = Roots::of([root]);
    input.crls = vec![crl];
    let output = input.appraise();
    assert_eq!(output.failed(), ["AMD certificate chain"]);
    // beside it the one in force is found
    input.signing = Roots::amd()
        .line(ProductLine::Genoa)
        .unwrap()
        .signing
        .clone();
    let output = input.appraise();
    assert_eq!(output.failed(), [""; 0], "{}", output.findings);
}

/// A demand changed on a real machine's evidence fails that check alone.
#[test]
fn each_demand_refuses_a_real_machine_that_does_not_fulfil_it() {
    const MILAN: &str = "snp-vcek/oak/milan-v3-oc-release";
    const GENOA: &str = "snp-vcek/oak/genoa-v5";
    const TURIN: &str = "snp-vcek/tav/turin-v5";
    const OLD: &str = "snp-vcek/virtee-sev/milan-v2";
    const AWS: &str = "snp-vlek/trustee/aws-us-east-2-v3";
    const AZURE: &str = "snp-vcek/trustee/milan-v2";
    type Change = fn(&Sample) -> Requirements;
    let with_lines = |sample: &Sample, accepted: AcceptedLine| {
        Requirements::new(
            AcceptedLines::new([accepted]).unwrap(),
            LaunchMeasurements::Enforce(Accepted::new(vec![sample.bytes("measurement")]).unwrap()),
            IdKeyDigests::NotDemanded,
        )
        .allow_smt()
        .revocation(RevocationDemand::Warn)
    };
    let rows: [(&str, Change, &str); 13] = [
        (
            AWS,
            |s| {
                s.requirements()
                    .vlek_providers(provider("CN=cc-us-east-1.amazonaws.com"))
            },
            "provider of the VLEK",
        ),
        (AWS, |s| s.requirements().vmpl(Vmpl::ZERO), "VMPL"),
        (
            MILAN,
            |s| s.requirements().vmpl(Vmpl::new(1).unwrap()),
            "VMPL",
        ),
        (
            AWS,
            |s| s.requirements().keys(AcceptedKeys::Vcek),
            "kind of AMD key",
        ),
        (
            MILAN,
            |s| s.requirements().keys(AcceptedKeys::Vlek),
            "kind of AMD key",
        ),
        (
            OLD,
            |s| {
                s.requirements()
                    .platform_info(PlatformInfo::ALIAS_CHECK_COMPLETE)
            },
            "platform info",
        ),
        (
            GENOA,
            |s| {
                s.requirements()
                    .platform_info(PlatformInfo::CIPHERTEXT_HIDING_DRAM_EN)
            },
            "platform info",
        ),
        (
            GENOA,
            |s| {
                s.requirements()
                    .guest_policy(GuestPolicy::PAGE_SWAP_DISABLE)
            },
            "guest policy demands",
        ),
        (
            MILAN,
            |s| {
                s.requirements()
                    .minimum_abi(attest::sev_snp::Abi { major: 0, minor: 1 })
            },
            "guest ABI",
        ),
        (
            TURIN,
            |s| s.requirements_of(mitigated_lines(0x40)),
            "mitigations",
        ),
        (
            OLD,
            |s| s.requirements_of(mitigated_lines(1)),
            "mitigations",
        ),
        (
            MILAN,
            |s| {
                s.requirements()
                    .chips(Chips::Listed(Accepted::new(vec![[7; 64]]).unwrap()))
            },
            "listed chip",
        ),
        (
            MILAN,
            |s| s.requirements().host_data(HostData::Exactly([7; 32])),
            "host data",
        ),
    ];
    for (id, change, check) in rows {
        let sample = sample(id);
        let mut input = sample.input();
        input.requirements = change(&sample);
        let output = input.appraise();
        assert_eq!(output.failed(), [check], "{id}: {}", output.findings);
        assert_eq!(output.code(), Some(RefusalCode::Platform), "{id}");
    }

    let low = Tcb::milan_genoa(1, 0, 0, 0);
    let high = Tcb::milan_genoa(4, 0, 24, 220);
    let turin = Tcb::turin(1, 1, 1, 4, 81);
    for (line, reported, launch, check) in [
        (ProductLine::Milan, high, low, "reported TCB"),
        (ProductLine::Milan, low, high, "launch TCB"),
        (ProductLine::Turin, turin, turin, "AMD product line"),
    ] {
        let sample = sample(MILAN);
        let mut input = sample.input();
        input.requirements =
            with_lines(&sample, AcceptedLine::new(line, reported, launch).unwrap());
        assert_eq!(input.appraise().failed(), [check]);
    }

    // what these hosts ran was not committed
    for id in [AWS, AZURE] {
        let sample = sample(id);
        let mut input = sample.input();
        input.requirements = Requirements::new(
            lines(),
            LaunchMeasurements::NotChecked,
            IdKeyDigests::NotDemanded,
        )
        .keys(AcceptedKeys::Either)
        .vmpl(Vmpl::new(u8::try_from(sample.number("vmpl")).unwrap()).unwrap())
        .allow_smt()
        .platform_info(PlatformInfo::NONE)
        .revocation(RevocationDemand::Warn);
        assert_eq!(input.appraise().failed(), ["committed firmware"], "{id}");
    }
}

#[test]
fn a_real_report_over_other_data_is_refused() {
    let mut input = sample("snp-vcek/oak/milan-v3-oc-release").input();
    for at in [0, 31, 63] {
        input.report_data[at] ^= 1;
        let output = input.appraise();
        assert_eq!(output.failed(), ["SNP report data"]);
        assert_eq!(output.code(), Some(RefusalCode::WrongBinding));
        input.report_data[at] ^= 1;
    }
}

#[test]
fn each_byte_of_a_real_report_counts() {
    let mut input = sample("snp-vcek/oak/milan-v3-oc-release").input();
    let cache = attest::x509::PathCache::default();
    // measurement, host data, author key digest, report id, current TCB, launch TCB, reserved bytes: nothing but the signature holds them
    for at in [
        0x90, 0xbf, 0xc0, 0x110, 0x140, 0x38, 0x1f7, 0x4c, 0x18b, 0x29f,
    ] {
        input.report[at] ^= 1;
        let output = input.appraise_with(&cache);
        assert_eq!(output.failed(), ["SNP report signature"], "{at:#x}");
        input.report[at] ^= 1;
    }
    // r and s
    for at in [0x2a0, 0x2cf, 0x2e8, 0x317] {
        input.report[at] ^= 1;
        let output = input.appraise_with(&cache);
        assert_eq!(output.failed(), ["SNP report signature"], "{at:#x}");
        input.report[at] ^= 1;
    }
    assert!(input.appraise_with(&cache).appraised.is_some());
}

#[test]
fn a_real_certificate_is_refused_outside_its_time() {
    let sample = sample("snp-vlek/trustee/aws-us-east-2-v3");
    let mut input = sample.input();
    let cache = attest::x509::PathCache::default();
    assert!(input.appraise_with(&cache).appraised.is_some());
    for now in ["2024-12-10T22:14:20Z", "2025-12-10T22:14:22Z"] {
        input.now = time(now);
        // a cache remembers signatures, not validity
        let output = input.appraise_with(&cache);
        assert_eq!(output.failed(), ["AMD certificate chain"], "{now}");
    }
}

#[test]
fn what_is_not_demanded_of_a_launch_is_said() {
    let sample = sample("snp-vcek/oak/milan-v3-oc-release");
    let other = || Accepted::new(vec![[7; 48]]).unwrap();
    for (measurements, id_key, warnings) in [
        (
            LaunchMeasurements::NotChecked,
            IdKeyDigests::NotDemanded,
            &["AMD revocation list", "launch measurement"][..],
        ),
        (
            LaunchMeasurements::Warn(other()),
            IdKeyDigests::Warn(other()),
            &["AMD revocation list", "id key digest", "launch measurement"],
        ),
    ] {
        let mut input = sample.input();
        input.requirements = Requirements::new(lines(), measurements, id_key)
            .allow_smt()
            .revocation(RevocationDemand::Warn);
        let output = input.appraise();
        assert_eq!(output.failed(), [""; 0], "{}", output.findings);
        assert_eq!(output.named(Outcome::Warning), warnings);
    }
}

#[test]
fn the_default_demands_refuse_what_samples_are_allowed() {
    let sample = sample("snp-vcek/oak/milan-v3-oc-release");
    let Output { findings, .. } = {
        let mut input = sample.input();
        input.requirements = Requirements::new(
            lines(),
            LaunchMeasurements::Enforce(Accepted::new(vec![[7; 48]]).unwrap()),
            IdKeyDigests::Enforce(Accepted::new(vec![[7; 48]]).unwrap()),
        )
        .revocation(RevocationDemand::Warn);
        input.appraise()
    };
    // all of them at once, in one verdict
    assert_eq!(
        crate::named(findings.checks(), Outcome::Failed),
        [
            "simultaneous multithreading",
            "id key digest",
            "launch measurement"
        ]
    );
}
