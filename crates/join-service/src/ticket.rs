//! Makes tickets: for an admitted node what it needs to become a member, for a recognised one its disk's key.
//!
//! Only `cluster::admission` gives out the values these functions take. Nothing of a ticket is logged.

use std::path::PathBuf;

use cluster::{
    NodeName, Role,
    admission::{AdmittedNode, RecognisedNode, Record},
    catalogue::{COMPONENTS_KEY, Components, VERSION_KEY},
    network::WIREGUARD_PORT,
};
use k8s::{
    api::{ApiError, NAMESPACE, tokens},
    control_plane::{Shared, SharedError},
    files::SecretText,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use proto::{
    components::Component,
    join::{ControlPlaneFile, IssueJoinTicketResponse, IssueRejoinTicketResponse, WireguardPeer},
};

use crate::{
    admission::Admitted,
    config::Snapshot,
    key_client::Keys,
    records::{Records, Stored},
    refusal::Refusal,
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum TicketError {
    #[error("read the ConfigMap {name}")]
    ConfigMap {
        name: String,
        source: Box<kube::Error>,
    },
    #[error("the ConfigMap {name} has no {key}")]
    Missing { name: String, key: &'static str },
    #[error("the list of components in the ConfigMap {name} cannot be read")]
    Components {
        name: String,
        source: serde_json::Error,
    },
    // Its name is the hash of its content: this is not the list that the name stands for.
    #[error(
        "the ConfigMap {name} holds another list of components: its content belongs to {actual}"
    )]
    Content { name: String, actual: String },
    #[error("make the one-time token")]
    Token(#[source] ApiError),
    #[error("read what this cluster's control planes share")]
    ControlPlane(#[source] SharedError),
    #[error("the thread that reads what control planes share was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}

/// Makes tickets.
pub(crate) struct Maker {
    client: Client,
    keys: Keys,
    records: Records,
    authority_pem: String,
    authority_hash: String,
    kubernetes: PathBuf,
}

impl Maker {
    pub(crate) fn new(
        client: Client,
        keys: Keys,
        records: Records,
        authority: Authority,
        kubernetes: PathBuf,
    ) -> Self {
        Self {
            client,
            keys,
            records,
            authority_pem: authority.pem,
            authority_hash: authority.hash,
            kubernetes,
        }
    }

    /// The ticket of an admitted node whose record was written.
    pub(crate) async fn join(
        &self,
        Admitted { node, stored, all }: &Admitted,
        config: &Snapshot,
        now: jiff::Timestamp,
    ) -> Result<IssueJoinTicketResponse, Refusal> {
        let identity = node.identity();
        let (components, version) = self.components(config).await.map_err(Refusal::Ticket)?;

        let measurement_secret = self
            .keys
            .measurement_secret()
            .await
            .map_err(Refusal::Keys)?;
        let disk_key = self
            .keys
            .disk_key(identity.disk_uuid)
            .await
            .map_err(Refusal::Keys)?;
        let ssh_ca = self.keys.ssh_ca().await.map_err(Refusal::Keys)?;
        let (control_plane_files, apiserver_cert_sans) = match identity.role {
            Role::ControlPlane => (
                self.control_plane_files(node)
                    .await
                    .map_err(Refusal::Ticket)?,
                config.cluster.api_sans.clone(),
            ),
            Role::Worker => (Vec::new(), Vec::new()),
        };

        // Last, so that a token is only made for a ticket that will be sent; and bound to the record before it is sent.
        let token = tokens::create(&self.client, &identity.name, now)
            .await
            .map_err(|error| Refusal::Ticket(TicketError::Token(error)))?;
        self.records.set_token(stored, token.id()).await?;

        Ok(IssueJoinTicketResponse {
            state_disk_key: disk_key.expose_bytes().to_vec(),
            measurement_salt: config.measurement_salt.to_vec(),
            measurement_secret: measurement_secret.expose_bytes().to_vec(),
            token: token.text().expose().to_owned(),
            discovery_token_ca_cert_hash: self.authority_hash.clone(),
            control_plane_files,
            apiserver_cert_sans,
            kubernetes_version: version,
            kubernetes_components: components,
            authorized_ca_public_key: ssh_ca.public_key_openssh().into_bytes(),
            ca_certificate: self.authority_pem.clone().into_bytes(),
            cluster_name: config.cluster.name.to_string(),
            mesh_ip: identity.mesh_ip.to_string(),
            pod_cidr: identity.pod_cidr.to_string(),
            wireguard_peers: peers(all, &identity.name),
            service_cidr: config.cluster.network.services().to_string(),
            cluster_pod_cidr: config.cluster.network.pods().to_string(),
            component_mirror: config.cluster.component_mirror.clone(),
        })
    }

    /// What control planes share, read from this node for an admitted control plane and at no other time.
    async fn control_plane_files(
        &self,
        _admitted: &AdmittedNode,
    ) -> Result<Vec<ControlPlaneFile>, TicketError> {
        let directory = self.kubernetes.clone();
        let shared = tokio::task::spawn_blocking(move || Shared::load(&directory))
            .await
            .map_err(TicketError::Interrupted)?
            .map_err(TicketError::ControlPlane)?;
        let wire = |(name, text): (String, SecretText)| ControlPlaneFile {
            name,
            data: text.expose().as_bytes().to_vec(),
        };
        Ok(shared.to_files().into_iter().map(wire).collect())
    }

    /// The keys of a node that was recognised after its reboot, and of a worker a token for its kubelet: nobody but this cluster's API
    /// renews a worker's certificate, and that can have ended while the node was off. A control plane makes its own.
    pub(crate) async fn rejoin(
        &self,
        recognised: &RecognisedNode,
        stored: Option<&Stored>,
        config: &Snapshot,
        now: jiff::Timestamp,
    ) -> Result<IssueRejoinTicketResponse, Refusal> {
        let disk = recognised.identity().disk_uuid;
        let measurement_secret = self
            .keys
            .measurement_secret()
            .await
            .map_err(Refusal::Keys)?;
        let disk_key = self.keys.disk_key(disk).await.map_err(Refusal::Keys)?;
        let bootstrap_token = match stored {
            Some(stored) if recognised.identity().role == Role::Worker => {
                // a token that can not be made keeps no node from its disk
                self.rejoin_token(stored, now).await.unwrap_or_else(|error| {
                    tracing::warn!(node = %stored.name(), error = %runtime::chain(&error), "a rejoin ticket without a token");
                    String::new()
                })
            }
            _ => String::new(),
        };
        Ok(IssueRejoinTicketResponse {
            bootstrap_token,
            state_disk_key: disk_key.expose_bytes().to_vec(),
            measurement_secret: measurement_secret.expose_bytes().to_vec(),
            measurement_salt: config.measurement_salt.to_vec(),
        })
    }

    /// In the place of the one that an earlier reboot got.
    async fn rejoin_token(&self, stored: &Stored, now: jiff::Timestamp) -> Result<String, Refusal> {
        let failed = |error| Refusal::Ticket(TicketError::Token(error));
        if let Some(earlier) = stored.token_id() {
            tokens::delete(&self.client, earlier)
                .await
                .map_err(failed)?;
        }
        let token = tokens::create(&self.client, stored.name(), now)
            .await
            .map_err(failed)?;
        self.records.set_token(stored, token.id()).await?;
        Ok(token.text().expose().to_owned())
    }

    /// The components for this cluster's version, from the ConfigMap that is named by their hash.
    async fn components(&self, config: &Snapshot) -> Result<(Vec<Component>, String), TicketError> {
        let name = config.cluster.components_config_map.clone();
        let api = Api::<ConfigMap>::namespaced(self.client.clone(), NAMESPACE);
        let mut data = api
            .get(&name)
            .await
            .map_err(|source| TicketError::ConfigMap {
                name: name.clone(),
                source: Box::new(source),
            })?
            .data
            .unwrap_or_default();
        let mut take = |key| {
            data.remove(key).ok_or_else(|| TicketError::Missing {
                name: name.clone(),
                key,
            })
        };
        let (list, version) = (take(COMPONENTS_KEY)?, take(VERSION_KEY)?);
        let components: Components =
            serde_json::from_str(&list).map_err(|source| TicketError::Components {
                name: name.clone(),
                source,
            })?;
        let actual = components.config_map_name();
        if actual != name {
            return Err(TicketError::Content { name, actual });
        }
        Ok((components.as_slice().iter().map(wire).collect(), version))
    }
}

/// The certificate of the cluster's authority, and what a joining kubelet pins of it.
pub(crate) struct Authority {
    pem: String,
    hash: String,
}

/// Why the authority's file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    #[error("read {0}")]
    Read(PathBuf, #[source] std::io::Error),
    #[error("{0} is not one PEM certificate")]
    Form(PathBuf),
}

impl Authority {
    /// Reads the authority's certificate.
    pub(crate) fn read(path: &std::path::Path) -> Result<Self, AuthorityError> {
        let pem = std::fs::read_to_string(path)
            .map_err(|error| AuthorityError::Read(path.to_owned(), error))?;
        let hash = spki_hash(&pem).ok_or_else(|| AuthorityError::Form(path.to_owned()))?;
        Ok(Self { pem, hash })
    }
}

/// kubeadm's pin: `sha256:` and the hash of the certificate's public key in DER.
fn spki_hash(text: &str) -> Option<String> {
    let block = pem::parse(text).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(block.contents()).ok()?;
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.public_key().raw);
    Some(format!("sha256:{}", hex::encode(hash)))
}

fn wire(component: &cluster::catalogue::Component) -> Component {
    Component {
        url: component.url.clone(),
        hash: component.hash.to_string(),
        install_path: component.install_path.clone(),
        extract: component.extract,
        name: component.name.clone(),
        mode: component.mode,
        import: component.import,
    }
}

/// Every other recorded node as a peer in the mesh.
fn peers(all: &[Record], own: &NodeName) -> Vec<WireguardPeer> {
    all.iter()
        .map(|record| &record.identity)
        .filter(|identity| &identity.name != own)
        .map(|identity| WireguardPeer {
            public_key: identity.wireguard_public_key.as_bytes().to_vec(),
            endpoint: format!("{}:{WIREGUARD_PORT}", identity.node_ip),
            mesh_ip: identity.mesh_ip.to_string(),
            pod_cidr: identity.pod_cidr.to_string(),
            node_name: identity.name.to_string(),
            is_control_plane: identity.role == Role::ControlPlane,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pin_is_over_the_public_key() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["ca".to_owned()])
            .unwrap()
            .self_signed(&key)
            .unwrap();
        let expected = aws_lc_rs::digest::digest(
            &aws_lc_rs::digest::SHA256,
            &rcgen::PublicKeyData::subject_public_key_info(&key),
        );
        assert_eq!(
            spki_hash(&certificate.pem()),
            Some(format!("sha256:{}", hex::encode(expected)))
        );
        assert_eq!(spki_hash("no certificate"), None);
    }
}
