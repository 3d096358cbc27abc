//! The one form that a kubelet's certificate request has.
//!
//! What is decided about here is read a second and a third time, by the API server and by kube-controller-manager, with Go's parsers;
//! what Go reads is what gets signed. Where two readers differ (text around a PEM block, bytes after the last element that one of
//! them looks for, an attribute that is there twice), a request could be approved as one node's and signed as another's. So a request
//! is accepted only if it is, byte for byte, what this module writes for the values it read: there is no room for anything else.
//!
//! The form is that of Go's `x509.CreateCertificateRequest` and `pem.Encode`, which kubelets use (PKCS#10, RFC 2986).

use std::{fmt, net::Ipv4Addr};

use cluster::{NodeName, identity::KUBELET_USER_PREFIX};
use pem::{EncodeConfig, LineEnding, Pem};
use x509_parser::{
    certification_request::X509CertificationRequest,
    extensions::{GeneralName, ParsedExtension},
    oid_registry,
    prelude::FromDer as _,
    x509::X509Name,
};

use super::{Denial, NODES_GROUP};

/// More than a kubelet's request ever is.
const MAX_REQUEST: usize = 8 << 10;
const PEM_TAG: &str = "CERTIFICATE REQUEST";

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const ATTRIBUTES: u8 = 0xa0;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

const ORGANIZATION: &[u8] = &[0x55, 4, 10];
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 14];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 17];

/// What the PKCS#10 request of a kubelet says.
#[derive(Debug)]
pub struct KubeletRequest {
    /// The node in its subject.
    pub node: NodeName,
    /// The alternative names, in the request's order.
    pub(super) names: Vec<Name>,
}

/// An alternative name of a kind that kubelets ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Dns(String),
    Ip(Ipv4Addr),
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => f.write_str(name),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

impl KubeletRequest {
    /// Reads a PEM request: one block and nothing around it, a P-256 key, a signature by it, the subject of a node, no attribute and no
    /// extension but alternative names.
    ///
    /// # Errors
    /// For everything else, with the reason.
    pub fn parse(pem: &[u8]) -> Result<Self, Denial> {
        if pem.len() > MAX_REQUEST {
            return Err(Denial::Malformed);
        }
        let block = pem::parse(pem).map_err(|_| Denial::Malformed)?;
        let der = block.contents();
        let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
        if pem::encode_config(&Pem::new(PEM_TAG, der), config).as_bytes() != pem {
            return Err(Denial::Malformed);
        }
        let (_, request) =
            X509CertificationRequest::from_der(der).map_err(|_| Denial::Malformed)?;
        if request.verify_signature().is_err() {
            return Err(Denial::Malformed);
        }
        let info = &request.certification_request_info;
        let parsed = Self {
            node: node(&info.subject)?,
            names: names(&request)?,
        };
        let point = &info.subject_pki.subject_public_key.data;
        let signature = &request.signature_value.data;
        // Go writes every name that a node can have as PrintableString; as UTF8String it means the same to every reader.
        let canonical = [PRINTABLE_STRING, UTF8_STRING]
            .into_iter()
            .any(|string| parsed.der(string, point, signature) == der);
        if canonical {
            Ok(parsed)
        } else {
            Err(Denial::Malformed)
        }
    }

    /// The request as a kubelet writes it.
    fn der(&self, string: u8, point: &[u8], signature: &[u8]) -> Vec<u8> {
        let rdn = |kind: &[u8], value: &str| {
            let attribute = [element(OID, kind), element(string, value.as_bytes())];
            element(SET, &element(SEQUENCE, &attribute.concat()))
        };
        let subject = [
            rdn(ORGANIZATION, NODES_GROUP),
            rdn(COMMON_NAME, &self.node.kubelet_user()),
        ];
        let algorithm = [element(OID, EC_PUBLIC_KEY), element(OID, P256)];
        let key = [element(SEQUENCE, &algorithm.concat()), bit_string(point)];
        let info = [
            element(INTEGER, &[0]),
            element(SEQUENCE, &subject.concat()),
            element(SEQUENCE, &key.concat()),
            element(ATTRIBUTES, &self.attributes()),
        ];
        let request = [
            element(SEQUENCE, &info.concat()),
            element(SEQUENCE, &element(OID, ECDSA_WITH_SHA256)),
            bit_string(signature),
        ];
        element(SEQUENCE, &request.concat())
    }

    fn attributes(&self) -> Vec<u8> {
        if self.names.is_empty() {
            return Vec::new();
        }
        let names: Vec<Vec<u8>> = self
            .names
            .iter()
            .map(|name| match name {
                Name::Dns(name) => element(DNS_NAME, name.as_bytes()),
                Name::Ip(address) => element(IP_ADDRESS, &address.octets()),
            })
            .collect();
        let extension = [
            element(OID, SUBJECT_ALT_NAME),
            element(OCTET_STRING, &element(SEQUENCE, &names.concat())),
        ];
        let extensions = element(SEQUENCE, &element(SEQUENCE, &extension.concat()));
        let attribute = [element(OID, EXTENSION_REQUEST), element(SET, &extensions)];
        element(SEQUENCE, &attribute.concat())
    }
}

/// The node of a subject that has exactly the group of nodes and one node's name.
fn node(subject: &X509Name<'_>) -> Result<NodeName, Denial> {
    let (mut organizations, mut common_names) = (Vec::new(), Vec::new());
    for attribute in subject.iter_attributes() {
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

fn names(request: &X509CertificationRequest<'_>) -> Result<Vec<Name>, Denial> {
    let mut names = Vec::new();
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(alternative) = extension else {
            return Err(Denial::Extension);
        };
        for name in &alternative.general_names {
            names.push(match name {
                GeneralName::DNSName(name) => Name::Dns((*name).to_owned()),
                GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
                    .map(|octets| Name::Ip(octets.into()))
                    .map_err(|_| Denial::NameKind)?,
                _ => return Err(Denial::NameKind),
            });
        }
    }
    Ok(names)
}

fn bit_string(bytes: &[u8]) -> Vec<u8> {
    element(BIT_STRING, &[&[0], bytes].concat())
}

/// One element of DER (X.690, 10.1): tag, shortest length, content. Requests are shorter than 64 KiB, and so is what is in them.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, low] = content.len().to_be_bytes();
    let header = match (high, low) {
        (0, ..0x80) => vec![tag, low],
        (0, _) => vec![tag, 0x81, low],
        _ => vec![tag, 0x82, high, low],
    };
    [header.as_slice(), content].concat()
}
