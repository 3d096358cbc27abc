//! `Debug` of the messages that carry a secret: public fields as they are, secret ones by size only.
//!
//! The list of these messages is `SECRET` in `xtask/src/codegen.rs`; a message left out here does not compile, one left out
//! there has two implementations and does not compile either.

use std::fmt::{Debug, Formatter, Result};

use crate::{
    backup::{CreateRequest, UploadRequest},
    init::{InitRequest, InitSuccess},
    join::{ControlPlaneFile, IssueJoinTicketResponse, IssueRejoinTicketResponse},
    kms::GetDataKeyResponse,
    recover::RecoverRequest,
};

/// Stands for a secret of this many bytes.
struct Redacted(usize);

impl Debug for Redacted {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        write!(f, "<{} secret bytes>", self.0)
    }
}

impl Debug for CreateRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("CreateRequest")
            .field("key", &Redacted(self.key.len()))
            .field("cluster_id", &self.cluster_id)
            .finish()
    }
}

impl Debug for UploadRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("UploadRequest")
            .field("init_secret", &Redacted(self.init_secret.len()))
            .field("data", &format_args!("<{} bytes>", self.data.len()))
            .finish()
    }
}

impl Debug for InitRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("InitRequest")
            .field("kms_uri", &Redacted(self.kms_uri.len()))
            .field("storage_uri", &Redacted(self.storage_uri.len()))
            .field("measurement_salt", &Redacted(self.measurement_salt.len()))
            .field("kubernetes_version", &self.kubernetes_version)
            .field("kubernetes_components", &self.kubernetes_components.len())
            .field("init_secret", &Redacted(self.init_secret.len()))
            .field("cluster_name", &self.cluster_name)
            .field("apiserver_cert_sans", &self.apiserver_cert_sans)
            .field("service_cidr", &self.service_cidr)
            .field("pod_cidr", &self.pod_cidr)
            .field(
                "attestation_policy",
                &format_args!("<{} bytes>", self.attestation_policy.len()),
            )
            .field("component_mirror", &self.component_mirror)
            .field("request_id", &self.request_id)
            .field("restore_sha256", &self.restore_sha256)
            .finish()
    }
}

impl Debug for InitSuccess {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("InitSuccess")
            .field("kubeconfig", &Redacted(self.kubeconfig.len()))
            .field("owner_id", &self.owner_id)
            .field("cluster_id", &self.cluster_id)
            .finish()
    }
}

impl Debug for IssueJoinTicketResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("IssueJoinTicketResponse")
            .field("state_disk_key", &Redacted(self.state_disk_key.len()))
            .field("measurement_salt", &Redacted(self.measurement_salt.len()))
            .field(
                "measurement_secret",
                &Redacted(self.measurement_secret.len()),
            )
            .field("token", &Redacted(self.token.len()))
            .field(
                "discovery_token_ca_cert_hash",
                &self.discovery_token_ca_cert_hash,
            )
            .field("control_plane_files", &self.control_plane_files)
            .field("kubernetes_version", &self.kubernetes_version)
            .field("kubernetes_components", &self.kubernetes_components.len())
            .field(
                "authorized_ca_public_key",
                &format_args!("<{} bytes>", self.authorized_ca_public_key.len()),
            )
            .field(
                "ca_certificate",
                &format_args!("<{} bytes>", self.ca_certificate.len()),
            )
            .field("cluster_name", &self.cluster_name)
            .field("mesh_ip", &self.mesh_ip)
            .field("pod_cidr", &self.pod_cidr)
            .field("wireguard_peers", &self.wireguard_peers)
            .field("service_cidr", &self.service_cidr)
            .field("cluster_pod_cidr", &self.cluster_pod_cidr)
            .field("component_mirror", &self.component_mirror)
            .field("apiserver_cert_sans", &self.apiserver_cert_sans)
            .finish()
    }
}

impl Debug for ControlPlaneFile {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("ControlPlaneFile")
            .field("name", &self.name)
            .field("data", &Redacted(self.data.len()))
            .finish()
    }
}

impl Debug for IssueRejoinTicketResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("IssueRejoinTicketResponse")
            .field("state_disk_key", &Redacted(self.state_disk_key.len()))
            .field(
                "measurement_secret",
                &Redacted(self.measurement_secret.len()),
            )
            .field("measurement_salt", &Redacted(self.measurement_salt.len()))
            .field("bootstrap_token", &Redacted(self.bootstrap_token.len()))
            .finish()
    }
}

impl Debug for GetDataKeyResponse {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("GetDataKeyResponse")
            .field("data_key", &Redacted(self.data_key.len()))
            .finish()
    }
}

impl Debug for RecoverRequest {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        f.debug_struct("RecoverRequest")
            .field("state_disk_key", &Redacted(self.state_disk_key.len()))
            .field(
                "measurement_secret",
                &Redacted(self.measurement_secret.len()),
            )
            .field("measurement_salt", &Redacted(self.measurement_salt.len()))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A byte that stands for a secret, and what it looks like as text and in a list of numbers.
    const MARK: u8 = b'S';
    const SHOWN: [&str; 2] = ["SSS", "83, 83"];

    fn secret() -> Vec<u8> {
        vec![MARK; 32]
    }

    fn text() -> String {
        char::from(MARK).to_string().repeat(32)
    }

    #[test]
    fn no_secret_prints() {
        let printed = [
            format!(
                "{:?}",
                InitRequest {
                    kms_uri: text(),
                    init_secret: secret(),
                    measurement_salt: secret(),
                    ..Default::default()
                }
            ),
            format!(
                "{:?}",
                crate::init::InitResponse {
                    kind: Some(crate::init::init_response::Kind::InitSuccess(InitSuccess {
                        kubeconfig: secret(),
                        ..Default::default()
                    })),
                }
            ),
            format!(
                "{:?}",
                IssueJoinTicketResponse {
                    state_disk_key: secret(),
                    measurement_salt: secret(),
                    measurement_secret: secret(),
                    token: text(),
                    control_plane_files: vec![ControlPlaneFile {
                        name: "sa.key".to_owned(),
                        data: secret()
                    }],
                    ..Default::default()
                }
            ),
            format!(
                "{:?}",
                IssueRejoinTicketResponse {
                    state_disk_key: secret(),
                    measurement_secret: secret(),
                    measurement_salt: secret(),
                    bootstrap_token: text()
                }
            ),
            format!("{:?}", GetDataKeyResponse { data_key: secret() }),
            format!(
                "{:?}",
                RecoverRequest {
                    state_disk_key: secret(),
                    measurement_secret: secret(),
                    measurement_salt: secret()
                }
            ),
        ];
        for text in printed {
            for shown in SHOWN {
                assert!(!text.contains(shown), "a secret prints: {text}");
            }
            assert!(text.contains("<32 secret bytes>"), "{text}");
        }
    }
}
