//! `policy check` and `policy explain`: documents that are right, wrong, and soon wrong.

use crate::harness::Lab;

/// The example of `docs/attestation.md` for this kind of machine.
fn example(variant: &str) -> String {
    let document = include_str!("../../../../docs/attestation.md");
    document
        .split("```yaml\n")
        .skip(1)
        .map(|block| block.split("```").next().unwrap())
        .find(|block| block.contains(&format!("variant: {variant}\n")))
        .unwrap()
        .to_owned()
}

const SITE: &str = "version: 1\nname: site\nabout: what our operators decided\ndemands:\n  acceptedProducts: [Genoa]\n";

fn write(lab: &Lab, name: &str, text: &str) -> String {
    let path = lab.path().join(name);
    std::fs::write(&path, text).unwrap();
    name.to_owned()
}

#[test]
fn a_right_policy_is_exit_code_0_and_what_will_be_wrong_is_a_note() {
    let lab = Lab::new();
    let far = example("azure-sev-snp").replace("2026-12-31", "2999-12-31");
    let file = write(&lab, "far.yaml", &far);
    let ran = lab.run(&["policy", "check", &file]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(
        ran.stdout,
        "far.yaml: azure-sev-snp, 2 generations, presets amd-2026-10\n"
    );
    assert_eq!(
        ran.stderr,
        "note: far.yaml: this release does not let azure-sev-snp machines into a cluster\n"
    );
    let past = example("azure-sev-snp").replace("2026-12-31", "2026-01-31");
    let file = write(&lab, "past.yaml", &past);
    let ran = lab.run(&["policy", "check", &file]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stderr.contains("note: past.yaml: measurements.generations[1].expires: the older generation ended at 2026-01-31T00:00:00Z and is not accepted: remove it"),
        "{ran:?}"
    );
    let file = write(&lab, "aws.yaml", &example("aws-nitro-tpm"));
    let ran = lab.run(&["policy", "check", &file]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(
        ran.stdout,
        "aws.yaml: aws-nitro-tpm, 1 generation, no presets\n"
    );
    let ran = lab.run(&["policy", "explain", &file]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stdout.contains("    enforced: SHA-384 PCR 4, SHA-384 PCR 8, SHA-384 PCR 9, SHA-384 PCR 11, SHA-384 PCR 12, SHA-384 PCR 13\n"),
        "{ran:?}"
    );
    let file = write(&lab, "old.yaml", &example("qemu-vtpm"));
    let ran = lab.run(&["policy", "check", &file]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
    assert_eq!(
        ran.stdout,
        "old.yaml: qemu-vtpm, 1 generation, no presets\n"
    );
}

#[test]
fn a_wrong_policy_is_exit_code_4_with_every_problem_and_its_place() {
    let lab = Lab::new();
    let wrong = example("azure-sev-snp")
        .replace("presets: [amd-2026-10] ", "preset: [amd-2026-10] ")
        .replace("permitted: [smt] ", "permitted: [debug] ")
        .replace("signingKey: vcek", "signingKey: any");
    let file = write(&lab, "wrong.yaml", &wrong);
    for command in ["check", "explain"] {
        let ran = lab.run(&["policy", command, &file]);
        assert_eq!(ran.code, Some(4), "{ran:?}");
        assert_eq!(ran.stdout, "");
        let lines: Vec<&str> = ran.stderr.lines().collect();
        assert_eq!(
            lines,
            [
                "wrong.yaml:3:1: preset: unknown field; did you mean presets?; allowed: version, variant, image, components, measurements, snp, tdx, presets",
                "wrong.yaml:32:17: snp.guestPolicy.permitted[0]: debug is never accepted; allowed: smt, cxl",
                "wrong.yaml:39:15: snp.signingKey: \"any\" is no kind of key; allowed: vcek, vlek, either",
                "error: 3 problems in wrong.yaml",
                "hint: docs/attestation.md describes the document, docs/policy.schema.json its form",
            ]
        );
    }
    let ran = lab.run(&["policy", "check", "nowhere.yaml"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.stderr.contains("read nowhere.yaml"), "{ran:?}");
    let ran = lab.run(&["policy", "check"]);
    assert_eq!(ran.code, Some(2), "{ran:?}");
}

#[test]
fn what_a_policy_closes_is_explained() {
    let lab = Lab::new();
    let file = write(&lab, "policy.yaml", &example("azure-sev-snp"));
    let ran = lab.run(&["policy", "explain", &file]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(
        ran.stdout,
        include_str!("../../../attest/testdata/policy/azure-sev-snp.txt")
    );

    let json: serde_json::Value =
        serde_json::from_str(&lab.run(&["policy", "explain", &file, "-o", "json"]).stdout).unwrap();
    assert_eq!(json["variant"], "azure-sev-snp");
    assert_eq!(json["attacks"][0]["id"], "badram");
    assert_eq!(json["attacks"][0]["state"], "closed");
    assert_eq!(json["generations"][1]["expires"], "2026-12-31T00:00:00Z");
    let yaml = lab.run(&["policy", "explain", &file, "-o", "yaml"]).stdout;
    let yaml: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
    assert_eq!(yaml, json);
}

#[test]
fn what_a_preset_of_ones_own_would_change_is_told() {
    let lab = Lab::new();
    let file = write(&lab, "policy.yaml", &example("azure-sev-snp"));
    let own = write(&lab, "site.yaml", SITE);
    let explain = |more: &[&str]| {
        let arguments: Vec<&str> = ["policy", "explain", &file]
            .into_iter()
            .chain(more.iter().copied())
            .collect();
        lab.run(&arguments)
    };
    assert!(explain(&[]).stdout.contains("\n  Milan: at least "));
    let ran = explain(&["--preset", &own]);
    assert!(ran.stdout.contains("\n  Milan: not accepted\n"), "{ran:?}");
    let ran = explain(&["--preset", "amd-strict-2026-10"]);
    assert!(
        ran.stdout.contains("\n  guestPolicy: smt not permitted\n"),
        "{ran:?}"
    );

    let ran = lab.run(&["policy", "check", &file, "--preset", &own]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stderr.contains("note: policy.yaml: presets: site is given beside the document: it is looked at here only, and no cluster demands it\n"),
        "{ran:?}"
    );
    let ran = explain(&["--preset", &own, "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json["beside"], serde_json::json!(["site"]));

    let turin = write(&lab, "turin.yaml", &SITE.replace("[Genoa]", "[Turin]"));
    let ran = explain(&["--preset", &turin]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.stderr.contains("--preset turin.yaml: with these presets no machine is accepted: no product line is left"), "{ran:?}");
    let wrong = write(&lab, "bad.yaml", &SITE.replace("[Genoa]", "[Rome]"));
    let ran = lab.run(&["policy", "check", &file, "--preset", &wrong]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.stderr.contains("bad.yaml:5:22: demands.acceptedProducts[0]: \"Rome\" is no product line; allowed: Milan, Genoa, Turin"), "{ran:?}");
}

#[test]
fn the_policy_of_the_config_file_is_explained_without_a_file() {
    let lab = Lab::configured();
    let ran = lab.run(&["policy", "explain"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    assert_eq!(
        ran.stdout,
        "Policy for qemu-vtpm machines\n\nGenerations\n  image v0.1.0\n    enforced: PCR 4, PCR 8, PCR 9, PCR 11, PCR 12, PCR 13\n\nPlatform\n  nothing is demanded of the hardware\n\nKnown attacks: no preset is named\n"
    );
}
