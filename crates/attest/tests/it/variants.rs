//! The variants of vendors' machines, from the document to the verdict: each accepted once, and then one lie at a time.

mod documents;
mod generations;
mod intel;
mod lies;
mod samples;

use std::sync::LazyLock;

use attest::sev_snp::{ProductLine, VekKind, oid};
use attest::x509::{Certificate, PathCache};
use attest::{
    Binding, ClusterMark, Endorsements, Evidence, Policy, PolicyError, Refusal, RefusalCode, Roots,
    Trust, Variant, VariantError, Verified, appraise,
};
use aws_lc_rs::signature::KeyPair;
use jiff::Timestamp;
use testkit::amd::{Amd, offset, other_key, p384_spki};
use testkit::boot::Image;
use testkit::cloud::{Machine, Makers, NOW};

use crate::{binding, named};

/// All variants with somebody behind them who vouches for the TPM.
const VOUCHED: [Variant; 6] = [
    Variant::AzureSevSnp,
    Variant::AzureTdx,
    Variant::AzureTrustedLaunch,
    Variant::GcpSevEs,
    Variant::GcpSevSnp,
    Variant::GcpTdx,
];

/// Keys are made once: all of it is of one kind with every test.
static MAKERS: LazyLock<Makers> = LazyLock::new(Makers::new);

fn machine() -> Machine {
    Machine::boot(&Image::default())
}

/// What a machine of this variant sends.
fn document(variant: Variant, machine: &Machine, binding: &Binding) -> Vec<u8> {
    match variant {
        Variant::QemuVtpm => machine.statement(binding).to_json(),
        Variant::AzureSevSnp => machine.azure_sev_snp(binding).to_json(),
        Variant::AzureTdx => machine.azure_tdx(&MAKERS, binding).to_json(),
        Variant::AzureTrustedLaunch => machine.azure_trusted_launch(&MAKERS, binding).to_json(),
        Variant::GcpSevEs => machine.gcp_sev_es(&MAKERS, binding).to_json(),
        Variant::GcpSevSnp => machine.gcp_sev_snp(&MAKERS, binding).to_json(),
        Variant::GcpTdx => machine.gcp_tdx(&MAKERS, binding).to_json(),
    }
}

/// The registers of hardware that a generation pins.
#[derive(Clone, Copy)]
struct Pinned {
    launch: u8,
    mrtd: u8,
    rtmr1: u8,
}

/// What a machine of the testkit has.
const OWN: Pinned = Pinned {
    launch: 0x3e,
    mrtd: 0x1d,
    rtmr1: 0xa1,
};

/// The measurements of one generation, as they stand in a list of them.
fn generation(variant: Variant, image: &Image, pinned: Pinned, expires: Option<&str>) -> String {
    let value = |byte: u8| {
        format!(
            "{{ accepted: [{}], warnOnly: false }}",
            hex::encode([byte; 48])
        )
    };
    let mut text = format!("    - image: {}\n", image.version);
    if let Some(expires) = expires {
        text += &format!("      expires: {expires}\n");
    }
    match variant {
        Variant::AzureSevSnp | Variant::GcpSevSnp => {
            text += &format!("      launch: {}\n", value(pinned.launch));
        }
        Variant::AzureTdx | Variant::GcpTdx => {
            text += &format!(
                "      mrtd: {}\n      rtmrs: {{ 1: {} }}\n",
                value(pinned.mrtd),
                value(pinned.rtmr1)
            );
        }
        Variant::QemuVtpm | Variant::AzureTrustedLaunch | Variant::GcpSevEs => {}
    }
    text += "      pcrs:\n";
    let pcrs = image.pcrs();
    for index in Policy::REQUIRED_PCRS {
        let value = pcrs.get(attest::PcrIndex::new(index).unwrap());
        text += &format!("        {index}: {{ expected: {value}, warnOnly: false }}\n");
    }
    text
}

