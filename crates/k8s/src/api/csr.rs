//! Who gets a kubelet certificate.
//!
//! [`decide`] is pure: a request, who made it, and the records of the cluster in; a decision with its reason out. It approves three
//! things, for nodes that the join service recorded and for no others: the first client certificate, asked for with the node's own
//! bootstrap token; its renewal, asked for by the node itself; the serving certificate, asked for by the node itself, for its own
//! name and address. A node is a record and not a name: whoever asks with a certificate that was issued to an earlier node of the
//! name is refused (`own`). What it does not know it leaves alone. Acting on decisions, and ending tokens, is the join service's.
//! kube-controller-manager signs what is approved and approves nothing (its own approver is off: it would go on renewing a node
//! whose record is gone).

mod own;
mod request;

use std::collections::BTreeMap;

use cluster::{
    NodeName,
    identity::{KUBELET_USER_PREFIX, NodeIdentity},
};
use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;

pub use self::own::{CertificateId, CredentialId, Known};
pub use self::request::KubeletRequest;
use self::request::Name;
use super::tokens;

/// Who signs for kubelets as clients.
pub const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Who signs for kubelets as servers.
pub const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
const NODES_GROUP: &str = "system:nodes";

/// What is known when a request is decided.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The nodes that the join service admitted.
    pub nodes: BTreeMap<NodeName, Known>,
    /// The node of each live bootstrap token, by the token's id.
    pub tokens: BTreeMap<String, NodeName>,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Sign it.
    Approve(Approval),
    /// Never sign it.
    Deny(Denial),
    /// Not a kubelet's request: someone else's business.
    NotOurs,
}

/// An approved request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// The node that gets the certificate.
    pub node: NodeName,
    /// What for.
    pub purpose: Purpose,
}

/// The certificates of a kubelet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The first client certificate, by bootstrap token.
    FirstClient,
    /// A further client certificate.
    ClientRenewal,
    /// A serving certificate.
    Serving,
}

/// Why a request is denied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// Not a certificate request, or not in the one form that kubelets write.
    #[error(
        "the request is not a kubelet's PKCS#10 request for an ECDSA P-256 key and nothing else"
    )]
    Malformed,
    /// Made by someone who is neither a node nor has a bootstrap token.
    #[error("{0:?} is neither a node nor a bootstrap token")]
    Requestor(String),
    /// A subject that is not a node's.
    #[error("the subject is not O=system:nodes, CN=system:node:<name>")]
    Subject,
    /// A node that asks for another.
    #[error("requested for node {subject} by node {requestor}")]
    OtherNode {
        /// The node in the subject.
        subject: NodeName,
        /// The node that asks.
        requestor: NodeName,
    },
    /// A token that is gone or was never known.
    #[error("bootstrap token {0:?} belongs to no node")]
    UnknownToken(String),
    /// A serving certificate by bootstrap token.
    #[error("a bootstrap token asks for a serving certificate")]
    ServingByToken,
    /// A node that the join service does not know.
    #[error("node {0} has no identity record")]
    UnknownNode(NodeName),
    /// A certificate under a record that none was issued under.
    #[error(
        "no certificate was issued to the node {0} on record yet: this one is that of an earlier node of its name"
    )]
    NoneIssued(NodeName),
    /// A certificate that was issued under another record.
    #[error(
        "the certificate that it was made with was not issued to the node {0} on record: an earlier node of the name has it, or it was issued while no join service looked; if the node is genuine, a worker is well again after a reboot once its certificate has ended, and a control plane after `kubectl delete node` and a new join"
    )]
    NotItsOwn(NodeName),
    /// Names in a client certificate, or names in a serving certificate that are not the node's.
    #[error("alternative name {0:?} is not the node's")]
    AlternativeName(String),
    /// A name of another kind.
    #[error("an alternative name is neither a DNS name nor an IPv4 address")]
    NameKind,
    /// A serving certificate without a name.
    #[error("a serving certificate needs at least one alternative name")]
    NoAlternativeName,
    /// Another extension in the request.
    #[error("the request has extensions beyond alternative names")]
    Extension,
    /// Usages beyond those of its kind.
    #[error("usages {0:?} are not those of a kubelet's certificate")]
    Usages(Vec<String>),
}

