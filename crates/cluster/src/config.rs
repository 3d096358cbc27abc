//! The config file, `constellation-conf.yaml`, version v4 as the original's.
//!
//! Strict: an unknown field, a wrong type, a missing choice is an error with its place and what is allowed, and all of
//! them are reported at once. Reading the file is the caller's matter. Facts: constellation-facts.md 14.4.

mod attestation;
mod generate;
mod node_groups;
mod provider;

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use crate::kubernetes;
use crate::name::ClusterName;
use crate::network::{AddressPlan, DEFAULT_POD_CIDR, DEFAULT_SERVICE_CIDR};
use crate::yaml::{self, Section, Value};

pub use crate::yaml::{Position, Problem, Problems};
pub use attestation::{Attestation, CLUSTER_VARIANT};
pub use generate::{Choices, generate, with_measurements};
pub use node_groups::{CONTROL_PLANE_DEFAULT, NodeGroup, NodeGroups, WORKER_DEFAULT};
pub use provider::{Provider, QemuProvider};

/// The version of the format.
pub const VERSION: &str = "v4";
/// The usual name of the file.
pub const FILE_NAME: &str = "constellation-conf.yaml";
/// This release, as images and services name it.
pub const RELEASE: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// The whole file, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The image the machines run: `v0.1.0`, or `ref/<ref>/stream/<stream>/v0.1.0`.
    pub image: String,
    /// The cluster's name.
    pub name: ClusterName,
    /// The release of Kubernetes.
    pub kubernetes_version: kubernetes::Version,
    /// The release of the cluster's own services.
    pub microservice_version: semver::Version,
    /// A DNS name under which the API server is reached, besides its address.
    pub custom_endpoint: Option<String>,
    /// The addresses of services.
    pub service_cidr: Ipv4Net,
    /// Tags for the provider's resources.
    pub tags: BTreeMap<String, String>,
    /// Where the machines run.
    pub provider: Provider,
    /// The groups of machines.
    pub node_groups: NodeGroups,
    /// What the machines must have booted.
    pub attestation: Attestation,
}

impl Config {
    /// Reads the text of a config file; `file` is its name for messages.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        yaml::document(file, text, read)
    }

    /// The fields that are set and that nothing looks at: other providers have what they are about.
    pub fn without_effect(&self) -> Vec<String> {
        let tags = (!self.tags.is_empty()).then(|| "tags".to_owned());
        let of_group = |(name, group): (&str, &NodeGroup)| {
            let fields = [
                ("zone", &group.zone),
                ("instanceType", &group.instance_type),
                ("stateDiskType", &group.state_disk_type),
            ];
            fields
                .into_iter()
                .filter(|(_, value)| value.is_some())
                .map(|(field, _)| format!("nodeGroups.{name}.{field}"))
                .collect::<Vec<_>>()
        };
        tags.into_iter()
            .chain(self.node_groups.iter().flat_map(of_group))
            .collect()
    }
}

fn read(root: &mut Section<'_>) -> Option<Config> {
    let version = root
        .required("version", VERSION)
        .and_then(|value| one_of(&value, &[VERSION]));
    let image = root
        .required("image", IMAGE)
        .and_then(|value| value.parse(IMAGE, image));
    let name_rule = "1 to 37 of a-z, 0-9 and '-'";
    let name = root
        .required("name", name_rule)
        .and_then(|value| value.parse(name_rule, |text| ClusterName::new(text)));
    let kubernetes_rule = format!(
        "an exact version, v1.{}.0 to v1.{} (v1.{}.2 for tests)",
        kubernetes::OLDEST_SUPPORTED_MINOR,
        kubernetes::NEWEST_KNOWN_MINOR,
        kubernetes::TEST_MINOR
    );
    let kubernetes_version = root
        .required("kubernetesVersion", &kubernetes_rule)
        .and_then(|value| {
            let version: kubernetes::Version = value.parse(&kubernetes_rule, str::parse)?;
            version
                .support()
                .map_err(|error| value.problem(error.to_string(), &kubernetes_rule))
                .ok()?;
            Some(version)
        });
    let release_rule = format!("{RELEASE} (major and minor must be this release's)");
    let microservice_version = root
        .required("microserviceVersion", &release_rule)
        .and_then(|value| value.parse(&release_rule, of_this_release));
    let debug_cluster = root
        .required("debugCluster", "false")
        .and_then(|value| off(&value, "this release has no images for debugging"));
    let hostname_rule = "a DNS name";
    let custom_endpoint = root
        .optional("customEndpoint")
        .filter(|value| !value.is_empty_text())
        .map(|value| value.parse(hostname_rule, hostname));
    if let Some(value) = root.optional("internalLoadBalancer") {
        off(&value, "provider qemu has no load balancer");
    }
    let cidr_rule = "an IPv4 network of /12 to /24 that no other network of the cluster overlaps, such as 10.96.0.0/12";
    let service_cidr = match root.optional("serviceCIDR") {
        None => Some(DEFAULT_SERVICE_CIDR),
        Some(value) => value.parse(cidr_rule, service_cidr),
    };
    let tags = root
        .optional("tags")
        .map_or_else(|| Some(BTreeMap::new()), |value| tags(&value));
    let provider = root
        .required("provider", "a section with qemu")
        .and_then(|value| provider::read(&value));
    let node_groups = root
        .required("nodeGroups", node_groups::RULE)
        .and_then(|value| node_groups::read(&value));
    let attestation = root
        .required("attestation", "a section with qemuVTPM")
        .and_then(|value| attestation::read(&value, image.as_deref()));
    version?;
    debug_cluster?;
    Some(Config {
        image: image?,
        name: name?,
        kubernetes_version: kubernetes_version?,
        microservice_version: microservice_version?,
        custom_endpoint: match custom_endpoint {
            None => None,
            Some(endpoint) => Some(endpoint?),
        },
        service_cidr: service_cidr?,
        tags: tags?,
        provider: provider?,
        node_groups: node_groups?,
        attestation: attestation?,
    })
}

