//! The way of a node's certificates: by its bootstrap token until it has one, by its own certificate afterwards, for nobody else.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use k8s::{
    api,
    control_plane::Service as Program,
    files::SecretText,
    identities,
    pki::{Credential, IssuedLeaf},
};
use k8s_openapi::{
    ByteString,
    api::{
        certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
        core::v1::{Node, Secret},
    },
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, PostParams},
};
use proto::join::{IssueJoinTicketRequest, IssueRejoinTicketRequest, api_client::ApiClient};
use rcgen::{CertificateParams, KeyPair, SanType};
use testkit::boot::Image;
use testkit::kubelet::{self, CLIENT, SERVING};

use crate::service::{Machine, Service, request};

const TOKEN: &str = "constellation.edgeless.systems/bootstrap-token-id";
/// What `deploy/join-service.yaml` gives the pod, in MiB.
const MEMORY_LIMIT: u64 = 192;
const CERTIFICATES: &str = "constellation.edgeless.systems/kubelet-certificates";

/// Asks for a kubelet's certificate for `node`, and gives the key back.
async fn ask(
    client: &Client,
    name: &str,
    node: &str,
    signer: &str,
    alternative: &[SanType],
) -> String {
    let (request, key) = kubelet::certificate_request(name, node, signer, alternative).unwrap();
    Api::all(client.clone())
        .create(&PostParams::default(), &request)
        .await
        .unwrap();
    key.serialize_pem()
}

async fn ask_for_client(client: &Client, name: &str, node: &str) -> String {
    ask(client, name, node, CLIENT, &[]).await
}

/// What became of a request.
async fn verdict(service: &Service, name: &str) -> (String, String) {
    let requests = Api::<CertificateSigningRequest>::all(service.cluster.agent().await.unwrap());
    service
        .eventually("the request is settled", || async {
            let condition = requests
                .get(name)
                .await
                .unwrap()
                .status?
                .conditions?
                .into_iter()
                .next()?;
            Some((condition.type_, condition.message.unwrap_or_default()))
        })
        .await
}

async fn assert_verdict(service: &Service, name: &str, kind: &str) {
    let (is, message) = verdict(service, name).await;
    assert_eq!(is, kind, "{name}: {message}");
}

/// The certificate that was approved and signed for a request.
async fn signed(service: &mut Service, name: &str) -> String {
    assert_verdict(service, name, "Approved").await;
    let requests = Api::<CertificateSigningRequest>::all(service.cluster.agent().await.unwrap());
    let begun = Instant::now();
    loop {
        let status = requests.get(name).await.unwrap().status;
        if let Some(certificate) = status.and_then(|status| status.certificate) {
            return String::from_utf8(certificate.0).unwrap();
        }
        let control_plane = &mut service.cluster.control_plane;
        control_plane.check_alive().unwrap();
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "{name} is not signed: {}",
            control_plane.log(Program::ControllerManager)
        );
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn by_token(service: &Service, token: &str) -> Client {
    let token = SecretText::new(token.to_owned());
    let credential = Credential::Token(&token);
    let kubeconfig = service.cluster.control_plane.kubeconfig(credential);
    api::client_from(&kubeconfig).await.unwrap()
}

async fn by_certificate(service: &Service, certificate_pem: String, key_pem: String) -> Client {
    let leaf = IssuedLeaf {
        certificate_pem,
        key_pem: SecretText::new(key_pem),
    };
    let credential = Credential::Embedded(&leaf);
    let kubeconfig = service.cluster.control_plane.kubeconfig(credential);
    api::client_from(&kubeconfig).await.unwrap()
}

/// A client whose requests say which certificate they were made with, as API servers say since 1.32: an administrator in the node's name.
async fn seen_with(service: &Service, certificate_pem: &str) -> Client {
    let der = pem::parse(certificate_pem).unwrap().into_contents();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    let kubeconfig = service.cluster.control_plane.agent_kubeconfig();
    let kubeconfig = kube::config::Kubeconfig::read_from(kubeconfig).unwrap();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &Default::default())
        .await
        .unwrap();
    for (header, value) in [
        ("impersonate-user", "system:node:worker-10".to_owned()),
        ("impersonate-group", "system:nodes".to_owned()),
        (
            "impersonate-extra-authentication.kubernetes.io%2fcredential-id",
            format!("X509SHA256={}", hex::encode(hash)),
        ),
    ] {
        let value = value.parse().unwrap();
        config.headers.push((header.parse().unwrap(), value));
    }
    Client::try_from(config).unwrap()
}

