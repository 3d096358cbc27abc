use cluster::{Role, admission::Standing};
use k8s_openapi::ByteString;
use proptest::prelude::*;
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair, SanType,
};

mod form;
mod own;

use super::*;
use crate::identities::tests::identity;

/// What a kubelet asks for; tests change one thing at a time.
struct Ask {
    organization: Option<&'static str>,
    common_name: &'static str,
    sans: Vec<SanType>,
    extra: fn(&mut CertificateParams),
    key: KeyPair,
}

fn ask() -> Ask {
    Ask {
        organization: Some("system:nodes"),
        common_name: "system:node:worker-0",
        sans: Vec::new(),
        extra: |_| {},
        key: KeyPair::generate().unwrap(),
    }
}

impl Ask {
    fn pem(self) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(organization) = self.organization {
            params
                .distinguished_name
                .push(DnType::OrganizationName, organization);
        }
        params
            .distinguished_name
            .push(DnType::CommonName, self.common_name);
        params.subject_alt_names = self.sans;
        (self.extra)(&mut params);
        params.serialize_request(&self.key).unwrap().pem().unwrap()
    }

    fn spec(self, user: &str, serving: bool) -> CertificateSigningRequestSpec {
        let group = if user.starts_with("system:node:") {
            NODES_GROUP
        } else {
            tokens::GROUP
        };
        CertificateSigningRequestSpec {
            request: ByteString(self.pem().into_bytes()),
            signer_name: if serving {
                SERVING_SIGNER
            } else {
                CLIENT_SIGNER
            }
            .into(),
            usages: Some(usages(serving)),
            username: Some(user.into()),
            groups: Some(vec![group.into(), "system:authenticated".into()]),
            ..CertificateSigningRequestSpec::default()
        }
    }
}

fn usages(serving: bool) -> Vec<String> {
    vec![
        "digital signature".into(),
        "key encipherment".into(),
        if serving {
            "server auth"
        } else {
            "client auth"
        }
        .into(),
    ]
}

fn facts() -> Facts {
    let worker = Known {
        identity: identity("worker-0", 2, Role::Worker),
        standing: Standing::Joined,
        certificates: Vec::new(),
    };
    Facts {
        nodes: [(worker.identity.name.clone(), worker)].into(),
        tokens: [
            ("abcdef".to_owned(), "worker-0".parse().unwrap()),
            ("bbbbbb".to_owned(), "worker-9".parse().unwrap()),
        ]
        .into(),
    }
}

const TOKEN: &str = "system:bootstrap:abcdef";
const NODE: &str = "system:node:worker-0";

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

fn ip(text: &str) -> SanType {
    SanType::IpAddress(text.parse().unwrap())
}

fn approved(purpose: Purpose) -> Decision {
    Decision::Approve(Approval {
        node: "worker-0".parse().unwrap(),
        purpose,
    })
}

#[test]
fn the_three_certificates_of_a_recorded_node() {
    assert_eq!(
        decide(&ask().spec(TOKEN, false), &facts()),
        approved(Purpose::FirstClient)
    );
    assert_eq!(
        decide(&ask().spec(NODE, false), &facts()),
        approved(Purpose::ClientRenewal)
    );
    let serving = Ask {
        sans: vec![dns("worker-0"), ip("10.45.0.2")],
        ..ask()
    };
    assert_eq!(
        decide(&serving.spec(NODE, true), &facts()),
        approved(Purpose::Serving)
    );
    // newer kubelets leave key encipherment out
    let mut spec = ask().spec(NODE, false);
    spec.usages = Some(vec!["digital signature".into(), "client auth".into()]);
    assert_eq!(decide(&spec, &facts()), approved(Purpose::ClientRenewal));
}