/// What a policy says of the platform.
const fn platform(variant: Variant) -> &'static str {
    match variant {
        Variant::AzureSevSnp | Variant::GcpSevSnp => {
            "snp:\n  products:\n    Milan:\n      minimumTcb: { bootloader: 4, tee: 0, snp: 24, microcode: 219 }\n"
        }
        Variant::AzureTdx | Variant::GcpTdx => "tdx:\n  tcbStatuses: [UpToDate]\n",
        Variant::QemuVtpm | Variant::AzureTrustedLaunch | Variant::GcpSevEs => "",
    }
}

fn policy_of(variant: Variant, generations: &str) -> Policy {
    let text = format!(
        "version: 2\nvariant: {variant}\nmeasurements:\n  generations:\n{generations}{}",
        platform(variant)
    );
    Policy::from_yaml(&text).unwrap_or_else(|error| panic!("{error:?}\n{text}"))
}

fn policy(variant: Variant) -> Policy {
    policy_of(variant, &generation(variant, &Image::default(), OWN, None))
}

/// Everything that evidence is held against. True until a test changes a part.
struct Setup {
    policy: Policy,
    mark: ClusterMark,
    roots: Roots,
    endorsements: Endorsements,
    now: Timestamp,
}

impl Setup {
    fn new(variant: Variant) -> Self {
        Self {
            policy: policy(variant),
            mark: ClusterMark::NotJoined,
            roots: MAKERS.roots(),
            endorsements: MAKERS.endorsements(),
            now: time(NOW),
        }
    }