async fn record(service: &Service, name: &str) -> identities::NodeIdentity {
    let workers = service.workers().await;
    workers
        .into_iter()
        .find(|record| record.name_any() == name)
        .unwrap()
}

#[tokio::test]
async fn a_token_is_good_for_its_own_node_only() {
    let image = Image::default();
    let service = Service::start(&image).await.unwrap();
    let (first, second) = (Machine::boot(&image), Machine::boot(&image));
    let ticket = service.join(&first, request(10)).await.unwrap();
    service.join(&second, request(11)).await.unwrap();
    let node = by_token(&service, &ticket.token).await;

    for (name, other) in [
        ("for-another", "worker-11"),
        ("for-the-control-plane", "control-plane-0"),
        ("for-nobody", "worker-99"),
    ] {
        ask_for_client(&node, name, other).await;
        assert_verdict(&service, name, "Denied").await;
    }
    let own = [SanType::DnsName("worker-10".try_into().unwrap())];
    ask(&node, "for-serving", "worker-10", SERVING, &own).await;
    assert_verdict(&service, "for-serving", "Denied").await;
    ask_for_client(&node, "its-own", "worker-10").await;
    assert_verdict(&service, "its-own", "Approved").await;
}

#[tokio::test]
async fn a_node_that_has_no_certificate_yet_may_ask_once_more() {
    let image = Image::default();
    let service = Service::start(&image).await.unwrap();
    let machine = Machine::boot(&image);
    let ticket = service.join(&machine, request(10)).await.unwrap();
    let node = by_token(&service, &ticket.token).await;
    ask_for_client(&node, "one", "worker-10").await;
    assert_verdict(&service, "one", "Approved").await;
    // Its kubelet stopped before it had fetched that one, and makes a new key.
    ask_for_client(&node, "other", "worker-10").await;
    assert_verdict(&service, "other", "Approved").await;

    // Its machine was reset as well, so disk and key in the mesh are new: it is the same machine, and has never been a member.
    let afresh = IssueJoinTicketRequest {
        disk_uuid: request(12).disk_uuid,
        wireguard_public_key: vec![12; 32],
        ..request(10)
    };
    let again = service.join(&machine, afresh).await.unwrap();
    assert_eq!(again.mesh_ip, ticket.mesh_ip);
    ask_for_client(&node, "by-the-first-token", "worker-10").await;
    assert_verdict(&service, "by-the-first-token", "Denied").await;
    let node = by_token(&service, &again.token).await;
    ask_for_client(&node, "by-the-second-token", "worker-10").await;
    assert_verdict(&service, "by-the-second-token", "Approved").await;
}