#[test]
fn no_node_can_have_a_name_of_the_control_planes_certificates() {
    let names = crate::pki::NodeNames {
        node_name: "worker-0".parse().unwrap(),
        mesh_ip: [10, 45, 0, 1].into(),
        node_ip: [10, 42, 1, 10].into(),
        api_service_ip: [10, 96, 0, 1].into(),
        api_sans: Vec::new(),
    };
    let now = jiff::Timestamp::now();
    for leaf in crate::pki::Leaf::ALL {
        let params = leaf.params(&names, now, crate::pki::Lifetime::DAY).unwrap();
        for name in params.subject_alt_names {
            let SanType::DnsName(name) = name else {
                continue;
            };
            let can_be_a_nodes = name.as_str().parse::<NodeName>().is_ok();
            let reserved = cluster::admission::RESERVED_NAMES.contains(&name.as_str());
            let own = name.as_str() == "worker-0";
            assert!(!can_be_a_nodes || reserved || own, "{leaf:?}: {name:?}");
        }
    }
}

#[test]
fn other_signers_are_left_alone() {
    for signer in [
        "kubernetes.io/kube-apiserver-client",
        "kubernetes.io/legacy-unknown",
        "example.com/x",
        "",
    ] {
        let mut spec = ask().spec(NODE, false);
        spec.signer_name = signer.into();
        assert_eq!(decide(&spec, &facts()), Decision::NotOurs);
    }
}

#[test]
fn every_way_to_ask_for_more_is_denied() {
    let node = |name: &str| -> NodeName { name.parse().unwrap() };
    let table: Vec<(&str, CertificateSigningRequestSpec, Denial)> = vec![
        (
            "another node, by token",
            Ask {
                common_name: "system:node:worker-9",
                ..ask()
            }
            .spec(TOKEN, false),
            Denial::OtherNode {
                subject: node("worker-9"),
                requestor: node("worker-0"),
            },
        ),
        (
            "another node, by certificate",
            Ask {
                common_name: "system:node:worker-9",
                ..ask()
            }
            .spec(NODE, false),
            Denial::OtherNode {
                subject: node("worker-9"),
                requestor: node("worker-0"),
            },
        ),
        (
            "an unknown token",
            ask().spec("system:bootstrap:zzzzzz", false),
            Denial::UnknownToken("zzzzzz".into()),
        ),
        (
            "a node without a record",
            Ask {
                common_name: "system:node:worker-9",
                ..ask()
            }
            .spec("system:bootstrap:bbbbbb", false),
            Denial::UnknownNode(node("worker-9")),
        ),
        (
            "serving by token",
            Ask {
                sans: vec![dns("worker-0")],
                ..ask()
            }
            .spec(TOKEN, true),
            Denial::ServingByToken,
        ),
        (
            "a user",
            ask().spec("alice", false),
            Denial::Requestor("alice".into()),
        ),
        (
            "masters as well",
            Ask {
                organization: Some("system:masters"),
                ..ask()
            }
            .spec(NODE, false),
            Denial::Subject,
        ),
        (
            "no group",
            Ask {
                organization: None,
                ..ask()
            }
            .spec(NODE, false),
            Denial::Subject,
        ),
        (
            "a user's name",
            Ask {
                common_name: "admin",
                ..ask()
            }
            .spec(NODE, false),
            Denial::Subject,
        ),
        (
            "no node's name",
            Ask {
                common_name: "system:node:../x",
                ..ask()
            }
            .spec(NODE, false),
            Denial::Subject,
        ),
        (
            "another attribute",
            Ask {
                extra: |params| {
                    params
                        .distinguished_name
                        .push(DnType::OrganizationalUnitName, "x")
                },
                ..ask()
            }
            .spec(NODE, false),
            Denial::Subject,
        ),
        (
            "names in a client certificate",
            Ask {
                sans: vec![dns("worker-0")],
                ..ask()
            }
            .spec(NODE, false),
            Denial::AlternativeName("worker-0".into()),
        ),
        (
            "the API's name",
            Ask {
                sans: vec![dns("worker-0"), dns("kubernetes.default.svc")],
                ..ask()
            }
            .spec(NODE, true),
            Denial::AlternativeName("kubernetes.default.svc".into()),
        ),
        (
            "another node's address",
            Ask {
                sans: vec![ip("10.45.0.1")],
                ..ask()
            }
            .spec(NODE, true),
            Denial::AlternativeName("10.45.0.1".into()),
        ),
        (
            "the node's address between the machines, which is the host's word",
            Ask {
                sans: vec![dns("worker-0"), ip("10.42.2.11")],
                ..ask()
            }
            .spec(NODE, true),
            Denial::AlternativeName("10.42.2.11".into()),
        ),
        (
            "an IPv6 address",
            Ask {
                sans: vec![ip("::1")],
                ..ask()
            }
            .spec(NODE, true),
            Denial::NameKind,
        ),
        (
            "a URI",
            Ask {
                sans: vec![SanType::URI("spiffe://x/y".try_into().unwrap())],
                ..ask()
            }
            .spec(NODE, true),
            Denial::NameKind,
        ),
        (
            "serving without a name",
            ask().spec(NODE, true),
            Denial::NoAlternativeName,
        ),
        (
            "extended usages inside the request",
            Ask {
                extra: |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any],
                ..ask()
            }
            .spec(NODE, false),
            Denial::Extension,
        ),
        (
            "another kind of key",
            Ask {
                key: KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(),
                ..ask()
            }
            .spec(NODE, false),
            Denial::Malformed,
        ),
        (
            "another curve",
            Ask {
                key: KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
                ..ask()
            }
            .spec(NODE, false),
            Denial::Malformed,
        ),
    ];
    for (what, spec, denial) in table {
        assert_eq!(decide(&spec, &facts()), Decision::Deny(denial), "{what}");
    }
}

