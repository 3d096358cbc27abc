//! A refusal names the part that differs, and not only the register.

use attest::event_log::event_type;
use attest::{
    ClusterMark, Component, ComponentDigest, Digest, Outcome, PcrIndex, PcrValues, Policy, Refusal,
    Variant,
};
use testkit::appraise;
use testkit::boot::Image;
use testkit::tee::SoftTpm;

use crate::{binding, evidence, named, verdict};

fn refusal_of(booted: &Image, demanded: &Image) -> Refusal {
    verdict(
        &SoftTpm::boot(booted).document(&binding()),
        &demanded.policy(),
    )
    .unwrap_err()
}

fn parts(refusal: &Refusal) -> Vec<(String, Component)> {
    refusal
        .failed()
        .flat_map(|check| {
            check
                .differences
                .iter()
                .map(|d| (check.name.to_string(), d.component))
        })
        .collect()
}

#[test]
fn each_changed_part_is_named() {
    let image = Image::default();
    let rows = [
        (
            Image {
                uki: Digest::of(b"o"),
                ..image.clone()
            },
            vec![("PCR 4", Component::BootLoader)],
        ),
        (
            Image {
                kernel: Digest::of(b"o"),
                ..image.clone()
            },
            vec![("PCR 4", Component::Kernel)],
        ),
        (
            Image {
                linux: b"o".to_vec(),
                ..image.clone()
            },
            vec![("PCR 11", Component::Kernel)],
        ),
        (
            Image {
                os_release: b"o".to_vec(),
                ..image.clone()
            },
            vec![("PCR 11", Component::OsRelease)],
        ),
        (
            Image {
                initrd: b"o".to_vec(),
                ..image.clone()
            },
            vec![("PCR 9", Component::Initrd), ("PCR 11", Component::Initrd)],
        ),
        (
            Image {
                options: "console=ttyS0 init=/bin/sh".into(),
                ..image.clone()
            },
            vec![
                ("PCR 9", Component::CommandLine),
                ("PCR 11", Component::CommandLine),
            ],
        ),
        (
            Image {
                root_hash: Digest::of(b"o"),
                ..image.clone()
            },
            vec![
                ("PCR 9", Component::RootFileSystem),
                ("PCR 11", Component::RootFileSystem),
            ],
        ),
    ];
    for (booted, expected) in rows {
        let refusal = refusal_of(&booted, &image);
        let expected: Vec<(String, Component)> = expected
            .into_iter()
            .map(|(pcr, component)| (pcr.to_owned(), component))
            .collect();
        assert_eq!(parts(&refusal), expected, "{refusal}");
    }
}

#[test]
fn what_the_host_adds_is_named_by_its_register() {
    let image = Image::default();
    let rows = [
        (8, Component::Unknown),
        (12, Component::Additions),
        (13, Component::Extensions),
    ];
    for (pcr, component) in rows {
        let digest = Digest::of(b"from the host");
        let extra = vec![(pcr, event_type::IPL, b"host".to_vec(), digest)];
        let refusal = refusal_of(
            &Image {
                extra,
                ..image.clone()
            },
            &image,
        );
        assert_eq!(
            parts(&refusal),
            [(format!("PCR {pcr}"), component)],
            "{refusal}"
        );
        let check = refusal.failed().next().unwrap();
        assert_eq!(check.differences[0].actual, Some(digest.to_string().into()));
        assert_eq!(check.differences[0].expected, None);
    }
}

#[test]
fn a_second_boot_loader_in_front_is_named() {
    let image = Image::default();
    let extra = vec![(
        4,
        event_type::EFI_BOOT_SERVICES_APPLICATION,
        b"shim".to_vec(),
        Digest::of(b"shim"),
    )];
    let refusal = refusal_of(
        &Image {
            extra,
            ..image.clone()
        },
        &image,
    );
    assert_eq!(
        parts(&refusal),
        [("PCR 4".to_owned(), Component::Unknown)],
        "{refusal}"
    );
}

/// The document's command line is a claim. It is shown only where its digest is in the log, which leads to the PCRs.
#[test]
fn a_claimed_command_line_is_not_believed() {
    let image = Image::default();
    let booted = Image {
        options: "init=/bin/sh".into(),
        ..image.clone()
    };
    let mut document = SoftTpm::boot(&booted).document(&binding());
    document.command_line = Some(image.command_line());
    let refusal = verdict(&document, &image.policy()).unwrap_err();
    assert_eq!(
        parts(&refusal),
        [
            ("PCR 9".to_owned(), Component::CommandLine),
            ("PCR 11".to_owned(), Component::CommandLine)
        ]
    );
    assert!(!refusal.to_string().contains("console=ttyS0"), "{refusal}");
    document.command_line = Some(booted.command_line());
    let refusal = verdict(&document, &image.policy()).unwrap_err();
    assert!(
        refusal.to_string().contains("init=/bin/sh roothash="),
        "{refusal}"
    );
}