#[tokio::test]
async fn a_recorded_node_gets_its_certificates_and_nobody_elses() {
    let image = Image::default();
    let mut service = Service::start(&image).await.unwrap();
    let controllers = Program::ControllerManager;
    service.cluster.control_plane.spawn(controllers).unwrap();
    let machine = Machine::boot(&image);
    let ticket = service.join(&machine, request(10)).await.unwrap();
    let joining = by_token(&service, &ticket.token).await;

    // The first certificate, by token; another signer's request is not this service's business.
    let key = ask_for_client(&joining, "first", "worker-10").await;
    let user = "kubernetes.io/kube-apiserver-client";
    ask(&joining, "user", "worker-10", user, &[]).await;
    let certificate = signed(&mut service, "first").await;
    assert_lives_a_day(&certificate);
    assert!(
        record(&service, "worker-10")
            .await
            .annotations()
            .contains_key(TOKEN),
        "the node may not have fetched its certificate"
    );

    // The node is itself and nobody else.
    let kubelet = by_certificate(&service, certificate, key).await;
    let nodes = Api::<Node>::all(kubelet.clone());
    for (name, allowed) in [("worker-10", true), ("worker-11", false)] {
        let node = Node {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            ..Node::default()
        };
        let created = nodes.create(&PostParams::default(), &node).await;
        assert_eq!(created.is_ok(), allowed, "{name}: {created:?}");
    }

    // Serving: its own name and its address in the mesh.
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let ip = |text: &str| SanType::IpAddress(text.parse::<IpAddr>().unwrap());
    for (name, alternative) in [
        (
            "the-api",
            vec![dns("worker-10"), dns("kubernetes.default.svc")],
        ),
        (
            "the-hosts-address",
            vec![dns("worker-10"), ip("10.42.2.10")],
        ),
    ] {
        ask(&kubelet, name, "worker-10", SERVING, &alternative).await;
        assert_verdict(&service, name, "Denied").await;
    }
    let own = [dns("worker-10"), ip(&ticket.mesh_ip)];
    ask(&kubelet, "serving", "worker-10", SERVING, &own).await;
    signed(&mut service, "serving").await;

    // With that the node was seen with its certificate: its token is gone, and it has joined.
    let secrets = Api::<Secret>::namespaced(service.cluster.agent().await.unwrap(), api::NAMESPACE);
    let tokens = ListParams::default().fields("type=bootstrap.kubernetes.io/token");
    assert!(secrets.list(&tokens).await.unwrap().items.is_empty());
    let annotations = record(&service, "worker-10").await.annotations().clone();
    assert!(!annotations.contains_key(TOKEN), "{annotations:?}");
    let again = service.join(&machine, request(10)).await.unwrap_err();
    assert_eq!(again.code(), tonic::Code::AlreadyExists, "{again}");

    // Renewal, for itself only; and nothing once its record is gone.
    ask_for_client(&kubelet, "renewal", "worker-10").await;
    signed(&mut service, "renewal").await;
    ask_for_client(&kubelet, "of-the-control-plane", "control-plane-0").await;
    assert_verdict(&service, "of-the-control-plane", "Denied").await;
    identities::api(service.cluster.agent().await.unwrap())
        .delete("worker-10", &DeleteParams::default())
        .await
        .unwrap();
    ask_for_client(&kubelet, "late", "worker-10").await;
    assert_verdict(&service, "late", "Denied").await;

    let requests = Api::<CertificateSigningRequest>::all(service.cluster.agent().await.unwrap());
    let user = requests.get("user").await.unwrap().status;
    let untouched = user.is_none_or(|status| status.conditions.is_none());
    assert!(untouched, "other signers are left alone");
    service.cluster.control_plane.check_alive().unwrap();
}

