//! Writes a new config file, with a line of explanation for each field.

use std::fmt::Write;

use attest::{Measurement, Policy};

use crate::kubernetes;
use crate::name::ClusterName;
use crate::role::Role;

use super::{Config, NodeGroups, Provider, QemuProvider, RELEASE, VERSION};

/// What a new config file says. The rest are the defaults.
#[derive(Debug, Clone)]
pub struct Choices<'a> {
    /// The cluster's name.
    pub name: &'a ClusterName,
    /// The release of Kubernetes.
    pub kubernetes_version: kubernetes::Version,
    /// What the image's machines are accepted by; names the image.
    pub policy: &'a Policy,
    /// Control planes.
    pub control_planes: u32,
    /// Workers.
    pub workers: u32,
    /// Size of the state disks.
    pub state_disk_size_gb: u32,
}

/// The text of a new config file for QEMU machines on this host.
pub fn generate(choices: &Choices<'_>) -> String {
    let Choices {
        name,
        kubernetes_version,
        policy,
        control_planes,
        workers,
        state_disk_size_gb,
    } = choices;
    let QemuProvider {
        vcpus, memory_mib, ..
    } = QemuProvider::default();
    let image = policy.image_name().unwrap_or_default();
    let measurements = measurements(policy);
    format!(
        r#"# The config of a Constellation cluster. Every field is checked; an unknown one is an error.
version: {VERSION}

# The image every machine boots. Its measurements are below, under attestation.
image: {image}

# 1 to 37 characters: a-z, 0-9 and '-'.
name: {name}

# An exact release of Kubernetes.
kubernetesVersion: {kubernetes_version}

# The release of the cluster's own services.
microserviceVersion: {RELEASE}

# This release has no images for debugging.
debugCluster: false

# A DNS name under which the API server is reached, besides its address. May be empty.
customEndpoint: ""

# Addresses of services. Must not overlap 10.244.0.0/16 (pods) or 10.45.0.0/16 (nodes).
serviceCIDR: 10.96.0.0/12

# Exactly one provider.
provider:
  qemu:
    imageFormat: raw
    # Virtual processors and memory (MiB) of each machine.
    vcpus: {vcpus}
    memory: {memory_mib}

nodeGroups:
  control_plane_default:
    role: control-plane
    stateDiskSizeGB: {state_disk_size_gb}
    # An even number survives the loss of no more than the odd one below it.
    initialCount: {control_planes}
  worker_default:
    role: worker
    stateDiskSizeGB: {state_disk_size_gb}
    initialCount: {workers}

# What a machine must have booted to be part of the cluster. `constellation config fetch-measurements` rewrites this
# section for another image. qemuVTPM is a TPM in software: it is no protection against the host it runs on.
attestation:
  qemuVTPM:
{measurements}"#
    )
}

/// `measurements` and `components`, indented to stand under the variant.
fn measurements(policy: &Policy) -> String {
    let mut text = String::from("    measurements:\n");
    for (
        index,
        Measurement {
            expected,
            warn_only,
        },
    ) in policy.measurements()
    {
        // writing to a String can not fail
        writeln!(
            text,
            "      {index}:\n        expected: \"{expected}\"\n        warnOnly: {warn_only}"
        )
        .ok();
    }
    if !policy.components().is_empty() {
        text.push_str("    # The parts behind the values: they only let a refusal name the part that differs.\n    components:\n");
        for component in policy.components() {
            writeln!(
                text,
                "      - pcr: {}\n        name: \"{}\"\n        digest: \"{}\"",
                component.pcr, component.name, component.digest
            )
            .ok();
        }
    }
    text
}

/// A config file's text with `image` and `attestation` replaced by what `policy` says, and everything else as it was,
/// comments included. Both are top-level fields, which a checked file has exactly once and at the beginning of a line.
pub fn with_measurements(text: &str, policy: &Policy) -> String {
    let mut out = String::with_capacity(text.len());
    let mut skipping = false;
    for line in text.lines() {
        let top_level =
            line.starts_with(|c: char| c.is_ascii_alphabetic() || c == '"' || c == '\'');
        if top_level {
            skipping = false;
        }
        // comments and empty lines after the section belong to what follows only when something does
        if skipping {
            continue;
        }
        let key = line
            .split(':')
            .next()
            .unwrap_or_default()
            .trim_matches(['"', '\'']);
        match key {
            "image" if top_level => {
                writeln!(out, "image: {}", policy.image_name().unwrap_or_default()).ok();
            }
            "attestation" if top_level => {
                writeln!(
                    out,
                    "attestation:\n  qemuVTPM:\n{}",
                    measurements(policy).trim_end()
                )
                .ok();
                skipping = true;
            }
            _ => {
                writeln!(out, "{line}").ok();
            }
        }
    }
    out
}

impl Config {
    /// One line for people: what the file asks for.
    pub fn summary(&self) -> String {
        let Self {
            name,
            kubernetes_version,
            image,
            node_groups,
            provider,
            ..
        } = self;
        let Provider::Qemu(QemuProvider {
            vcpus, memory_mib, ..
        }) = provider;
        let count = |groups: &NodeGroups, role| groups.initial_count(role);
        format!(
            "cluster {name}: {} control plane(s), {} worker(s), {vcpus} vCPUs and {memory_mib} MiB each, Kubernetes {kubernetes_version}, image {image}",
            count(node_groups, Role::ControlPlane),
            count(node_groups, Role::Worker),
        )
    }
}
