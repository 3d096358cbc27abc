//! Files that are wrong, and commands that are.

use crate::harness::Lab;

#[test]
fn a_generated_config_is_accepted_and_never_overwritten() {
    let lab = Lab::configured();
    let ran = lab.run(&["config", "check"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(
        ran.stdout,
        "cluster mini: 1 control plane(s), 1 worker(s), 2 vCPUs and 3072 MiB each, Kubernetes v1.20.2, image v0.1.0\n"
    );
    let again = lab.run(&[
        "config",
        "generate",
        "qemu",
        "--image-dir",
        lab.image_dir().to_str().unwrap(),
    ]);
    assert_eq!(again.code, Some(4), "{again:?}");
    assert!(again.stderr.contains("is there already"), "{again:?}");
}

#[test]
fn a_wrong_config_gives_every_problem_with_its_place_and_exit_code_4() {
    let lab = Lab::configured();
    let text = std::fs::read_to_string(lab.file("constellation-conf.yaml")).unwrap();
    let text = text
        .replace("name: mini", "name: Mini")
        .replace("vcpus: 2", "vcpu: 2")
        .replace("debugCluster: false", "debugCluster: \"no\"");
    std::fs::write(lab.file("constellation-conf.yaml"), text).unwrap();
    for arguments in [
        &["config", "check"][..],
        &["verify"],
        &["apply"],
        &["status"],
        &["mini", "up", "--image-dir", "image"],
    ] {
        let ran = lab.run(arguments);
        assert_eq!(ran.code, Some(4), "{arguments:?}: {ran:?}");
        assert_eq!(ran.stdout, "");
        let lines: Vec<_> = ran.stderr.lines().collect();
        assert_eq!(
            lines,
            [
                "constellation-conf.yaml:8:7: name: character 'M' at position 1 is not allowed: use a-z, 0-9 and '-' inside, beginning and ending with a letter or digit; allowed: 1 to 37 of a-z, 0-9 and '-'",
                "constellation-conf.yaml:17:15: debugCluster: \"no\" is not allowed here; allowed: true, false",
                "constellation-conf.yaml:30:5: provider.qemu.vcpu: unknown field; did you mean vcpus?; allowed: imageFormat, vcpus, memory, firmware, nvram",
                "error: 3 problems in constellation-conf.yaml",
            ],
            "{arguments:?}"
        );
    }
}

#[test]
fn missing_files_say_how_they_are_made() {
    let lab = Lab::new();
    for (arguments, words) in [
        (
            &["config", "check"][..],
            "`constellation config generate qemu` writes one",
        ),
        (
            &["verify"],
            "`constellation config generate qemu` writes one",
        ),
        (
            &["config", "generate", "qemu", "--image-dir", "/nowhere"],
            "`cargo xtask image` builds one",
        ),
        (
            &["mini", "up", "--image-dir", "/nowhere"],
            "`cargo xtask image` builds one",
        ),
    ] {
        let ran = lab.run(arguments);
        assert_eq!(ran.code, Some(4), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(words), "{arguments:?}: {ran:?}");
    }
    let mut command = std::process::Command::new(Lab::binary());
    let ran: crate::harness::Ran = command
        .args(["-C", "/nowhere", "status"])
        .output()
        .unwrap()
        .into();
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(
        ran.stderr.contains("open the workspace /nowhere"),
        "{ran:?}"
    );
    let lab = Lab::configured();
    for (arguments, words) in [
        (
            &["verify"][..],
            "constellation-state.yaml names no cluster yet",
        ),
        (
            &["status"],
            "`constellation mini up` or `constellation apply` makes a cluster",
        ),
        (
            &["apply"],
            "constellation-state.yaml says nothing about the machines",
        ),
    ] {
        let ran = lab.run(arguments);
        assert_eq!(ran.code, Some(4), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(words), "{arguments:?}: {ran:?}");
    }
}

#[test]
fn a_wrong_state_file_is_told_without_its_secret() {
    let lab = Lab::configured();
    let secret = "11223344556677889900aabbccddeeff";
    std::fs::write(
        lab.file("constellation-state.yaml"),
        format!(
            "version: v1\ninfrastructure:\n  clusterEndpoint: a:1\n  initSecret: \"{secret}xx\"\n"
        ),
    )
    .unwrap();
    let ran = lab.run(&["apply"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(
        ran.stderr
            .contains("constellation-state.yaml:3:20: infrastructure.clusterEndpoint: "),
        "{ran:?}"
    );
    assert!(
        ran.stderr
            .contains("constellation-state.yaml:4:15: infrastructure.initSecret: not hexadecimal"),
        "{ran:?}"
    );
    assert!(!ran.stderr.contains("11223344"), "{ran:?}");
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let lab = Lab::configured();
    std::fs::write(
        lab.file("constellation-state.yaml"),
        format!(
            "version: v1\nclusterValues:\n  clusterID: \"{0}\"\n  measurementSalt: \"{0}\"\n",
            "ab".repeat(32)
        ),
    )
    .unwrap();
    for arguments in [
        &["frobnicate"][..],
        &["mini", "up", "--nodes", "3"],
        &["config", "generate", "mars"],
        &["verify", "-e", "http://x"],
        &["verify", "--cluster-id", "x"],
        &["verify", "-o", "xml"],
        &[],
    ] {
        let ran = lab.run(arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {ran:?}");
        assert_eq!(ran.stdout, "");
    }
}

#[test]
fn another_image_is_refused_until_its_measurements_are_fetched() {
    let lab = Lab::configured();
    let other = testkit::boot::Image {
        initrd: b"another initrd".to_vec(),
        ..lab.image.clone()
    };
    let measurements = serde_json::to_vec(&other.measurements()).unwrap();
    std::fs::write(lab.image_dir().join("measurements.json"), measurements).unwrap();
    let up: Vec<_> = lab.up();
    let up: Vec<_> = up.iter().map(String::as_str).collect();
    let ran = lab.run(&up);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(
        ran.stderr
            .contains("is not the one constellation-conf.yaml accepts (differs in PCR"),
        "{ran:?}"
    );
    assert!(
        !lab.file("constellation-mini").exists() && !lab.file("constellation-state.yaml").exists()
    );

    let fetched = lab.run(&[
        "config",
        "fetch-measurements",
        "--image-dir",
        lab.image_dir().to_str().unwrap(),
    ]);
    assert_eq!(fetched.code, Some(0), "{fetched:?}");
    assert_eq!(lab.run(&["config", "check"]).code, Some(0));
    let text = std::fs::read_to_string(lab.file("constellation-conf.yaml")).unwrap();
    assert!(
        text.contains(
            &other
                .pcrs()
                .get(attest::PcrIndex::new(9).unwrap())
                .to_string()
        ),
        "{text}"
    );
}

#[test]
fn an_image_of_another_name_is_refused() {
    let lab = Lab::configured();
    lab.change_config("image: v0.1.0", "image: v0.1.9");
    let up = lab.up();
    let up: Vec<_> = up.iter().map(String::as_str).collect();
    let ran = lab.run(&up);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(
        ran.stderr
            .contains("is called v0.1.0, and constellation-conf.yaml says image: v0.1.9"),
        "{ran:?}"
    );
    assert!(!lab.file("constellation-mini").exists());
}

#[test]
fn fields_without_effect_are_noted() {
    let lab = Lab::configured();
    lab.change_config(
        "    role: worker\n",
        "    role: worker\n    zone: eu-central-1a\n",
    );
    let ran = lab.run(&["config", "check"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(
        ran.stderr,
        "note: constellation-conf.yaml: nodeGroups.worker_default.zone has no effect with provider qemu\n"
    );
}

#[test]
fn the_number_of_control_planes_is_the_configs() {
    let lab = Lab::configured();
    let up = |count: &str| {
        let mut up = lab.up();
        up.extend(["--control-planes".to_owned(), count.to_owned()]);
        lab.run(&up.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let ran = up("3");
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(
        ran.stderr.contains(
            "--control-planes 3 was given, and constellation-conf.yaml says initialCount: 1"
        ),
        "{ran:?}"
    );
    lab.change_config(
        "    initialCount: 1\n  worker",
        "    initialCount: 9\n  worker",
    );
    let ran = up("9");
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(ran.stderr.contains("allowed: 1 to 7"), "{ran:?}");
}

#[test]
fn completions_and_man_pages_name_every_command() {
    let lab = Lab::new();
    for shell in ["bash", "zsh", "fish"] {
        let ran = lab.run(&["completion", shell]);
        assert_eq!(ran.code, Some(0));
        for word in ["mini", "verify", "apply", "fetch-measurements", "evidence"] {
            assert!(ran.stdout.contains(word), "{shell}: {word}");
        }
    }
    let ran = lab.run(&["man", "pages"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let page = std::fs::read_to_string(lab.path().join("pages/constellation-mini-up.1")).unwrap();
    assert!(page.contains("image\\-dir"), "{page}");
    let page = lab.path().join("pages/constellation-evidence-verify.1");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("azure\\-snp\\-vtpm"), "{page}");
    let json: serde_json::Value =
        serde_json::from_str(&lab.run(&["version", "-o", "json"]).stdout).unwrap();
    assert_eq!(json["version"], cluster::config::RELEASE);
}
