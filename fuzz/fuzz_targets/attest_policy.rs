//! Policy documents, presets, and an image's measurements.
#![cfg_attr(fuzzing, no_main)]

use attest::policy::explain::explain;
use attest::policy::{Policy, Preset};
use attest::{ImageMeasurements, PolicyDocument, Variant};

fuzz::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(Policy::from_yaml(text));
        match PolicyDocument::parse("f", text) {
            Ok(document) => judge(document, text),
            Err(problems) => assert!(!problems.list().is_empty(), "a refusal without a reason"),
        }
    }
    if let Ok(policy) = Policy::from_json(bytes) {
        for (index, measurement) in policy.measurements() {
            assert!(
                !matches!(index.number(), 4 | 9 | 11) || !measurement.warn_only,
                "a policy demands every part of the code"
            );
        }
        let again = Policy::from_json(policy.to_json().as_bytes());
        assert_eq!(
            again.ok().as_ref(),
            Some(&policy),
            "what is written can be read"
        );
    }
    if let Ok(image) = ImageMeasurements::from_json(bytes) {
        drop(Policy::from_image_measurements(
            &image,
            "qemu",
            Variant::QemuVtpm,
        ));
    }
});

/// What holds of every policy.
fn judge(document: PolicyDocument, text: &str) {
    // nothing was put beside it, so it can be handed on
    let written = document.to_json().expect("a document that was read");
    let again = PolicyDocument::parse("f", &written);
    assert_eq!(
        again.ok().as_ref(),
        Some(&document),
        "what is written can be read"
    );
    drop(explain(&document));
    let generations = std::iter::once(document.newest()).chain(document.older());
    for (place, generation) in generations.enumerate() {
        assert_eq!(
            generation.expires().is_some(),
            place == 1,
            "the older one ends"
        );
        if let Some(snp) = document.snp() {
            snp.requirements(generation)
                .expect("a policy can be demanded");
        }
        if let Some(tdx) = document.tdx() {
            assert!(!tdx.requirements(generation).statuses.is_empty());
        }
    }
    // a preset in the same bytes is unlikely, and one of this release only adds
    if let Ok(preset) = Preset::parse("f", text) {
        drop(document.clone().with_preset(preset));
    }
    for name in Preset::names() {
        let preset = Preset::built_in(name).expect("is read");
        let (Some(before), Ok(after)) = (document.snp(), document.clone().with_preset(preset))
        else {
            continue;
        };
        let after = after.snp().expect("still of the same kind");
        assert!(
            after
                .products()
                .keys()
                .all(|line| before.products().contains_key(line))
        );
    }
}
