//! What a refused machine says about itself reaches a person's terminal: bounded, and with nothing in it that a terminal
//! obeys.

use attest::event_log::event_type;
use attest::{ClusterMark, Digest, Evidence, Refusal, Variant};
use testkit::appraise;
use testkit::boot::Image;
use testkit::tee::SoftTpm;

use crate::{binding, verdict};

/// Clears the screen and prints what a person hopes for.
const FORGERY: &str = "\u{1b}[2J\u{1b}[H✓_accepted:_qemu-vtpm\u{9b}8m";
/// Bytes of a whole verdict, as a tree or as JSON.
const MAX_VERDICT: usize = 32 * 1024;

fn is_harmless(refusal: &Refusal) {
    let json = serde_json::to_string_pretty(refusal).unwrap();
    for shown in [refusal.to_string(), refusal.summary(), json] {
        let obeyed = shown.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(obeyed, None, "{shown:?}");
        assert!(shown.len() < MAX_VERDICT, "{} bytes", shown.len());
    }
}

fn refusal_of_bytes(bytes: Vec<u8>) -> Refusal {
    let evidence = Evidence::new(Variant::QemuVtpm, bytes).unwrap();
    let policy = Image::default().policy();
    appraise(&evidence, &binding(), &policy, &ClusterMark::NotJoined).unwrap_err()
}

#[test]
fn the_name_of_an_unknown_field_cannot_steer_a_terminal() {
    for name in [FORGERY.to_owned(), FORGERY.repeat(5_000)] {
        let refusal = refusal_of_bytes(serde_json::json!({ name: 0 }).to_string().into_bytes());
        is_harmless(&refusal);
        assert!(refusal.to_string().contains("\\u{1b}[2J"), "{refusal}");
    }
}

#[test]
fn a_measured_root_hash_cannot_steer_a_terminal() {
    let with_options = |root: &str| Image {
        options: format!("console=ttyS0 roothash={root}"),
        ..Image::default()
    };
    // the root hash is looked for in the policy's command line: there both tokens are the demanded one
    let demanded = with_options(&Image::default().root_hash.to_string());
    for root in [FORGERY.to_owned(), FORGERY.repeat(90)] {
        let booted = SoftTpm::boot(&with_options(&root));
        let refusal = verdict(&booted.document(&binding()), &demanded.policy()).unwrap_err();
        is_harmless(&refusal);
        let tree = refusal.to_string();
        assert!(tree.contains("only the root hash"), "{tree}");
        assert!(tree.contains("found    \\u{1b}[2J"), "{tree}");
    }
}

#[test]
fn a_command_line_is_shown_up_to_a_bound() {
    let image = Image::default();
    let booted = Image {
        options: "x".repeat(3_000),
        ..image.clone()
    };
    let document = SoftTpm::boot(&booted).document(&binding());
    let refusal = verdict(&document, &image.policy()).unwrap_err();
    is_harmless(&refusal);
    assert!(refusal.to_string().contains("xxx…"), "{refusal}");
}

#[test]
fn thousands_of_measurements_are_counted_and_not_listed() {
    let image = Image::default();
    let extra = (0..2_000_u32)
        .map(|n| {
            (
                12,
                event_type::IPL,
                Vec::new(),
                Digest::of(&n.to_be_bytes()),
            )
        })
        .collect();
    let booted = Image {
        extra,
        ..image.clone()
    };
    let document = SoftTpm::boot(&booted).document(&binding());
    let refusal = verdict(&document, &image.policy()).unwrap_err();
    is_harmless(&refusal);
    let check = refusal.failed().next().unwrap();
    assert_eq!(check.differences.len(), 16);
    assert!(
        refusal
            .to_string()
            .contains("and 1984 more that are not listed"),
        "{refusal}"
    );
}
