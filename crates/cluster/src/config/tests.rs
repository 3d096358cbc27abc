use attest::{Digest, Measurement, PcrIndex};

use super::*;

mod wrong_values;

fn policy() -> attest::Policy {
    let measurements = attest::Policy::REQUIRED_PCRS
        .into_iter()
        .map(|pcr| {
            let expected = if matches!(pcr, 4 | 9 | 11) {
                Digest::of(&[u8::try_from(pcr).unwrap()])
            } else {
                Digest::ZERO
            };
            (PcrIndex::new(pcr).unwrap(), Measurement::enforced(expected))
        })
        .collect();
    let components = vec![attest::ComponentDigest {
        pcr: PcrIndex::new(9).unwrap(),
        name: attest::Component::CommandLine,
        digest: Digest::of(b"command line"),
    }];
    let image = format!("ref/main/stream/debug/{RELEASE}");
    attest::Policy::new(
        attest::Variant::QemuVtpm,
        Some(image),
        measurements,
        components,
    )
    .unwrap()
}

fn good() -> String {
    generate(&Choices {
        name: &ClusterName::new("mini").unwrap(),
        kubernetes_version: kubernetes::Version::new(20, 2),
        policy: &policy(),
        control_planes: 1,
        workers: 1,
        state_disk_size_gb: 8,
    })
}

/// The problems of a good file in which `from` was replaced by `to`.
fn problems(from: &str, to: &str) -> Vec<String> {
    let text = good();
    assert!(text.contains(from), "{from:?} is in the file");
    let error = Config::parse("c.yaml", &text.replacen(from, to, 1)).expect_err(to);
    error.to_string().lines().map(str::to_owned).collect()
}

#[test]
fn a_generated_file_is_read_back() {
    let config = Config::parse("c.yaml", &good()).unwrap();
    assert_eq!(config.name.as_str(), "mini");
    assert_eq!(config.kubernetes_version, kubernetes::Version::new(20, 2));
    assert_eq!(config.attestation.policy, policy());
    assert_eq!(config.service_cidr, DEFAULT_SERVICE_CIDR);
    assert_eq!(config.custom_endpoint, None);
    assert_eq!(config.provider, Provider::Qemu(QemuProvider::default()));
    assert_eq!(
        config.node_groups.initial_count(crate::Role::ControlPlane),
        1
    );
    assert_eq!(config.node_groups.initial_count(crate::Role::Worker), 1);
    assert_eq!(
        config.node_groups.state_disk_size_gb(crate::Role::Worker),
        8
    );
}

/// A good file that has every field.
fn full() -> String {
    let mut text = good();
    for (after, more) in [
        (
            "debugCluster: false\n",
            "internalLoadBalancer: false\ntags:\n  owner: me\n",
        ),
        (
            "    imageFormat: raw\n",
            "    firmware: /code.fd\n    nvram: /vars.fd\n",
        ),
        (
            "    stateDiskSizeGB: 8\n",
            "    zone: a\n    instanceType: b\n    stateDiskType: c\n",
        ),
    ] {
        assert!(text.contains(after), "{after}");
        text = text.replace(after, &format!("{after}{more}"));
    }
    text
}

#[test]
fn every_field_and_section_has_its_bad_cases() {
    let optional = [
        "customEndpoint",
        "internalLoadBalancer",
        "serviceCIDR",
        "tags",
        "provider.qemu.imageFormat",
        "provider.qemu.vcpus",
        "provider.qemu.memory",
        "provider.qemu.firmware",
        "provider.qemu.nvram",
        "nodeGroups.control_plane_default.stateDiskSizeGB",
        "nodeGroups.control_plane_default.zone",
        "nodeGroups.control_plane_default.instanceType",
        "nodeGroups.control_plane_default.stateDiskType",
        "nodeGroups.worker_default.stateDiskSizeGB",
        "nodeGroups.worker_default.zone",
        "nodeGroups.worker_default.instanceType",
        "nodeGroups.worker_default.stateDiskType",
        "attestation.qemuVTPM.components",
    ];
    let is_open = |section: &str| {
        matches!(
            section,
            "tags" | "nodeGroups" | "attestation.qemuVTPM.measurements"
        )
    };
    yaml::cases::check(&full(), &optional, is_open, |text| {
        Config::parse("c.yaml", text).err()
    });
}

#[test]
fn the_groups_and_measurements_that_must_be_there_are_named() {
    for (from, to, expected) in [
        (
            "  control_plane_default:",
            "  other:",
            "nodeGroups.control_plane_default: missing; allowed: a section with role",
        ),
        (
            "  worker_default:",
            "  other:",
            "nodeGroups.worker_default: missing; allowed: a section with role",
        ),
        ("      4:\n", "      5:\n", "PCR 4"),
    ] {
        let problems = problems(from, to);
        assert!(
            problems.iter().any(|problem| problem.contains(expected)),
            "{to}: {problems:#?}"
        );
    }
}

