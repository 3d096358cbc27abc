//! Policies at their edges: the longest list that is read, what is not written, and what a setting changes in the appraisal.

use std::fmt::Display;

use attest::policy::preset::Preset;
use attest::sev_snp::{self, IdKeyDigests};
use attest::tdx::{self, SeptVe};
use attest::{
    Component, ComponentDigest, Digest, Measurement, Policy, PolicyDocument, PolicyError, Variant,
};
use testkit::boot::Image;

use crate::policy_document::{azure, snp, tdx, vtpm};

const MAX_DOCUMENT: usize = 64 * 1024;

fn is_read(text: &str) -> bool {
    PolicyDocument::parse("policy", text).is_ok()
}

/// The document with another text in place of one that is in it.
#[track_caller]
fn with(document: &str, from: &str, to: &str) -> String {
    assert!(document.contains(from), "{from}");
    document.replacen(from, to, 1)
}

fn list<T: Display>(count: usize, item: impl Fn(usize) -> T) -> String {
    let items: Vec<String> = (1..=count).map(|number| item(number).to_string()).collect();
    format!("[{}]", items.join(", "))
}

/// `least` and `most` entries are read, one less and one more are not.
#[track_caller]
fn holds(what: &str, least: usize, most: usize, document: impl Fn(usize) -> String) {
    if let Some(fewer) = least.checked_sub(1) {
        assert!(!is_read(&document(fewer)), "{what}: {fewer}");
    }
    for count in [least, most - 1, most] {
        let read = PolicyDocument::parse("policy", &document(count));
        assert!(read.is_ok(), "{what}: {count}: {read:?}");
    }
    for count in [most + 1, most + 2] {
        assert!(!is_read(&document(count)), "{what}: {count}");
    }
}

/// The document's own bound is reached before that of the list.
#[test]
fn a_list_of_chips_is_not_empty() {
    let chips = |count| {
        let chips = list(count, |number| format!("'{number:0128x}'"));
        is_read(&format!("{}  chipIds: {chips}\n", snp()))
    };
    assert!(!chips(0));
    assert!(chips(1) && chips(400));
}

#[test]
fn providers_advisories_digests_and_presets_have_bounds() {
    holds("providers", 1, 64, |count| {
        let names = list(count, |number| format!("CN=provider-{number}"));
        format!("{}  signingKey: vlek\n  vlekProviders: {names}\n", snp())
    });
    let ids = |count| list(count, |number| format!("INTEL-SA-{number:05}"));
    holds("advisories", 0, 64, |count| {
        with(
            &tdx(),
            "advisories: [INTEL-SA-00837]\n  refusedAdvisories: [INTEL-SA-00828]",
            &format!("advisories: {}", ids(count)),
        )
    });
    holds("modules", 1, 64, |count| {
        let modules = list(count, |number| format!("'{number:096x}'"));
        with(
            &tdx(),
            &format!("mrSeam: [{}]", "e5".repeat(48)),
            &format!("mrSeam: {modules}"),
        )
    });
    holds("accepted digests", 1, 64, |count| {
        let digests = list(count, |number| format!("'{number:096x}'"));
        with(&snp(), &format!("[{}]", "c3".repeat(48)), &digests)
    });
    holds("components", 0, 128, |count| {
        let components = list(count, |number| {
            format!("{{ pcr: 9, name: initrd, digest: '{number:064x}' }}")
        });
        let whole = vtpm();
        let start = whole.find("components:").unwrap();
        format!("{}components: {components}\n", &whole[..start])
    });
    // of a list of names every one must be of this release, so the bound shows in what is told
    for (count, is_bound) in [(16, false), (17, true)] {
        let names = list(count, |number| format!("preset-{number}"));
        let text = with(&azure(), "[amd-2026-10]", &names);
        let problems = PolicyDocument::parse("policy", &text)
            .unwrap_err()
            .to_string();
        assert_eq!(
            problems.contains("presets are listed"),
            is_bound,
            "{problems}"
        );
        assert_eq!(
            problems.contains("no preset of this release"),
            !is_bound,
            "{problems}"
        );
    }
}

#[test]
fn an_advisory_has_a_number_of_up_to_eight_digits() {
    let with_id = |id: &str| with(&tdx(), "INTEL-SA-00837", id);
    for id in ["INTEL-SA-1", "INTEL-SA-12345678", "INTEL-DOC-1"] {
        assert!(is_read(&with_id(id)), "{id}");
    }
    for id in [
        "INTEL-SA-",
        "INTEL-SA-123456789",
        "INTEL-SA-12a",
        "INTEL-SA-x",
        "SA-1",
    ] {
        assert!(!is_read(&with_id(id)), "{id}");
    }
}

#[test]
fn a_provider_is_a_text() {
    for (name, is_name) in [("CN=a", true), ("7", false), ("true", false), ("''", false)] {
        let text = format!("{}  signingKey: vlek\n  vlekProviders: [{name}]\n", snp());
        assert_eq!(is_read(&text), is_name, "{name}");
    }
}