/// A log that explains other values than the quoted ones must not lend its names.
#[test]
fn a_log_that_does_not_replay_names_nothing() {
    let image = Image::default();
    let booted = Image {
        initrd: b"o".to_vec(),
        ..image.clone()
    };
    let mut document = SoftTpm::boot(&booted).document(&binding());
    document.event_log = image.event_log();
    let refusal = verdict(&document, &image.policy()).unwrap_err();
    assert_eq!(
        named(refusal.checks(), Outcome::Failed),
        ["log replay", "PCR 9", "PCR 11"]
    );
    assert_eq!(parts(&refusal), []);
}

#[test]
fn a_policy_without_components_still_names_the_owner() {
    let image = Image::default();
    let policy = Policy::new(
        Variant::QemuVtpm,
        None,
        image.policy().measurements().clone(),
        Vec::new(),
    )
    .unwrap();
    let booted = Image {
        uki: Digest::of(b"o"),
        ..image
    };
    let refusal = verdict(&SoftTpm::boot(&booted).document(&binding()), &policy).unwrap_err();
    assert_eq!(
        refusal.failed().next().unwrap().component.as_deref(),
        Some("boot loader (UKI) or kernel")
    );
    assert_eq!(parts(&refusal), []);
}

#[test]
fn the_tree_is_what_a_person_reads() {
    let image = Image::default();
    let booted = Image {
        root_hash: Digest::of(b"another root file system"),
        ..image.clone()
    };
    let refusal = refusal_of(&booted, &image);
    let tree = refusal.to_string();
    let (line_9, line_11) = (image.pcrs(), booted.pcrs());
    let pcr = |n| PcrIndex::new(n).unwrap();
    let expected = format!(
        "\
✗ refused: boot measurements not accepted (qemu-vtpm, demanded image v0.1.0)
├─ ✓ evidence document
├─ ⚠ attestation key
│  ├─ ✓ key format
│  ├─ ✓ key attributes
│  └─ ⚠ hardware root of trust
│       expected a key that hardware vouches for
│       found    none: qemu-vtpm trusts whatever TPM the host provides
│       → no hardware root of trust: this machine is not confidential; do not give it secrets its host must not read
├─ ✓ quote
├─ ✓ event log
├─ ✗ boot measurements
│  ├─ ✓ PCR 4
│  ├─ ✓ PCR 8
│  ├─ ✗ root file system (PCR 9)
│  │    expected {}
│  │    found    {}
│  │    • root file system: only the root hash in the command line differs
│  │      expected {}
│  │      found    {}
│  │    → this part does not come from image v0.1.0: boot that image, or accept the one that runs by its own measurements
│  ├─ ✗ root file system (PCR 11)
│  │    expected {}
│  │    found    {}
│  │    • root file system: only the root hash in the command line differs
│  │      expected {}
│  │      found    {}
│  │    → this part does not come from image v0.1.0: boot that image, or accept the one that runs by its own measurements
│  ├─ ✓ PCR 12
│  └─ ✓ PCR 13
└─ ✓ cluster mark",
        line_9.get(pcr(9)),
        line_11.get(pcr(9)),
        image.root_hash,
        booted.root_hash,
        line_9.get(pcr(11)),
        line_11.get(pcr(11)),
        image.root_hash,
        booted.root_hash,
    );
    assert_eq!(tree, expected);
    assert_eq!(
        refusal.summary(),
        "boot measurements not accepted: root file system (PCR 9), root file system (PCR 11)"
    );
}

