//! Manifests that Kubernetes itself needs before nodes and users can work with it.
//!
//! The manifests of our own services are in `deploy/`, embedded by the node agent. All of them are part of the measured image.

use cluster::network::{AddressPlan, CLUSTER_DOMAIN};

/// Roles and bindings of a new cluster.
pub const ROLES: &str = include_str!("../manifests/roles.yaml");
const COREDNS: &str = include_str!("../manifests/coredns.yaml");

/// An image reference that cannot stand in a manifest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an image reference")]
pub struct ImageError(String);

/// Renders CoreDNS for a cluster, with the image as it was imported from its archive.
pub fn coredns(image: &str, plan: &AddressPlan) -> Result<String, ImageError> {
    // the reference comes out of an archive: it must not become YAML
    let right = !image.is_empty()
        && image.len() <= 512
        && image
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte));
    if !right {
        return Err(ImageError(image.chars().take(80).collect()));
    }
    Ok(COREDNS
        .replace("@IMAGE@", image)
        .replace("@DOMAIN@", CLUSTER_DOMAIN)
        .replace("@ADDRESS@", &plan.dns_service_ip().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::documents;

    #[test]
    fn manifests_parse_and_have_names() {
        let coredns = coredns(
            "registry.k8s.io/coredns/coredns:v1.12.0@sha256:00",
            &AddressPlan::default(),
        )
        .unwrap();
        for (text, count) in [(ROLES, 10), (coredns.as_str(), 6)] {
            let objects = documents(text).unwrap();
            assert_eq!(objects.len(), count);
            for object in objects {
                assert!(
                    object.metadata.name.is_some() && object.types.is_some(),
                    "{object:?}"
                );
            }
        }
        assert!(coredns.contains("clusterIP: \"10.96.0.10\""));
        let left = coredns
            .split('@')
            .find(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_uppercase()));
        assert_eq!(left, None, "a placeholder without a value");
    }

    #[test]
    fn an_image_reference_cannot_carry_yaml() {
        for image in ["", "a b", "a\"\nkind: x", "a\n", "ä"] {
            assert!(
                coredns(image, &AddressPlan::default()).is_err(),
                "{image:?}"
            );
        }
    }
}