const IMAGE: &str = "the image's name, v0.1.0 or ref/<ref>/stream/<stream>/v0.1.0, of this release's major and minor";

fn image(text: &str) -> Result<String, String> {
    let parts: Vec<_> = text.split('/').collect();
    let version = match parts.as_slice() {
        [version] | ["stream", _, version] | ["ref", _, "stream", _, version] => *version,
        _ => return Err(format!("{text:?} is not the name of an image")),
    };
    let plain = |part: &&str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"._-+".contains(&b))
    };
    if text.len() > 256 || !parts.iter().all(plain) {
        return Err(format!(
            "{:?} is not the name of an image",
            text.chars().take(80).collect::<String>()
        ));
    }
    of_this_release(version)?;
    Ok(text.to_owned())
}

fn of_this_release(text: &str) -> Result<semver::Version, String> {
    let malformed = || {
        format!(
            "{:?} is not a version of the form v1.2.3",
            text.chars().take(64).collect::<String>()
        )
    };
    let version = semver::Version::parse(text.strip_prefix('v').ok_or_else(malformed)?)
        .map_err(|_| malformed())?;
    let release =
        semver::Version::parse(env!("CARGO_PKG_VERSION")).map_err(|error| error.to_string())?;
    if (version.major, version.minor) == (release.major, release.minor) {
        Ok(version)
    } else {
        Err(format!("{text} does not go with this release, {RELEASE}"))
    }
}

fn hostname(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if text.len() <= 253 && text.split('.').all(label) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!(
            "{:?} is not a DNS name",
            text.chars().take(80).collect::<String>()
        ))
    }
}

fn service_cidr(text: &str) -> Result<Ipv4Net, String> {
    let network: Ipv4Net = text
        .parse()
        .map_err(|_| format!("{text:?} is not an IPv4 network"))?;
    AddressPlan::new(DEFAULT_POD_CIDR, network).map_err(|error| error.to_string())?;
    Ok(network)
}

fn tags(value: &Value<'_>) -> Option<BTreeMap<String, String>> {
    let rule = "a text";
    let mut section = value.section()?;
    let tags: Vec<_> = section
        .all()
        .into_iter()
        .map(|(key, value)| (key, value.text(rule)))
        .collect();
    tags.into_iter()
        .map(|(key, text)| Some((key.to_owned(), text?.to_owned())))
        .collect()
}

/// A switch that this release has in one position only.
fn off(value: &Value<'_>, why_not_on: &str) -> Option<()> {
    if value.boolean()? {
        value.problem(why_not_on, "false");
        return None;
    }
    Some(())
}

/// One of a few words.
fn one_of<'w>(value: &Value<'_>, words: &[&'w str]) -> Option<&'w str> {
    let allowed = words.join(", ");
    value.parse(&allowed, |text| {
        words
            .iter()
            .find(|word| **word == text)
            .copied()
            .ok_or_else(|| {
                format!(
                    "{:?} is not known",
                    text.chars().take(80).collect::<String>()
                )
            })
    })
}

#[cfg(test)]
mod tests;
