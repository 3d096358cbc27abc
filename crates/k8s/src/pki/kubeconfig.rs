//! Kubeconfig files: how a program reaches the API and proves who it is.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde_json::json;

use super::IssuedLeaf;
use crate::files::SecretText;

/// How the client proves who it is.
#[derive(Debug)]
pub enum Credential<'a> {
    /// Certificate and key in the file itself, for a user's machine.
    Embedded(&'a IssuedLeaf),
    /// Paths of certificate and key, which the client reads again when they change.
    Files {
        /// The certificate.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
    },
    /// A bearer token.
    Token(&'a SecretText),
}

/// A kubeconfig with one cluster, one user and one context.
#[derive(Debug)]
pub struct Kubeconfig<'a> {
    /// Name of the cluster and of the context.
    pub cluster_name: &'a str,
    /// Name of the user in the file.
    pub user: &'a str,
    /// `https://host:port` of the API.
    pub server: &'a str,
    /// The cluster's authority.
    pub ca_certificate_pem: &'a str,
    /// Who the client is.
    pub credential: Credential<'a>,
}

impl Kubeconfig<'_> {
    /// Renders the file. JSON is YAML, and needs no quoting rules of our own.
    pub fn render(&self) -> SecretText {
        let path = |path: &Path| path.display().to_string();
        let user = match &self.credential {
            Credential::Embedded(leaf) => json!({
                "client-certificate-data": BASE64.encode(&leaf.certificate_pem),
                "client-key-data": BASE64.encode(leaf.key_pem.expose()),
            }),
            Credential::Files { certificate, key } => {
                json!({ "client-certificate": path(certificate), "client-key": path(key) })
            }
            Credential::Token(token) => json!({ "token": token.expose() }),
        };
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": self.cluster_name,
                "cluster": { "server": self.server, "certificate-authority-data": BASE64.encode(self.ca_certificate_pem) },
            }],
            "users": [{ "name": self.user, "user": user }],
            "contexts": [{ "name": self.cluster_name, "context": { "cluster": self.cluster_name, "user": self.user } }],
            "current-context": self.cluster_name,
            "preferences": {},
        });
        SecretText::new(format!("{config:#}\n"))
    }
}