#[test]
fn json_carries_what_the_tree_shows() {
    let image = Image::default();
    let booted = Image {
        initrd: b"o".to_vec(),
        ..image.clone()
    };
    let json = serde_json::to_value(refusal_of(&booted, &image)).unwrap();
    assert_eq!(json["code"], "measurements");
    assert_eq!(json["variant"], "qemu-vtpm");
    assert_eq!(json["image"], "v0.1.0");
    let failed: Vec<&serde_json::Value> = json["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|check| check["outcome"] == "failed")
        .collect();
    assert_eq!(failed[0]["name"], "PCR 9");
    assert_eq!(failed[0]["component"], "initrd");
    assert_eq!(failed[0]["differences"][0]["component"], "initrd");
    assert_eq!(
        failed[0]["differences"][0]["expected"],
        Digest::of(&image.initrd).to_string()
    );
    assert!(failed[0]["nextStep"].is_string());

    let verified = verdict(&SoftTpm::boot(&image).document(&binding()), &image.policy()).unwrap();
    let json = serde_json::to_value(&verified).unwrap();
    assert_eq!(json["pcrs"]["12"], Digest::ZERO.to_string());
    assert_eq!(json["akId"], verified.ak_id());
}

#[test]
fn a_refusal_before_the_quote_says_what_was_not_reached() {
    let image = Image::default();
    let mut document = SoftTpm::boot(&image).document(&binding());
    document.signature.pop();
    let refusal = appraise(
        &evidence(&document),
        &binding(),
        &image.policy(),
        &ClusterMark::NotJoined,
    )
    .unwrap_err();
    assert_eq!(
        named(refusal.checks(), Outcome::Skipped),
        ["log replay", "PCRs of the policy", "PCR 15"]
    );
    assert!(
        refusal.to_string().ends_with("└─ · cluster mark"),
        "{refusal}"
    );
}

/// What a real boot of this project's image left: OVMF, systemd-stub and Linux wrote the log.
fn real_boot() -> (PcrValues, Vec<u8>, String) {
    let file = |name: &str| {
        let path = format!(
            "{}/testdata/event-log/constellation-qemu.{name}",
            env!("CARGO_MANIFEST_DIR")
        );
        std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let values: std::collections::BTreeMap<PcrIndex, Digest> =
        serde_json::from_slice(&file("json")).unwrap();
    let mut pcrs = PcrValues::at_reset();
    for (index, value) in values {
        pcrs.set(index, value);
    }
    (
        pcrs,
        file("bin"),
        String::from_utf8(file("cmdline")).unwrap(),
    )
}

#[test]
fn parts_of_a_real_boot_of_the_image_have_their_names() {
    let (pcrs, log, _) = real_boot();
    let policy = Policy::from_own_measurements(Variant::QemuVtpm, &pcrs, &log).unwrap();
    let named = |number| -> Vec<&str> {
        let pcr = PcrIndex::new(number).unwrap();
        policy
            .components()
            .iter()
            .filter(|part| part.pcr == pcr)
            .map(|part| part.name.as_str())
            .collect()
    };
    assert_eq!(
        named(4),
        ["boot attempt", "separator", "boot loader (UKI)", "kernel"]
    );
    assert_eq!(named(9), ["command line", "initrd"]);
    assert_eq!(
        named(11),
        [
            "kernel",
            "os-release",
            "command line",
            "initrd",
            "uname",
            "sbat"
        ]
    );
    assert_eq!(named(12), [""; 0]);
}

/// The real boot against the policy of an image that differs from it in one part.
#[test]
fn one_changed_part_of_a_real_boot_is_named() {
    let (pcrs, log, line) = real_boot();
    let own = Policy::from_own_measurements(Variant::QemuVtpm, &pcrs, &log).unwrap();
    let document = SoftTpm::from_traces(pcrs, log, line.clone()).document(&binding());
    verdict(&document, &own).unwrap();

    let root = Digest::of(b"the root file system that was demanded");
    let token = line
        .split(' ')
        .find(|token| token.starts_with("roothash="))
        .unwrap();
    let demanded = line.replace(token, &format!("roothash={root}"));
    let utf16: Vec<u8> = demanded
        .encode_utf16()
        .chain([0])
        .flat_map(u16::to_le_bytes)
        .collect();
    let changes = [
        (
            9,
            Component::CommandLine,
            Digest::of(&utf16),
            Component::RootFileSystem,
        ),
        (
            11,
            Component::CommandLine,
            Digest::of(demanded.as_bytes()),
            Component::RootFileSystem,
        ),
        (
            9,
            Component::CommandLine,
            Digest::of(b"x"),
            Component::CommandLine,
        ),
        (9, Component::Initrd, Digest::of(b"x"), Component::Initrd),
        (4, Component::Kernel, Digest::of(b"x"), Component::Kernel),
        (
            11,
            Component::OsRelease,
            Digest::of(b"x"),
            Component::OsRelease,
        ),
    ];
    for (number, part, digest, named) in changes {
        let pcr = PcrIndex::new(number).unwrap();
        let mut components = own.components().to_vec();
        components
            .iter_mut()
            .find(|c| c.pcr == pcr && c.name == part)
            .unwrap()
            .digest = digest;
        components.push(ComponentDigest {
            pcr,
            name: Component::RootFileSystem,
            digest: root,
        });
        let mut measurements = own.measurements().clone();
        measurements.get_mut(&pcr).unwrap().expected =
            Digest::of(b"the value of the demanded image");
        let policy = Policy::new(Variant::QemuVtpm, None, measurements, components).unwrap();
        let refusal = verdict(&document, &policy).unwrap_err();
        assert_eq!(
            parts(&refusal),
            [(format!("PCR {number}"), named)],
            "{refusal}"
        );
    }
}