#[test]
fn what_has_no_effect_is_named() {
    assert_eq!(
        Config::parse("c.yaml", &full()).unwrap().without_effect(),
        [
            "tags",
            "nodeGroups.control_plane_default.zone",
            "nodeGroups.control_plane_default.instanceType",
            "nodeGroups.control_plane_default.stateDiskType",
            "nodeGroups.worker_default.zone",
            "nodeGroups.worker_default.instanceType",
            "nodeGroups.worker_default.stateDiskType",
        ]
    );
    assert_eq!(
        Config::parse("c.yaml", &good()).unwrap().without_effect(),
        [""; 0]
    );
}

#[test]
fn an_unknown_field_is_named_with_the_nearest_known_one() {
    let problems_of =
        |to: &str| problems("debugCluster: false", &format!("debugCluster: false\n{to}"));
    assert!(problems_of("kubernetsVersion: x")[0].contains("kubernetsVersion: unknown field; did you mean kubernetesVersion?; allowed: version, image, name"));
    assert!(problems_of("sshUsers: []")[0].ends_with("sshUsers: unknown field; allowed: version, image, name, kubernetesVersion, microserviceVersion, debugCluster, customEndpoint, internalLoadBalancer, serviceCIDR, tags, provider, nodeGroups, attestation"));
    let nested = problems("vcpus: 2", "vcpu: 2");
    assert!(
        nested[0].ends_with("provider.qemu.vcpu: unknown field; did you mean vcpus?; allowed: imageFormat, vcpus, memory, firmware, nvram"),
        "{nested:?}"
    );
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    let text = good()
        .replace("name: mini", "name: MINI")
        .replace("vcpus: 2", "vcpus: 0")
        .replace("debugCluster: false", "debugCluster: 1")
        .replace("role: worker", "roll: worker");
    let error = Config::parse("c.yaml", &text).unwrap_err();
    let fields: Vec<_> = error
        .list()
        .iter()
        .map(|problem| problem.field.as_str())
        .collect();
    let expected = [
        "name",
        "debugCluster",
        "provider.qemu.vcpus",
        "nodeGroups.worker_default.role",
        "nodeGroups.worker_default.roll",
    ];
    assert_eq!(fields.len(), expected.len(), "{error}");
    assert!(
        expected.iter().all(|field| fields.contains(field)),
        "{error}"
    );
    assert!(error.list().is_sorted_by_key(|problem| problem.at));
}

#[test]
fn what_is_not_yaml_is_refused_with_its_place() {
    for (text, line) in [
        ("version: v4\nname: [x\n", 2),
        ("a: 1\na: 2\n", 2),
        ("{", 1),
        ("a: *b\n", 1),
        ("a: &x 1\nb: *x\n", 1),
        ("", 1),
    ] {
        let error = Config::parse("c.yaml", text).unwrap_err();
        assert!(error.list()[0].at.line >= line, "{text:?}: {error}");
        assert!(!error.to_string().contains('\u{1b}'));
    }
    let long = "a".repeat(yaml::MAX_DOCUMENT + 1);
    assert!(
        Config::parse("c.yaml", &long)
            .unwrap_err()
            .to_string()
            .contains("at most")
    );
    let deep = "[".repeat(1000);
    assert!(Config::parse("c.yaml", &deep).is_err());
}

#[test]
fn an_empty_policy_is_refused() {
    let text = good();
    let start = text.find("    measurements:").unwrap();
    let text = format!("{}    measurements: {{}}\n", &text[..start]);
    let error = Config::parse("c.yaml", &text).unwrap_err().to_string();
    assert!(error.contains("would accept every machine"), "{error}");
}

#[test]
fn new_measurements_replace_the_old_and_nothing_else() {
    let mut text = good().replace("name: mini", "name: mine # kept");
    text.push_str("tags: {a: b}\n");
    let old = Config::parse("c.yaml", &text).unwrap();
    let measurements = old
        .attestation
        .policy
        .measurements()
        .keys()
        .map(|index| (*index, Measurement::enforced(Digest::of(b"new"))));
    let policy = attest::Policy::new(
        attest::Variant::QemuVtpm,
        Some(RELEASE.to_owned()),
        measurements.collect(),
        vec![],
    )
    .unwrap();
    let new_text = with_measurements(&text, &policy);
    assert!(new_text.contains("name: mine # kept"));
    let new = Config::parse("c.yaml", &new_text).unwrap();
    assert_eq!(
        new,
        Config {
            image: RELEASE.to_owned(),
            attestation: Attestation { policy },
            ..old
        }
    );
}
