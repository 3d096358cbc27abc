//! Whether the certificate that a request was made with is one of the node on record, or of an earlier node of its name.
//!
//! A kubelet's certificate lives for a day whatever becomes of its node, and all that it says is the node's name. So until a
//! certificate was issued to the node on record nobody can ask as that node; and afterwards only with one of those that were, where
//! the API server says which it saw. It does since Kubernetes 1.32; an older one says nothing, and then the name has to do.
//!
//! Control planes have the authority and issue certificates for their own kubelets, of which no record knows: theirs are compared only
//! until they have joined.

use std::fmt;

use cluster::{Role, admission::Standing, identity::NodeIdentity};
use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
use serde::{Deserialize, Serialize};

use super::Denial;

/// What the API server says in a request about the credential that it was made with. Nobody else can write there.
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";
const OF_CERTIFICATE: &str = "X509SHA256=";

/// A node that the join service admitted.
#[derive(Clone, Debug)]
pub struct Known {
    /// Who it is.
    pub identity: NodeIdentity,
    /// How far it has come.
    pub standing: Standing,
    /// Client certificates that were issued to it under its record.
    pub certificates: Vec<CertificateId>,
}

/// Which certificate: the SHA-256 of its DER, in hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CertificateId(String);

impl CertificateId {
    /// Of the first certificate in a PEM text, as signers write it; none where there is none.
    pub fn of_first(text: &[u8]) -> Option<Self> {
        let block = pem::parse(text).ok()?;
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, block.contents());
        (block.tag() == "CERTIFICATE").then(|| Self(hex::encode(hash)))
    }
}

/// The credential that a request was made with, in the API server's words.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CredentialId(String);

impl CredentialId {
    /// What a request says of it; nothing where the API server is too old to.
    pub fn of(spec: &CertificateSigningRequestSpec) -> Option<Self> {
        let values = spec.extra.as_ref()?.get(CREDENTIAL)?;
        // more than one is none that we know
        Some(Self(values.join(",")))
    }

    /// Whether it is this certificate.
    pub fn is(&self, certificate: &CertificateId) -> bool {
        self.0.strip_prefix(OF_CERTIFICATE) == Some(certificate.0.as_str())
    }
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Known {
    /// Whether a request as this node is this node's.
    pub(super) fn check(&self, credential: Option<CredentialId>) -> Result<(), Denial> {
        let name = || self.identity.name.clone();
        let joined = self.standing == Standing::Joined;
        if !joined && self.certificates.is_empty() {
            return Err(Denial::NoneIssued(name()));
        }
        let Some(credential) = credential else {
            return Ok(());
        };
        let own = self.certificates.iter().any(|one| credential.is(one));
        let issues_its_own = joined && self.identity.role == Role::ControlPlane;
        if own || issues_its_own {
            Ok(())
        } else {
            Err(Denial::NotItsOwn(name()))
        }
    }
}