#[test]
fn a_document_has_a_bound_in_bytes() {
    let padded = |size: usize| {
        let mut text = vtpm();
        text.push_str("# ");
        while text.len() < size {
            // short lines, as a person's comments
            text.push_str(if text.len() % 64 == 0 { "\n# " } else { "." });
        }
        text.truncate(size);
        text
    };
    for (size, fits) in [
        (MAX_DOCUMENT - 1, true),
        (MAX_DOCUMENT, true),
        (MAX_DOCUMENT + 1, false),
        (MAX_DOCUMENT + 2, false),
    ] {
        let text = padded(size);
        assert_eq!(text.len(), size);
        assert_eq!(is_read(&text), fits, "{size}");
        let yaml = Policy::from_yaml(&text);
        assert_eq!(yaml.is_ok(), fits, "{size}");
        if !fits {
            assert!(matches!(yaml, Err(PolicyError::TooLong(told)) if told == size));
        }
        let mut json = Image::default().policy().to_json();
        json.extend(std::iter::repeat_n(' ', size - json.len()));
        let json = Policy::from_json(json.as_bytes());
        assert_eq!(json.is_ok(), fits, "{size}");
        if !fits {
            assert!(matches!(json, Err(PolicyError::TooLong(told)) if told == size));
        }
    }
}

#[test]
fn two_generations_need_the_second_version() {
    let pcrs = crate::policy_document::pcrs(8);
    let text = format!(
        "version: 1\nvariant: qemu-vtpm\nmeasurements:\n  generations:\n    - image: b\n      pcrs:\n{pcrs}    - image: a\n      expires: 2026-12-31T00:00:00Z\n      pcrs:\n{pcrs}"
    );
    assert!(!is_read(&text));
    assert!(is_read(&with(&text, "version: 1", "version: 2")));
    let versions = |version: &str| is_read(&with(&vtpm(), "version: 2", version));
    assert!(versions("version: 1") && versions("version: 2"));
    assert!(!versions("version: 0") && !versions("version: 3"));
}

#[test]
fn a_trust_domains_registers_are_of_trust_domains_only() {
    let register = format!("{{ accepted: [{}], warnOnly: false }}", "e5".repeat(48));
    for more in [
        format!("      mrtd: {register}\n"),
        format!("      rtmrs: {{ 1: {register} }}\n"),
    ] {
        let text = with(&snp(), "snp:\n", &format!("{more}snp:\n"));
        let problems = PolicyDocument::parse("policy", &text)
            .unwrap_err()
            .to_string();
        assert!(problems.contains("no MRTD and no RTMRs"), "{problems}");
    }
}

// ---- policies that are made and not read

fn measurements() -> attest::Measurements {
    Image::default().policy().measurements().clone()
}

fn made(
    image: Option<&str>,
    measurements: attest::Measurements,
    components: usize,
) -> Result<Policy, PolicyError> {
    let pcr = *measurements.keys().next().unwrap();
    let component = ComponentDigest {
        pcr,
        name: Component::Initrd,
        digest: Digest::of(b"initrd"),
    };
    Policy::new(
        Variant::QemuVtpm,
        image.map(str::to_owned),
        measurements,
        vec![component; components],
    )
}

#[test]
fn a_policy_that_is_made_is_checked_as_one_that_is_read() {
    assert!(made(Some("image"), measurements(), 128).is_ok());
    assert!(matches!(
        made(Some("image"), measurements(), 129),
        Err(PolicyError::TooManyComponents(129))
    ));
    for name in ["", "two words", &"n".repeat(257)] {
        assert!(matches!(
            made(Some(name), measurements(), 0),
            Err(PolicyError::ImageName)
        ));
    }
    assert!(made(Some(&"n".repeat(256)), measurements(), 0).is_ok());
    for index in measurements().into_keys() {
        let mut open = measurements();
        if Policy::REQUIRED_PCRS.contains(&index.number().into()) {
            open.remove(&index);
            assert!(
                matches!(made(None, open, 0), Err(PolicyError::Missing(told)) if told == index)
            );
        }
    }
    for number in [4_u32, 9, 11] {
        let index = attest::PcrIndex::new(number).unwrap();
        let mut zero = measurements();
        zero.insert(index, Measurement::enforced(Digest::ZERO));
        assert!(
            matches!(made(None, zero, 0), Err(PolicyError::NothingMeasured(told)) if told == index)
        );
    }
}

// ---- what a setting changes

fn tdx_requirements(text: &str) -> tdx::Requirements {
    let document = PolicyDocument::parse("policy", text).unwrap();
    document.tdx().unwrap().requirements(document.newest())
}

fn snp_requirements(text: &str) -> sev_snp::Requirements {
    let document = PolicyDocument::parse("policy", text).unwrap();
    let snp = document.snp().unwrap();
    snp.requirements(document.newest()).unwrap()
}