    fn judge(&self, document: Vec<u8>) -> Result<Verified, Refusal> {
        let evidence = Evidence::new(self.policy.variant(), document).unwrap();
        let trust = Trust {
            roots: &self.roots,
            endorsements: &self.endorsements,
            cache: &PathCache::default(),
            now: self.now,
        };
        appraise(&evidence, &binding(), &self.policy, &self.mark, &trust)
    }
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Refused by these checks and by no other.
#[track_caller]
fn refused(what: &str, verdict: Result<Verified, Refusal>, checks: &[&str], code: RefusalCode) {
    let refusal = match verdict {
        Ok(verified) => panic!("{what}: {verified}"),
        Err(refusal) => refusal,
    };
    let failed = named(refusal.checks(), attest::Outcome::Failed);
    assert_eq!(failed, checks, "{what}: {refusal}");
    assert_eq!(refusal.code(), code, "{what}: {refusal}");
}

#[test]
fn a_true_machine_of_each_variant_is_accepted() {
    for variant in VOUCHED {
        let verified = Setup::new(variant)
            .judge(document(variant, &machine(), &binding()))
            .unwrap_or_else(|refusal| panic!("{refusal}"));
        assert_eq!(verified.variant(), variant);
        assert_eq!(verified.image_name(), Some("v0.1.0"));
        assert_eq!(verified.is_confidential(), variant.has_hardware_root());
        assert_eq!(verified.measurements(), &Image::default().pcrs());
        let root = verified
            .checks()
            .iter()
            .find(|check| check.name == attest::CheckName::HardwareRoot)
            .unwrap();
        let expected = if variant.has_hardware_root() {
            attest::Outcome::Passed
        } else {
            attest::Outcome::Warning
        };
        assert_eq!(root.outcome, expected, "{verified}");
    }
}

/// Two of a kind are told apart, and one of them is itself each time.
#[test]
fn a_machine_is_known_by_its_key() {
    let (one, other) = (machine(), machine());
    for variant in VOUCHED {
        let id = |machine: &Machine| {
            let verdict = Setup::new(variant).judge(document(variant, machine, &binding()));
            verdict.unwrap().ak_id()
        };
        assert_eq!(id(&one), id(&one));
        assert_ne!(id(&one), id(&other));
    }
}

/// Nothing but their signatures tells the keys of masked chips at one level apart. The machine's own is tried, however many others a site knows.
#[test]
fn a_masked_chip_is_known_by_the_key_that_comes_with_its_report() {
    let amd = Amd::new(ProductLine::Milan);
    let mut machine = machine();
    machine.report.set(offset::CHIP_ID, &[0; 64]);
    for variant in [Variant::AzureSevSnp, Variant::GcpSevSnp] {
        let mut setup = Setup::new(variant);
        for number in 1..=12 {
            let mut other = amd.vek(VekKind::Vcek);
            other.set(oid::HARDWARE_ID, vec![number; 64]);
            other.spki = p384_spki(other_key().public_key().as_ref());
            let other = Certificate::parse(&amd.issue(&other)).unwrap();
            setup.endorsements.add_certificate(other).unwrap();
        }
        let verdict = setup.judge(document(variant, &machine, &binding()));
        assert!(verdict.is_ok(), "{}", verdict.unwrap_err());
    }
}

/// Evidence under authorities of a test, before the roots that are built in.
#[test]
fn the_vendors_roots_refuse_machines_of_a_test() {
    let names: [(Variant, &str); 6] = [
        (Variant::AzureSevSnp, "AMD certificate chain"),
        (Variant::AzureTdx, "PCK certificate"),
        (Variant::AzureTrustedLaunch, "AK certificate chain"),
        (Variant::GcpSevEs, "AK certificate chain"),
        (Variant::GcpSevSnp, "AK certificate chain"),
        (Variant::GcpTdx, "AK certificate chain"),
    ];
    for (variant, name) in names {
        let setup = Setup {
            roots: Roots::vendors().clone(),
            ..Setup::new(variant)
        };
        refused(
            variant.as_str(),
            setup.judge(document(variant, &machine(), &binding())),
            &[name],
            RefusalCode::NotAuthentic,
        );
    }
}

#[test]
fn a_policy_for_another_kind_of_machine_is_no_policy_for_this_one() {
    let machine = machine();
    for variant in VOUCHED {
        for other in VOUCHED.into_iter().chain([Variant::QemuVtpm]) {
            if other == variant {
                continue;
            }
            let setup = Setup::new(other);
            let evidence = Evidence::new(variant, document(variant, &machine, &binding())).unwrap();
            let trust = Trust {
                roots: &setup.roots,
                endorsements: &setup.endorsements,
                cache: &PathCache::default(),
                now: setup.now,
            };
            let verdict = appraise(&evidence, &binding(), &setup.policy, &setup.mark, &trust);
            refused(
                &format!("{variant} as {other}"),
                verdict,
                &["variant"],
                RefusalCode::UnsupportedVariant,
            );
        }
    }
}

/// The same bytes under the name of another variant: nothing is passed on to a weaker appraisal.
#[test]
fn a_document_is_of_one_variant() {
    let machine = machine();
    for variant in VOUCHED.into_iter().chain([Variant::QemuVtpm]) {
        for other in VOUCHED.into_iter().chain([Variant::QemuVtpm]) {
            // these two have one form, and are told apart by who certified the key
            let (check, code) = match (variant, other) {
                _ if variant == other => continue,
                (Variant::AzureTrustedLaunch, Variant::GcpSevEs)
                | (Variant::GcpSevEs, Variant::AzureTrustedLaunch) => {
                    ("AK certificate chain", RefusalCode::NotAuthentic)
                }
                _ => ("document format", RefusalCode::Malformed),
            };
            refused(
                &format!("{variant} as {other}"),
                Setup::new(other).judge(document(variant, &machine, &binding())),
                &[check],
                code,
            );
        }
    }
}

#[test]
fn measurements_alone_are_no_policy_for_a_processor() {
    let pcrs = Image::default().pcrs();
    for variant in VOUCHED {
        let policy = Policy::from_own_measurements(variant, &pcrs, &[]);
        assert_eq!(
            matches!(policy, Err(PolicyError::OpenPlatform(it)) if it == variant),
            variant.has_hardware_root(),
            "{policy:?}"
        );
    }
}

#[test]
fn machines_that_are_no_variant_say_what_they_lack() {
    for (name, lack) in [
        ("aws-sev-snp", "SHA-384 PCRs"),
        ("aws-nitro-tpm", "SHA-384 PCRs"),
        ("sev-snp", "no register for the cluster mark"),
        ("tdx", "no register for the cluster mark"),
    ] {
        let error = name.parse::<Variant>().unwrap_err();
        assert!(matches!(error, VariantError::NotImplemented { .. }));
        assert!(error.to_string().contains(lack), "{error}");
    }
}