/// A worker whose certificate ended while it was off: with its disk's key it gets a token for another certificate, for its own name
/// and for minutes; it stays a joined node, and the token ends when it uses the certificate.
#[tokio::test]
async fn a_node_that_was_off_for_too_long_gets_a_certificate_again() {
    let image = Image::default();
    let mut service = Service::start(&image).await.unwrap();
    let controllers = Program::ControllerManager;
    service.cluster.control_plane.spawn(controllers).unwrap();
    let machine = Machine::boot(&image);
    let ticket = service.join(&machine, request(10)).await.unwrap();
    let joining = by_token(&service, &ticket.token).await;
    let key = ask_for_client(&joining, "first", "worker-10").await;
    let first = signed(&mut service, "first").await;
    let kubelet = by_certificate(&service, first, key).await;
    ask_for_client(&kubelet, "seen", "worker-10").await;
    assert_verdict(&service, "seen", "Approved").await;
    let annotations = record(&service, "worker-10").await.annotations().clone();
    assert!(!annotations.contains_key(TOKEN), "{annotations:?}");

    // it reboots, twice: the second token ends the first
    let earlier = rejoin(&service, &machine).await;
    let token = rejoin(&service, &machine).await;
    assert_ne!(earlier, token);
    let secrets = Api::<Secret>::namespaced(service.cluster.agent().await.unwrap(), api::NAMESPACE);
    let tokens = ListParams::default().fields("type=bootstrap.kubernetes.io/token");
    let live = secrets.list(&tokens).await.unwrap().items;
    assert_eq!(live.len(), 1, "{live:?}");
    assert!(
        live[0]
            .name_any()
            .ends_with(token.split('.').next().unwrap())
    );

    // it is a joined node as before: another disk does not come in under its name
    let wiped = IssueJoinTicketRequest {
        disk_uuid: request(12).disk_uuid,
        ..request(10)
    };
    let refused = service.join(&machine, wiped).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::AlreadyExists, "{refused}");

    let rejoining = by_token(&service, &token).await;
    ask_for_client(&rejoining, "another", "control-plane-0").await;
    assert_verdict(&service, "another", "Denied").await;
    let key = ask_for_client(&rejoining, "again", "worker-10").await;
    let again = signed(&mut service, "again").await;
    let kubelet = by_certificate(&service, again, key).await;
    ask_for_client(&kubelet, "seen-again", "worker-10").await;
    assert_verdict(&service, "seen-again", "Approved").await;
    assert!(secrets.list(&tokens).await.unwrap().items.is_empty());
    let annotations = record(&service, "worker-10").await.annotations().clone();
    assert!(
        annotations.keys().all(|key| !key.contains("token-id")),
        "{annotations:?}"
    );
}

/// Whoever has the certificate of a node that was deleted has it for a day. A new machine takes the name meanwhile.
#[tokio::test]
async fn a_deleted_nodes_certificate_gets_nothing_under_a_later_record_of_its_name() {
    let image = Image::default();
    let mut service = Service::start(&image).await.unwrap();
    let controllers = Program::ControllerManager;
    service.cluster.control_plane.spawn(controllers).unwrap();
    let machine = Machine::boot(&image);
    let ticket = service.join(&machine, request(10)).await.unwrap();
    let joining = by_token(&service, &ticket.token).await;
    let key = ask_for_client(&joining, "first", "worker-10").await;
    let old = signed(&mut service, "first").await;
    let gone = by_certificate(&service, old.clone(), key).await;
    ask_for_client(&gone, "renewal", "worker-10").await;
    assert_verdict(&service, "renewal", "Approved").await;
    identities::api(service.cluster.agent().await.unwrap())
        .delete("worker-10", &DeleteParams::default())
        .await
        .unwrap();

    // The new machine has its ticket, and no certificate yet: nobody ends its token.
    let machine = Machine::boot(&image);
    let ticket = service.join(&machine, request(10)).await.unwrap();
    let own = [
        SanType::DnsName("worker-10".try_into().unwrap()),
        SanType::IpAddress(ticket.mesh_ip.parse().unwrap()),
    ];
    ask_for_client(&gone, "too-early", "worker-10").await;
    assert_verdict(&service, "too-early", "Denied").await;
    ask(&gone, "too-early-serving", "worker-10", SERVING, &own).await;
    assert_verdict(&service, "too-early-serving", "Denied").await;
    let annotations = record(&service, "worker-10").await.annotations().clone();
    assert!(annotations.contains_key(TOKEN), "{annotations:?}");
    let joining = by_token(&service, &ticket.token).await;
    let key = ask_for_client(&joining, "new", "worker-10").await;
    let new = signed(&mut service, "new").await;

    // It has one, and an API server that says who asks: the earlier node gets nothing, and the token goes on.
    let gone = seen_with(&service, &old).await;
    ask_for_client(&gone, "late", "worker-10").await;
    assert_verdict(&service, "late", "Denied").await;
    ask(&gone, "late-serving", "worker-10", SERVING, &own).await;
    assert_verdict(&service, "late-serving", "Denied").await;
    let annotations = record(&service, "worker-10").await.annotations().clone();
    assert!(annotations.contains_key(TOKEN), "{annotations:?}");

    // The new one gets what is its own, by name and by certificate, and renews.
    let kubelet = by_certificate(&service, new.clone(), key).await;
    ask(&kubelet, "serving", "worker-10", SERVING, &own).await;
    assert_verdict(&service, "serving", "Approved").await;
    let annotations = record(&service, "worker-10").await.annotations().clone();
    assert!(!annotations.contains_key(TOKEN), "{annotations:?}");
    let mut certificate = new;
    for renewal in ["one", "two", "three"] {
        let kubelet = seen_with(&service, &certificate).await;
        ask_for_client(&kubelet, renewal, "worker-10").await;
        certificate = signed(&mut service, renewal).await;
    }
    ask_for_client(&gone, "later", "worker-10").await;
    assert_verdict(&service, "later", "Denied").await;
}

