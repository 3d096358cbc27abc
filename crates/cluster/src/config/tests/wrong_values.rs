use super::problems;

#[test]
fn every_field_that_is_wrong_is_named_with_what_is_allowed() {
    let table = [
        (
            "version: v4",
            "version: v3",
            "c.yaml:2:10: version: \"v3\" is not known; allowed: v4",
        ),
        (
            "image: ref/main",
            "image: rev/main",
            "is not the name of an image; allowed: the image's name",
        ),
        (
            "image: ref/main/stream/debug/v0.",
            "image: ref/main/stream/debug/v9.",
            "does not go with this release",
        ),
        (
            "name: mini",
            "name: Mini",
            "c.yaml:8:7: name: character 'M' at position 1 is not allowed",
        ),
        (
            "name: mini",
            "name: a-name-that-is-longer-than-thirty-seven",
            "at most 37 are allowed; allowed: 1 to 37",
        ),
        (
            "name: mini",
            "name: 7",
            "c.yaml:8:7: name: the number 7 must be in quotes to be a text",
        ),
        (
            "kubernetesVersion: v1.20.2",
            "kubernetesVersion: 1.20",
            "must be in quotes to be a text; allowed: an exact version",
        ),
        (
            "kubernetesVersion: v1.20.2",
            "kubernetesVersion: v1.20",
            "kubernetesVersion: \"v1.20\" is not an exact Kubernetes version",
        ),
        (
            "kubernetesVersion: v1.20.2",
            "kubernetesVersion: v1.25.0",
            "kubernetesVersion: Kubernetes v1.25.0 is not supported",
        ),
        (
            "microserviceVersion: v0",
            "microserviceVersion: 0",
            "microserviceVersion: ",
        ),
        (
            "microserviceVersion: v0",
            "microserviceVersion: v7",
            "does not go with this release",
        ),
        (
            "debugCluster: false",
            "debugCluster: nope",
            "debugCluster: \"nope\" is not allowed here; allowed: true, false",
        ),
        (
            "debugCluster: false",
            "debugCluster: \"false\"",
            "debugCluster: \"false\" is not allowed here",
        ),
        (
            "customEndpoint: \"\"",
            "customEndpoint: a_b",
            "customEndpoint: \"a_b\" is not a DNS name; allowed: a DNS name",
        ),
        (
            "customEndpoint: \"\"",
            "internalLoadBalancer: true",
            "internalLoadBalancer: provider qemu has no load balancer",
        ),
        (
            "serviceCIDR: 10.96.0.0/12",
            "serviceCIDR: 10.96.0.0",
            "serviceCIDR: \"10.96.0.0\" is not an IPv4 network",
        ),
        (
            "serviceCIDR: 10.96.0.0/12",
            "serviceCIDR: 10.244.0.0/16",
            "overlap",
        ),
        (
            "serviceCIDR: 10.96.0.0/12",
            "tags: [a]",
            "tags: a list is not allowed here; allowed: a section of fields",
        ),
        (
            "serviceCIDR: 10.96.0.0/12",
            "tags: {a: 1}",
            "tags.a: the number 1 must be in quotes",
        ),
        (
            "  qemu:\n",
            "  aws:\n",
            "provider.aws: provider aws is not in this release; allowed: qemu",
        ),
        (
            "imageFormat: raw",
            "imageFormat: qcow2",
            "provider.qemu.imageFormat: \"qcow2\" is not known; allowed: raw",
        ),
        (
            "vcpus: 2",
            "vcpus: 0",
            "provider.qemu.vcpus: the number 0 is not allowed here; allowed: a whole number from 1 to 256",
        ),
        (
            "vcpus: 2",
            "vcpus: two",
            "provider.qemu.vcpus: \"two\" is not allowed here",
        ),
        (
            "memory: 3072",
            "memory: 64",
            "provider.qemu.memory: the number 64 is not allowed here; allowed: a whole number from 1536",
        ),
        (
            "memory: 3072",
            "memory: -1",
            "provider.qemu.memory: the number -1 is not allowed here",
        ),
        (
            "memory: 3072",
            "firmware: x.fd",
            "provider.qemu.firmware: \"x.fd\" is not absolute; allowed: an absolute path",
        ),
        (
            "memory: 3072",
            "nvram: production",
            "provider.qemu.nvram: \"production\" is not absolute",
        ),
        (
            "memory: 3072",
            "metadataAPIServer: x",
            "provider.qemu.metadataAPIServer: machines are started without libvirt; allowed: nothing: remove this field",
        ),
        (
            "memory: 3072",
            "libvirtSocket: x",
            "provider.qemu.libvirtSocket: machines are started without libvirt; allowed: nothing: remove this field",
        ),
        (
            "memory: 3072",
            "libvirtContainerImage: x",
            "provider.qemu.libvirtContainerImage: machines are started without libvirt; allowed: nothing: remove this field",
        ),
        (
            "debugCluster: false",
            "debugCluster: true",
            "debugCluster: this release has no images for debugging; allowed: false",
        ),
        (
            "role: worker",
            "role: control-plane",
            "nodeGroups.worker_default.role: group worker_default can not have the role control-plane; allowed: worker",
        ),
        (
            "role: worker",
            "role: master",
            "nodeGroups.worker_default.role: \"master\" is not a role",
        ),
        (
            "stateDiskSizeGB: 8",
            "stateDiskSizeGB: 1",
            "nodeGroups.control_plane_default.stateDiskSizeGB: the number 1",
        ),
        (
            "stateDiskSizeGB: 8",
            "stateDiskSizeGB: 8.5",
            "nodeGroups.control_plane_default.stateDiskSizeGB: the number 8.5",
        ),
        (
            "stateDiskSizeGB: 8",
            "zone: 3",
            "nodeGroups.control_plane_default.zone: the number 3 must be in quotes",
        ),
        (
            "stateDiskSizeGB: 8",
            "instanceType: []",
            "nodeGroups.control_plane_default.instanceType: a list",
        ),
        (
            "stateDiskSizeGB: 8",
            "stateDiskType: {}",
            "nodeGroups.control_plane_default.stateDiskType: a section",
        ),
        (
            "initialCount: 1",
            "initialCount: 0",
            "nodeGroups: there is no control plane; allowed: initialCount: 1",
        ),
        (
            "initialCount: 1",
            "initialCount: 10",
            "nodeGroups.control_plane_default.initialCount: the number 10",
        ),
        (
            "  worker_default:",
            "  workers!:",
            "nodeGroups.workers!: \"workers!\" can not be the name of a group",
        ),
        (
            "  qemuVTPM:",
            "  awsSEVSNP:",
            "attestation.awsSEVSNP: this release makes no clusters of variant awsSEVSNP; allowed: qemuVTPM",
        ),
        (
            "      4:\n",
            "      24:\n",
            "attestation.qemuVTPM.measurements.24: \"24\" is not a PCR; allowed: a PCR from 0 to 14",
        ),
        // a second spelling of a number would take the place of the first
        (
            "      4:\n",
            "      04:\n",
            "attestation.qemuVTPM.measurements.04: \"04\" is not a PCR",
        ),
        ("      4:\n", "      15:\n", "PCR 15 is the cluster mark"),
        (
            "expected: \"",
            "expected: \"x",
            "attestation.qemuVTPM.measurements.4.expected: expected 64 hexadecimal digits (SHA-256), got 65",
        ),
        (
            "warnOnly: false",
            "warnOnly: 0",
            "attestation.qemuVTPM.measurements.4.warnOnly: the number 0",
        ),
        (
            "- pcr: 9",
            "- pcr: 99",
            "attestation.qemuVTPM.components[0].pcr: the number 99",
        ),
        (
            "name: \"command line\"",
            "name: \"shell\"",
            "attestation.qemuVTPM.components[0].name: \"shell\" is no component",
        ),
        (
            "digest: \"",
            "digest: \"0",
            "attestation.qemuVTPM.components[0].digest: ",
        ),
    ];
    for (from, to, expected) in table {
        let problems = problems(from, to);
        assert!(
            problems.iter().any(|problem| problem.contains(expected)),
            "{to}: {problems:#?}"
        );
        assert!(
            problems
                .iter()
                .all(|problem| problem.starts_with("c.yaml:")),
            "{problems:#?}"
        );
    }
}