#[test]
fn usages_are_those_of_the_kind() {
    for wrong in [
        vec![],
        usages(true),
        vec!["client auth".to_owned()],
        [usages(false), vec!["server auth".into()]].concat(),
        [usages(false), vec!["cert sign".into()]].concat(),
    ] {
        let mut spec = ask().spec(NODE, false);
        spec.usages = Some(wrong.clone());
        assert_eq!(
            decide(&spec, &facts()),
            Decision::Deny(Denial::Usages(wrong))
        );
    }
}

#[test]
fn a_name_without_its_group_is_nobody() {
    for user in [TOKEN, NODE] {
        let mut spec = ask().spec(user, false);
        spec.groups = Some(vec!["system:authenticated".into()]);
        assert_eq!(
            decide(&spec, &facts()),
            Decision::Deny(Denial::Requestor(user.into()))
        );
    }
}

#[test]
fn a_request_signed_by_another_key_is_malformed() {
    let good = pem::parse(ask().pem()).unwrap().into_contents();
    assert!(KubeletRequest::parse(&block("CERTIFICATE REQUEST", &good)).is_ok());
    let mut der = good.clone();
    // a bit of the signature, which ends the request
    *der.last_mut().unwrap() ^= 1;
    let malformed = |pem: &[u8]| matches!(KubeletRequest::parse(pem), Err(Denial::Malformed));
    assert!(malformed(&block("CERTIFICATE REQUEST", &der)));
    assert!(malformed(&block("CERTIFICATE", &good)));
}

/// A PEM block as Go writes it.
fn block(tag: &str, der: &[u8]) -> Vec<u8> {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new(tag, der), config).into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_changed_request_is_approved(position in any::<usize>(), bit in 0_u8..8, noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        let mut spec = ask().spec(NODE, false);
        let good = pem::parse(&spec.request.0).unwrap().contents().to_vec();
        spec.request = ByteString(noise);
        prop_assert!(matches!(decide(&spec, &facts()), Decision::Deny(_)));

        // one bit of what the signature covers: the first element of the outer sequence
        let (begin, length) = (if good[1] == 0x81 { 3 } else { 2 }, |at: usize| usize::from(good[at]));
        let end = begin + if good[begin + 1] == 0x81 { 3 + length(begin + 2) } else { 2 + length(begin + 1) };
        let mut der = good.clone();
        der[begin + position % (end - begin)] ^= 1 << bit;
        spec.request = ByteString(block("CERTIFICATE REQUEST", &der));
        prop_assert!(matches!(decide(&spec, &facts()), Decision::Deny(_)));

        // any bit: what the signature does not cover may change without changing what is asked for
        let mut der = good.clone();
        der[position % good.len()] ^= 1 << bit;
        spec.request = ByteString(block("CERTIFICATE REQUEST", &der));
        let decision = decide(&spec, &facts());
        prop_assert!(matches!(decision, Decision::Deny(_)) || decision == approved(Purpose::ClientRenewal));
    }
}