/// Decides about one request.
pub fn decide(spec: &CertificateSigningRequestSpec, facts: &Facts) -> Decision {
    let serving = match spec.signer_name.as_str() {
        CLIENT_SIGNER => false,
        SERVING_SIGNER => true,
        _ => return Decision::NotOurs,
    };
    match checked(spec, serving, facts) {
        Ok(approval) => Decision::Approve(approval),
        Err(denial) => Decision::Deny(denial),
    }
}

fn checked(
    spec: &CertificateSigningRequestSpec,
    serving: bool,
    facts: &Facts,
) -> Result<Approval, Denial> {
    let request = KubeletRequest::parse(&spec.request.0)?;
    check_usages(spec.usages.as_deref().unwrap_or_default(), serving)?;
    let user = spec.username.as_deref().unwrap_or_default();
    let groups = spec.groups.as_deref().unwrap_or_default();
    let in_group = |group: &str| groups.iter().any(|member| member == group);

    let purpose = if let Some(requestor) = user
        .strip_prefix(KUBELET_USER_PREFIX)
        .filter(|_| in_group(NODES_GROUP))
    {
        let requestor: NodeName = requestor
            .parse()
            .map_err(|_| Denial::Requestor(shown(user)))?;
        if requestor != request.node {
            return Err(Denial::OtherNode {
                subject: request.node,
                requestor,
            });
        }
        if serving {
            Purpose::Serving
        } else {
            Purpose::ClientRenewal
        }
    } else if let Some(token) = user
        .strip_prefix(tokens::USER_PREFIX)
        .filter(|_| in_group(tokens::GROUP))
    {
        let requestor = facts
            .tokens
            .get(token)
            .ok_or_else(|| Denial::UnknownToken(shown(token)))?;
        if requestor != &request.node {
            return Err(Denial::OtherNode {
                subject: request.node,
                requestor: requestor.clone(),
            });
        }
        if serving {
            return Err(Denial::ServingByToken);
        }
        Purpose::FirstClient
    } else {
        return Err(Denial::Requestor(shown(user)));
    };

    let known = facts
        .nodes
        .get(&request.node)
        .ok_or_else(|| Denial::UnknownNode(request.node.clone()))?;
    match purpose {
        Purpose::FirstClient => {}
        Purpose::ClientRenewal | Purpose::Serving => known.check(CredentialId::of(spec))?,
    }
    check_names(&request, serving, &known.identity)?;
    Ok(Approval {
        node: request.node,
        purpose,
    })
}

/// Kubelets ask for `key encipherment` as well when they are old; nothing else may be added.
fn check_usages(usages: &[String], serving: bool) -> Result<(), Denial> {
    let purpose = if serving {
        "server auth"
    } else {
        "client auth"
    };
    let allowed = [purpose, "digital signature", "key encipherment"];
    let right = usages.iter().all(|usage| allowed.contains(&usage.as_str()))
        && usages.iter().any(|usage| usage == purpose)
        && usages.iter().any(|usage| usage == "digital signature");
    if right {
        Ok(())
    } else {
        Err(Denial::Usages(
            usages.iter().take(8).map(|usage| shown(usage)).collect(),
        ))
    }
}

/// A client certificate has no alternative names. A serving certificate has the node's name and its address in the mesh, where its
/// kubelet listens, and no other: the address between the machines is the host's word.
fn check_names(
    request: &KubeletRequest,
    serving: bool,
    identity: &NodeIdentity,
) -> Result<(), Denial> {
    let own = |name: &Name| match name {
        Name::Dns(name) => name == identity.name.as_str(),
        Name::Ip(address) => *address == identity.mesh_ip,
    };
    match request.names.iter().find(|name| !serving || !own(name)) {
        Some(foreign) => Err(Denial::AlternativeName(shown(&foreign.to_string()))),
        None if serving && request.names.is_empty() => Err(Denial::NoAlternativeName),
        None => Ok(()),
    }
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests;