/// Kubernetes deletes what was signed an hour later; a node asks again after most of a day.
#[tokio::test]
async fn a_certificate_is_taken_down_also_if_its_node_does_not_ask_again() {
    let image = Image::default();
    let mut service = Service::start(&image).await.unwrap();
    let controllers = Program::ControllerManager;
    service.cluster.control_plane.spawn(controllers).unwrap();
    let ticket = service
        .join(&Machine::boot(&image), request(10))
        .await
        .unwrap();
    let joining = by_token(&service, &ticket.token).await;
    ask_for_client(&joining, "first", "worker-10").await;
    let certificate = signed(&mut service, "first").await;
    let service = &service;
    service
        .eventually("the certificate is on the record", || async {
            let record = record(service, "worker-10").await;
            let note = record.annotations().get(CERTIFICATES)?.clone();
            note.starts_with("{\"awaited\":[],\"issued\":[\"")
                .then_some(())
        })
        .await;
    let requests = Api::<CertificateSigningRequest>::all(service.cluster.agent().await.unwrap());
    requests
        .delete("first", &DeleteParams::default())
        .await
        .unwrap();
    let kubelet = seen_with(service, &certificate).await;
    ask_for_client(&kubelet, "renewal", "worker-10").await;
    assert_verdict(service, "renewal", "Approved").await;
}

/// Requests of a megabyte each, more in all than the pod bears, of the kubelets' signer and another: a node comes in meanwhile.
#[tokio::test]
async fn requests_by_the_hundred_take_neither_the_memory_nor_a_nodes_turn() {
    let image = Image::default();
    let service = Service::start(&image).await.unwrap();
    let agent = service.cluster.agent().await.unwrap();
    for number in 0..160 {
        let signer = if number % 2 == 0 {
            "example.com/x"
        } else {
            CLIENT
        };
        large(&agent, &format!("a-{number:03}"), signer).await;
    }
    let machine = Machine::boot(&image);
    let ticket = service.join(&machine, request(10)).await.unwrap();
    let node = by_token(&service, &ticket.token).await;
    ask_for_client(&node, "its-own", "worker-10").await;
    assert_verdict(&service, "its-own", "Approved").await;
    assert_verdict(&service, "a-001", "Denied").await;
    let peak = service.peak_memory();
    assert!(peak < MEMORY_LIMIT, "{peak} MiB");
    // what is selected is what was meant
    let requests = Api::<CertificateSigningRequest>::all(agent);
    let foreign = requests.get("a-000").await.unwrap().status;
    assert!(foreign.is_none_or(|status| status.conditions.is_none()));
}

