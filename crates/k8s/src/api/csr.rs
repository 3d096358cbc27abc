//! Who gets a kubelet certificate.
//!
//! [`decide`] is pure: a request, who made it, and the records of the cluster in; a decision with its reason out. It approves three
//! things, for nodes that the join service recorded and for no others: the first client certificate, asked for with the node's own
//! bootstrap token, once; its renewal, asked for by the node itself; the serving certificate, asked for by the node itself, for its
//! own name and addresses. What it does not know it leaves alone. Acting on decisions is the join service's. kube-controller-manager
//! signs what is approved and approves nothing
//! (its own approver is off: it would go on renewing a node whose record is gone).

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
};

use cluster::{
    NodeName,
    identity::{KUBELET_USER_PREFIX, NodeIdentity},
};
use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    oid_registry,
    prelude::FromDer as _,
};

use super::tokens;

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";
const NODES_GROUP: &str = "system:nodes";
/// More than a kubelet's request ever is.
const MAX_REQUEST: usize = 8 << 10;

/// What is known when a request is decided.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The nodes that the join service admitted.
    pub identities: BTreeMap<NodeName, NodeIdentity>,
    /// The node of each bootstrap token, by the token's id.
    pub tokens: BTreeMap<String, NodeName>,
    /// Tokens by which a certificate was approved already.
    pub used_tokens: BTreeSet<String>,
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
    /// Not a certificate request.
    #[error("the request is not a valid PKCS#10 request for an ECDSA P-256 key")]
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
    /// A token's second certificate.
    #[error("bootstrap token {0:?} was used already")]
    UsedToken(String),
    /// A serving certificate by bootstrap token.
    #[error("a bootstrap token asks for a serving certificate")]
    ServingByToken,
    /// A node that the join service does not know.
    #[error("node {0} has no identity record")]
    UnknownNode(NodeName),
    /// Names in a client certificate, or names in a serving certificate that are not the node's.
    #[error("alternative name {0:?} is not the node's")]
    AlternativeName(String),
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

/// What the PKCS#10 request of a kubelet says.
#[derive(Debug)]
pub struct KubeletRequest {
    /// The node in its subject.
    pub node: NodeName,
    dns: Vec<String>,
    ips: Vec<IpAddr>,
    other_names: bool,
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
        if facts.used_tokens.contains(token) {
            return Err(Denial::UsedToken(shown(token)));
        }
        Purpose::FirstClient
    } else {
        return Err(Denial::Requestor(shown(user)));
    };

    let identity = facts
        .identities
        .get(&request.node)
        .ok_or_else(|| Denial::UnknownNode(request.node.clone()))?;
    check_names(&request, serving, identity)?;
    Ok(Approval {
        node: request.node,
        purpose,
    })
}

impl KubeletRequest {
    /// Reads a PEM request strictly: one block, a key of the one kind, a signature by it, the subject of a node, and no extensions but
    /// alternative names.
    pub fn parse(pem: &[u8]) -> Result<Self, Denial> {
        if pem.len() > MAX_REQUEST {
            return Err(Denial::Malformed);
        }
        let block = pem::parse(pem).map_err(|_| Denial::Malformed)?;
        if block.tag() != "CERTIFICATE REQUEST" {
            return Err(Denial::Malformed);
        }
        let (rest, request) =
            X509CertificationRequest::from_der(block.contents()).map_err(|_| Denial::Malformed)?;
        if !rest.is_empty() || request.verify_signature().is_err() {
            return Err(Denial::Malformed);
        }
        let info = &request.certification_request_info;
        let algorithm = &info.subject_pki.algorithm;
        let curve = algorithm
            .parameters
            .as_ref()
            .and_then(|parameters| parameters.as_oid().ok());
        if algorithm.algorithm != oid_registry::OID_KEY_TYPE_EC_PUBLIC_KEY
            || curve != Some(oid_registry::OID_EC_P256)
        {
            return Err(Denial::Malformed);
        }
        let node = subject(&info.subject)?;
        let mut parsed = Self {
            node,
            dns: Vec::new(),
            ips: Vec::new(),
            other_names: false,
        };
        for extension in request.requested_extensions().into_iter().flatten() {
            match extension {
                ParsedExtension::SubjectAlternativeName(names) => {
                    for name in &names.general_names {
                        match name {
                            GeneralName::DNSName(name) => parsed.dns.push((*name).to_owned()),
                            GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
                                Ok(octets) => parsed.ips.push(IpAddr::V4(Ipv4Addr::from(octets))),
                                Err(_) => parsed.other_names = true,
                            },
                            _ => parsed.other_names = true,
                        }
                    }
                }
                _ => return Err(Denial::Extension),
            }
        }
        Ok(parsed)
    }
}

/// The node of a subject that has exactly the group of nodes and one node's name.
fn subject(name: &x509_parser::x509::X509Name<'_>) -> Result<NodeName, Denial> {
    let (mut organizations, mut common_names) = (Vec::new(), Vec::new());
    for attribute in name.iter_attributes() {
        let text = attribute.as_str().map_err(|_| Denial::Subject)?;
        if *attribute.attr_type() == oid_registry::OID_X509_ORGANIZATION_NAME {
            organizations.push(text);
        } else if *attribute.attr_type() == oid_registry::OID_X509_COMMON_NAME {
            common_names.push(text);
        } else {
            return Err(Denial::Subject);
        }
    }
    match (organizations.as_slice(), common_names.as_slice()) {
        ([NODES_GROUP], [name]) => name
            .strip_prefix(KUBELET_USER_PREFIX)
            .and_then(|name| name.parse().ok())
            .ok_or(Denial::Subject),
        _ => Err(Denial::Subject),
    }
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

fn check_names(
    request: &KubeletRequest,
    serving: bool,
    identity: &NodeIdentity,
) -> Result<(), Denial> {
    if request.other_names {
        return Err(Denial::AlternativeName(
            "neither DNS name nor IPv4 address".to_owned(),
        ));
    }
    let own = [IpAddr::V4(identity.mesh_ip), IpAddr::V4(identity.node_ip)];
    let foreign_dns = request
        .dns
        .iter()
        .find(|name| !serving || name.as_str() != identity.name.as_str());
    let foreign_ip = request.ips.iter().find(|ip| !serving || !own.contains(ip));
    if let Some(name) = foreign_dns
        .cloned()
        .or_else(|| foreign_ip.map(ToString::to_string))
    {
        return Err(Denial::AlternativeName(shown(&name)));
    }
    if serving && request.dns.is_empty() && request.ips.is_empty() {
        return Err(Denial::NoAlternativeName);
    }
    Ok(())
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests;
