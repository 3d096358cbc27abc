//! Two generations of a policy: a machine is of one of them in all its parts.

use attest::{CheckName, Outcome, Refusal, Variant, Verified};
use testkit::amd::offset;
use testkit::boot::Image;
use testkit::cloud::Machine;

use super::{OWN, Pinned, Setup, VOUCHED, document, generation, policy_of, time};
use crate::{binding, named};

const END: &str = "2026-01-20T00:00:00Z";
const NEWER: Pinned = Pinned {
    launch: 0x4e,
    mrtd: 0x2d,
    rtmr1: 0xb1,
};

fn newer() -> Image {
    Image {
        version: "v0.2.0".into(),
        initrd: b"the next initrd".to_vec(),
        ..Image::default()
    }
}

/// Accepts the newer image with the newer registers, and until [`END`] the older one with the older registers.
fn judge(
    variant: Variant,
    image: &Image,
    registers: Pinned,
    now: &str,
) -> Result<Verified, Refusal> {
    let generations = generation(variant, &newer(), NEWER, None)
        + &generation(variant, &Image::default(), OWN, Some(END));
    let setup = Setup {
        policy: policy_of(variant, &generations),
        now: time(now),
        ..Setup::new(variant)
    };
    let mut machine = Machine::boot(image);
    machine
        .report
        .set(offset::MEASUREMENT, &[registers.launch; 48]);
    machine.td.mrtd = [registers.mrtd; 48];
    machine.td.rtmrs[1] = [registers.rtmr1; 48];
    setup.judge(document(variant, &machine, &binding()))
}

const BEFORE: &str = "2026-01-19T23:59:59Z";

#[test]
fn each_generation_is_accepted_as_a_whole() {
    for variant in VOUCHED {
        let verified = judge(variant, &newer(), NEWER, END).unwrap();
        assert_eq!(verified.image_name(), Some("v0.2.0"));
        let verified = judge(variant, &Image::default(), OWN, BEFORE).unwrap();
        assert_eq!(verified.image_name(), Some("v0.1.0"));
        assert!(
            verified
                .warnings()
                .any(|check| check.name == CheckName::Generation),
            "{verified}"
        );
        let refusal = judge(variant, &Image::default(), OWN, END).unwrap_err();
        assert!(
            refusal.failed().any(|it| it.name == CheckName::Generation),
            "{refusal}"
        );
    }
}

/// The hardware's part of one generation and the PCRs of the other, and a part of the hardware's.
#[test]
fn a_machine_of_both_generations_is_of_neither() {
    for variant in VOUCHED {
        if !variant.has_hardware_root() {
            continue;
        }
        let half = Pinned {
            rtmr1: NEWER.rtmr1,
            ..OWN
        };
        let mut mixed = vec![(newer(), OWN), (Image::default(), NEWER)];
        if matches!(variant, Variant::AzureTdx | Variant::GcpTdx) {
            mixed.push((newer(), half));
            mixed.push((Image::default(), half));
        }
        for (image, registers) in mixed {
            let refusal = judge(variant, &image, registers, BEFORE).unwrap_err();
            let failed = named(refusal.checks(), Outcome::Failed);
            let is_measured = |name: &String| {
                ["launch measurement", "MRTD", "RTMR1", "PCR 9", "PCR 11"].contains(&name.as_str())
            };
            assert!(
                !failed.is_empty() && failed.iter().all(is_measured),
                "{refusal}"
            );
            assert!(refusal.to_string().contains("v0.2.0"), "{refusal}");
        }
    }
}
