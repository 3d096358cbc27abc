//! Policy documents and an image's measurements.
#![cfg_attr(fuzzing, no_main)]

use attest::{ImageMeasurements, Policy, Variant};

fuzz::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        drop(Policy::from_yaml(text));
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