/// A request with as much before its PEM block as an object may have.
async fn large(client: &Client, name: &str, signer: &str) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::default();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    let mut text = vec![b'\n'; 1 << 20];
    text.extend(pem.into_bytes());
    let request = CertificateSigningRequest {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(text),
            signer_name: signer.to_owned(),
            usages: Some(vec!["client auth".to_owned()]),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    Api::all(client.clone())
        .create(&PostParams::default(), &request)
        .await
        .unwrap();
}

/// Asks for the disk's key again, and gives the token that comes with it.
async fn rejoin(service: &Service, machine: &Machine) -> String {
    let channel = service.connect(machine).await.unwrap();
    let disk_uuid = request(10).disk_uuid;
    let ticket = ApiClient::new(channel)
        .issue_rejoin_ticket(IssueRejoinTicketRequest { disk_uuid })
        .await
        .unwrap();
    ticket.into_inner().bootstrap_token
}

fn assert_lives_a_day(certificate: &str) {
    let (_, block) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).unwrap();
    let end = block.parse_x509().unwrap().validity().not_after.timestamp();
    let life = Duration::from_secs((end - jiff::Timestamp::now().as_second()).unsigned_abs());
    let day = Duration::from_secs(24 * 3600);
    assert!(life <= day && life > day * 9 / 10, "{life:?}");
}

#[tokio::test]
async fn the_token_of_a_lost_ticket_is_worth_nothing() {
    let image = Image::default();
    let service = Service::start(&image).await.unwrap();
    let machine = Machine::boot(&image);
    let lost = service.join(&machine, request(10)).await.unwrap();
    let ticket = service.join(&machine, request(10)).await.unwrap();
    let by_lost = by_token(&service, &lost.token).await;
    ask_for_client(&by_lost, "by-the-lost-one", "worker-10").await;
    assert_verdict(&service, "by-the-lost-one", "Denied").await;
    let by_last = by_token(&service, &ticket.token).await;
    ask_for_client(&by_last, "by-the-last-one", "worker-10").await;
    assert_verdict(&service, "by-the-last-one", "Approved").await;
}

/// What the manifest gives this service: enough to admit nodes, and neither secrets nor other certificates.
#[tokio::test]
async fn the_services_own_token_reads_no_secret_and_approves_for_kubelets_only() {
    let service = Service::shared().await;
    let agent = service.cluster.agent().await.unwrap();
    let path = service.cluster.kubeconfig("join-service").await.unwrap();
    let own = api::client(&path).await.unwrap();
    let forbidden = |error: kube::Error| {
        matches!(&error, kube::Error::Api(status) if status.code == 403)
            .then_some(())
            .ok_or(error)
    };

    for namespace in [api::NAMESPACE, "default", identities::NAMESPACE] {
        let secrets = Api::<Secret>::namespaced(own.clone(), namespace);
        forbidden(secrets.get("any").await.unwrap_err()).unwrap();
        let all = secrets.list(&ListParams::default()).await;
        forbidden(all.map(|_| ()).unwrap_err()).unwrap();
    }

    // Requests for kubelets it may conclude, and does: these are the agent's, which is no node.
    for (name, signer) in [("rbac-client", CLIENT), ("rbac-serving", SERVING)] {
        ask(&agent, name, "worker-10", signer, &[]).await;
        assert_verdict(&service, name, "Denied").await;
    }
    let requests = Api::<CertificateSigningRequest>::all(own);
    for (name, signer) in [
        ("rbac-user", "kubernetes.io/kube-apiserver-client"),
        ("rbac-other", "example.com/other"),
    ] {
        ask(&agent, name, "worker-10", signer, &[]).await;
        let mut request = requests.get(name).await.unwrap();
        let approved = serde_json::json!({
            "conditions": [{ "type": "Approved", "status": "True", "reason": "Test" }],
        });
        request.status = serde_json::from_value(approved).unwrap();
        let outcome = requests
            .replace_subresource("approval", name, &PostParams::default(), &request)
            .await;
        forbidden(outcome.map(|_| ()).unwrap_err()).unwrap();
    }
}