/// Each setting alone, against the same policy without it.
#[test]
fn settings_of_a_tdx_policy_reach_the_appraisal() {
    let written = tdx_requirements(&tdx());
    assert_eq!(written.sept_ve, SeptVe::GuestGuardsItself);
    for setting in ["septVeDisable: required", ""] {
        let text = with(&tdx(), "septVeDisable: optional", setting);
        assert_eq!(
            tdx_requirements(&text),
            tdx::Requirements {
                sept_ve: SeptVe::MustBeDisabled,
                ..written.clone()
            },
            "{setting:?}"
        );
    }
    let text = with(&tdx(), "  xfam: [00000000000642e7]\n", "");
    assert_eq!(
        tdx_requirements(&text),
        tdx::Requirements {
            xfam: tdx::Accepted::Open,
            ..written.clone()
        }
    );
    let modules = format!("  mrSeam: [{}]\n", "e5".repeat(48));
    let text = with(&tdx(), &modules, "");
    assert_eq!(
        tdx_requirements(&text),
        tdx::Requirements {
            mr_seam: tdx::Accepted::Open,
            ..written
        }
    );
}

#[test]
fn settings_of_an_snp_policy_reach_the_appraisal() {
    let plain = snp_requirements(&snp());
    assert_eq!(
        snp_requirements(&format!("{}  provisionalFirmware: true\n", snp())),
        plain.clone().allow_provisional_firmware()
    );
    assert_eq!(
        snp_requirements(&format!("{}  provisionalFirmware: false\n", snp())),
        plain
    );
    for (warn_only, id_key) in [
        (true, IdKeyDigests::Warn as fn(_) -> _),
        (false, IdKeyDigests::Enforce),
    ] {
        let keys = "c3".repeat(48);
        let text = format!(
            "{}  idKeyDigests: {{ accepted: [{keys}], warnOnly: {warn_only} }}\n",
            snp()
        );
        let document = PolicyDocument::parse("policy", &text).unwrap();
        let snp = document.snp().unwrap();
        let Some(products) = snp.products().first_key_value() else {
            panic!("a product line");
        };
        assert_eq!(products.1.mitigations, 0);
        let tcb = sev_snp::Tcb::milan_genoa(9, 0, 27, 84);
        let line = sev_snp::AcceptedLine::new(sev_snp::ProductLine::Genoa, tcb, tcb).unwrap();
        let accepted = || sev_snp::Accepted::new(vec![[0xc3; 48]]).unwrap();
        let expected = sev_snp::Requirements::new(
            sev_snp::AcceptedLines::new([line]).unwrap(),
            sev_snp::LaunchMeasurements::Enforce(accepted()),
            id_key(accepted()),
        );
        assert_eq!(snp.requirements(document.newest()), Ok(expected));
    }
}

// ---- presets

const PRESET: &str = "version: 1
name: site
about: ours
attacks:
  - id: a
    name: A
    references: []
    affects: [Milan]
    demands:
      minimumTcb: { Milan: { snp: 1 } }
";

#[test]
fn a_preset_has_bounds() {
    let is_preset = |text: &str| Preset::parse("preset", text).is_ok();
    assert!(is_preset(PRESET));
    for (name, is_name) in [
        ("n".repeat(64), true),
        ("n".repeat(65), false),
        ("N".into(), false),
    ] {
        let text = with(PRESET, "name: site", &format!("name: {name}"));
        assert_eq!(is_preset(&text), is_name, "{name}");
    }
    for (about, is_text) in [
        ("t".repeat(1000), true),
        ("t".repeat(1001), false),
        ("''".into(), false),
        ("\"a\\tb\"".into(), false),
    ] {
        let text = with(PRESET, "about: ours", &format!("about: {about}"));
        assert_eq!(is_preset(&text), is_text, "{about}");
    }
    let attacks = |count: usize| {
        let (head, one) = PRESET.split_at(PRESET.find("  - id: a").unwrap());
        let rest = one.strip_prefix("  - id: a\n").unwrap();
        let all: Vec<String> = (0..count)
            .map(|n| format!("  - id: a{n}\n{rest}"))
            .collect();
        format!("{head}{}", all.concat())
    };
    for (count, is_read) in [(255, true), (256, true), (257, false), (258, false)] {
        assert_eq!(is_preset(&attacks(count)), is_read, "{count}");
    }
    for (size, is_read) in [(64 * 1024, true), (64 * 1024 + 1, false)] {
        let mut text = PRESET.to_owned();
        while text.len() < size {
            text.push_str("# a comment\n");
        }
        text.truncate(size);
        assert_eq!(is_preset(&text), is_read, "{size}");
    }
    for version in ["version: 0", "version: 2"] {
        assert!(!is_preset(&with(PRESET, "version: 1", version)));
    }
}
