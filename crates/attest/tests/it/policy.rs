//! A policy that says nothing, or two things, cannot be made.

use attest::{Digest, ImageMeasurements, Measurement, PcrIndex, Policy, PolicyError, Variant};
use testkit::boot::Image;

fn pcr(number: u32) -> PcrIndex {
    PcrIndex::new(number).unwrap()
}

fn json(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
    let mut json = serde_json::from_str(&Image::default().policy().to_json()).unwrap();
    change(&mut json);
    serde_json::to_vec(&json).unwrap()
}

/// An error with what caused it.
fn whole(error: &dyn std::error::Error) -> String {
    let source = error.source().map(|source| format!(": {}", whole(source)));
    format!("{error}{}", source.unwrap_or_default())
}

/// The values of an object, in order, without their names.
fn as_array(object: &mut serde_json::Value) {
    *object = object.as_object().unwrap().values().cloned().collect();
}

#[test]
fn documents_round_trip() {
    let policy = Image::default().policy();
    assert_eq!(
        Policy::from_json(policy.to_json().as_bytes()).unwrap(),
        policy
    );
    // JSON is YAML
    assert_eq!(Policy::from_yaml(&policy.to_json()).unwrap(), policy);
}

#[test]
fn yaml_as_a_person_writes_it() {
    let pcrs = Image::default().pcrs();
    let mut yaml =
        String::from("# the test image\nversion: 1\nvariant: qemu-vtpm\nmeasurements:\n");
    for number in Policy::REQUIRED_PCRS {
        let value = pcrs.get(pcr(number));
        yaml.push_str(&format!(
            "  {number}:\n    expected: {value}\n    warnOnly: false\n"
        ));
    }
    let policy = Policy::from_yaml(&yaml).unwrap();
    assert_eq!(
        policy.measurements(),
        Image::default().policy().measurements()
    );
    assert_eq!(policy.image_name(), None);
    let twice = format!(
        "{yaml}  4:\n    expected: {}\n    warnOnly: true\n",
        Digest::ZERO
    );
    assert!(matches!(
        Policy::from_yaml(&twice),
        Err(PolicyError::Document(_))
    ));
}

#[test]
fn empty_and_ambiguous_documents_are_errors() {
    let zero = Digest::ZERO.to_string();
    type Row = (&'static str, Vec<u8>, &'static str);
    let rows: Vec<Row> = vec![
        (
            "no measurements",
            json(|j| j["measurements"] = serde_json::json!({})),
            "would accept every machine",
        ),
        (
            "no measurements field",
            json(|j| {
                j.as_object_mut().unwrap().remove("measurements");
            }),
            "measurements: missing",
        ),
        (
            "no version",
            json(|j| {
                j.as_object_mut().unwrap().remove("version");
            }),
            "version: missing",
        ),
        (
            "another version",
            json(|j| j["version"] = 3.into()),
            "version: the number 3 is not allowed here; allowed: a whole number from 1 to 2",
        ),
        (
            "no variant",
            json(|j| {
                j.as_object_mut().unwrap().remove("variant");
            }),
            "variant: missing",
        ),
        (
            "a variant that version 1 does not know",
            json(|j| j["variant"] = "sev-snp".into()),
            "variant: sev-snp needs version 2",
        ),
        (
            "an unknown field",
            json(|j| j["measurments"] = 1.into()),
            "measurments: unknown field; did you mean measurements?",
        ),
        (
            "an unknown field in a measurement",
            json(|j| j["measurements"]["4"]["warn"] = true.into()),
            "measurements.4.warn: unknown field",
        ),
        (
            "no warnOnly",
            json(|j| {
                j["measurements"]["4"]
                    .as_object_mut()
                    .unwrap()
                    .remove("warnOnly");
            }),
            "measurements.4.warnOnly: missing",
        ),
        (
            "a PCR left open",
            json(|j| {
                j["measurements"].as_object_mut().unwrap().remove("12");
            }),
            "says nothing about PCR 12",
        ),
        (
            "only a warning about the kernel",
            json(|j| j["measurements"]["4"]["warnOnly"] = true.into()),
            "only warns about PCR 4, so other code would be accepted",
        ),
        (
            "only a warning about the initrd",
            json(|j| j["measurements"]["9"]["warnOnly"] = true.into()),
            "only warns about PCR 9, so other code would be accepted",
        ),
        (
            "only a warning about the UKI's sections",
            json(|j| j["measurements"]["11"]["warnOnly"] = true.into()),
            "only warns about PCR 11, so other code would be accepted",
        ),
        (
            "no kernel",
            json(|j| j["measurements"]["4"]["expected"] = zero.as_str().into()),
            "expected value of PCR 4 is zero",
        ),
        (
            "no initrd",
            json(|j| j["measurements"]["9"]["expected"] = zero.as_str().into()),
            "expected value of PCR 9 is zero",
        ),
        (
            "no UKI",
            json(|j| j["measurements"]["11"]["expected"] = zero.as_str().into()),
            "expected value of PCR 11 is zero",
        ),
        (
            "an array for the document",
            json(as_array),
            "a list is not allowed here; allowed: a section of fields",
        ),
        (
            "an array for a measurement",
            json(|j| as_array(&mut j["measurements"]["4"])),
            "measurements.4: a list is not allowed here",
        ),
        (
            "an array for a component",
            json(|j| as_array(&mut j["components"][0])),
            "components[0]: a list is not allowed here",
        ),
        (
            "null for the image",
            json(|j| j["image"] = serde_json::Value::Null),
            "image: nothing is not allowed here",
        ),
        (
            "the cluster mark",
            json(|j| {
                j["measurements"]["15"] = serde_json::json!({"expected": zero, "warnOnly": false})
            }),
            "PCR 15 is the cluster mark",
        ),
        (
            "a resettable PCR",
            json(|j| {
                j["measurements"]["16"] = serde_json::json!({"expected": zero, "warnOnly": false})
            }),
            "PCR 16 can be reset",
        ),
        (
            "the last resettable PCR",
            json(|j| {
                j["measurements"]["23"] = serde_json::json!({"expected": zero, "warnOnly": false})
            }),
            "PCR 23 can be reset",
        ),
        (
            "no such PCR",
            json(|j| {
                j["measurements"]["24"] = serde_json::json!({"expected": zero, "warnOnly": false})
            }),
            "measurements.24: \"24\" is not a PCR",
        ),
        (
            "a PCR in another spelling",
            json(|j| {
                j["measurements"]["04"] = serde_json::json!({"expected": zero, "warnOnly": false})
            }),
            "measurements.04: \"04\" is not a PCR",
        ),
        (
            "a short value",
            json(|j| j["measurements"]["4"]["expected"] = "00".into()),
            "measurements.4.expected: expected 64 hexadecimal digits (SHA-256), got 2 characters",
        ),
        (
            "a SHA-384 value",
            json(|j| j["measurements"]["4"]["expected"] = "00".repeat(48).into()),
            "measurements.4.expected: expected 64 hexadecimal digits (SHA-256), got 96 characters",
        ),
        (
            "a placeholder",
            json(|j| j["measurements"]["4"]["expected"] = "1234".repeat(16).into()),
            "is a placeholder",
        ),
        (
            "an unknown component",
            json(|j| j["components"][0]["name"] = "bios".into()),
            "components[0].name: \"bios\" is no component",
        ),
        (
            "a component elsewhere",
            json(|j| j["components"][0]["pcr"] = 3.into()),
            "for which the policy has no value",
        ),
        (
            "an image without a name",
            json(|j| j["image"] = "".into()),
            "image name",
        ),
        (
            "an image with control characters",
            json(|j| j["image"] = "v1\u{1b}[2J".into()),
            "image name",
        ),
        (
            "too many components",
            json(|j| {
                let c = j["components"][0].clone();
                j["components"] = vec![c; 129].into();
            }),
            "components: 129 components are listed",
        ),
        (
            "too long",
            [b" ".repeat(64 * 1024), b"{}".to_vec()].concat(),
            "more than",
        ),
        ("nothing", Vec::new(), "cannot read"),
    ];
    for (what, document, message) in rows {
        let error = Policy::from_json(&document).expect_err(what);
        let text = whole(&error);
        assert!(text.contains(message), "{what}: {text}");
    }
}

#[test]
fn a_key_given_twice_is_an_error() {
    let text = String::from_utf8(json(|_| ())).unwrap();
    let twice = text.replacen("\"12\":", "\"13\":", 1);
    assert_ne!(text, twice);
    let error = whole(&Policy::from_json(twice.as_bytes()).unwrap_err());
    assert!(error.contains("duplicate mapping key: 13"), "{error}");
}

#[test]
fn an_image_gives_a_policy_for_what_it_was_built_for() {
    let image = Image::default();
    let mut measurements = image.measurements();
    let json = serde_json::to_vec(&measurements).unwrap();
    assert_eq!(ImageMeasurements::from_json(&json).unwrap(), measurements);
    let none = Policy::from_image_measurements(&measurements, "openstack", Variant::QemuVtpm);
    assert!(matches!(none, Err(PolicyError::NoSuchEntry { .. })));

    // the original's files list PCR 15 as zero: the channel decides about it, not the file
    measurements.list[0]
        .measurements
        .insert(PcrIndex::CLUSTER_MARK, Measurement::enforced(Digest::ZERO));
    let policy = Policy::from_image_measurements(&measurements, "qemu", Variant::QemuVtpm).unwrap();
    assert_eq!(policy, image.policy());

    // two answers to one question
    let entry = measurements.list[0].clone();
    measurements.list.push(entry);
    assert!(Policy::from_image_measurements(&measurements, "qemu", Variant::QemuVtpm).is_err());
}

#[test]
fn measurements_of_an_image_are_objects() {
    let measurements = serde_json::to_value(Image::default().measurements()).unwrap();
    let mut entry = measurements.clone();
    as_array(&mut entry["list"][0]);
    let mut whole = measurements;
    as_array(&mut whole);
    for json in [entry, whole] {
        let read = ImageMeasurements::from_json(json.to_string().as_bytes());
        assert!(read.is_err(), "{json}");
    }
}

#[test]
fn image_names_are_short_paths() {
    let mut image = Image::default().measurements();
    assert_eq!(image.name(), "v0.1.0");
    image.stream = "debug".into();
    assert_eq!(image.name(), "stream/debug/v0.1.0");
    image.reference = "main".into();
    assert_eq!(image.name(), "ref/main/stream/debug/v0.1.0");
}

/// The original's file, without our components.
#[test]
fn measurements_of_the_original_can_be_read() {
    let json = r#"{"version":"v2.25.0-pre","ref":"main","stream":"nightly","list":[{"csp":"qemu","attestationVariant":"qemu-vtpm","measurements":{
        "4":{"expected":"5198fd549fc9f44a49168b788f58e366af624866647dbe7e917388a0b1673c1d","warnOnly":false},
        "8":{"expected":"0000000000000000000000000000000000000000000000000000000000000000","warnOnly":false},
        "9":{"expected":"2dee5d9c597a9098821e73214b9347b8e5e448c09ebd3375143855be72e33058","warnOnly":false},
        "11":{"expected":"db794e9bc200e22550514674ca3494119b00b2db74ffe2f7c970bf6bf5bc1cae","warnOnly":false},
        "12":{"expected":"0000000000000000000000000000000000000000000000000000000000000000","warnOnly":false},
        "13":{"expected":"0000000000000000000000000000000000000000000000000000000000000000","warnOnly":false},
        "15":{"expected":"0000000000000000000000000000000000000000000000000000000000000000","warnOnly":false}}}]}"#;
    let image = ImageMeasurements::from_json(json.as_bytes()).unwrap();
    let policy = Policy::from_image_measurements(&image, "qemu", Variant::QemuVtpm).unwrap();
    assert_eq!(policy.measurements().len(), 6);
}

/// A reader that keeps the last of two values lets a file say one thing and mean another.
#[test]
fn measurements_of_an_image_say_nothing_twice() {
    let digest = "5198fd549fc9f44a49168b788f58e366af624866647dbe7e917388a0b1673c1d";
    let file = |keys: &[u32]| {
        let pcrs: Vec<String> = keys
            .iter()
            .map(|pcr| format!(r#""{pcr}":{{"expected":"{digest}","warnOnly":false}}"#))
            .collect();
        let json = format!(
            r#"{{"version":"v1","ref":"-","stream":"stable","list":[{{"csp":"qemu","attestationVariant":"qemu-vtpm","measurements":{{{}}}}}]}}"#,
            pcrs.join(",")
        );
        ImageMeasurements::from_json(json.as_bytes()).is_ok()
    };
    assert!(file(&[4, 9]));
    assert!(!file(&[4, 9, 4]));
}

#[test]
fn a_file_of_measurements_has_a_bound() {
    const MAX_FILE: usize = 256 * 1024;
    let json = serde_json::to_string(&Image::default().measurements()).unwrap();
    for (size, is_read) in [
        (MAX_FILE - 1, true),
        (MAX_FILE, true),
        (MAX_FILE + 1, false),
    ] {
        let mut file = json.clone().into_bytes();
        file.resize(size, b' ');
        assert_eq!(
            ImageMeasurements::from_json(&file).is_ok(),
            is_read,
            "{size}"
        );
    }
}
