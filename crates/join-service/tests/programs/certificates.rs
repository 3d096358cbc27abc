//! The way of a node's certificates: by its one-time token once, by its own certificate afterwards, for nobody else.

use k8s::{api, files::SecretText, pki::Credential};
use k8s_openapi::{
    ByteString,
    api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{ObjectMeta, PostParams},
};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use testkit::boot::Image;

use crate::service::{Machine, Service, request};

const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// Asks for a kubelet's client certificate for `node`.
async fn ask(client: &Client, name: &str, node: &str) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "system:nodes");
    params
        .distinguished_name
        .push(DnType::CommonName, format!("system:node:{node}"));
    let pem = params
        .serialize_request(&KeyPair::generate().unwrap())
        .unwrap()
        .pem()
        .unwrap();
    let request = CertificateSigningRequest {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        spec: CertificateSigningRequestSpec {
            request: ByteString(pem.into_bytes()),
            signer_name: CLIENT.to_owned(),
            usages: Some(vec![
                "digital signature".to_owned(),
                "client auth".to_owned(),
            ]),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    Api::all(client.clone())
        .create(&PostParams::default(), &request)
        .await
        .unwrap();
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

async fn by_token(service: &Service, token: &str) -> Client {
    let token = SecretText::new(token.to_owned());
    api::client_from(
        &service
            .cluster
            .control_plane
            .kubeconfig(Credential::Token(&token)),
    )
    .await
    .unwrap()
}

#[tokio::test]
async fn a_token_is_good_for_its_own_node_once() {
    let image = Image::default();
    let service = Service::start(&image).await.unwrap();
    let (first, second) = (Machine::boot(&image), Machine::boot(&image));
    let ticket = service.join(&first, request(10)).await.unwrap();
    service.join(&second, request(11)).await.unwrap();
    let node = by_token(&service, &ticket.token).await;

    // For another node, recorded or not: denied, and the token is still good for its own.
    for (name, other) in [
        ("for-another", "worker-11"),
        ("for-the-control-plane", "control-plane-0"),
        ("for-nobody", "worker-99"),
    ] {
        ask(&node, name, other).await;
        let (kind, message) = verdict(&service, name).await;
        assert_eq!(kind, "Denied", "{name}: {message}");
    }
    ask(&node, "its-own", "worker-10").await;
    let (kind, message) = verdict(&service, "its-own").await;
    assert_eq!(kind, "Approved", "{message}");

    // The record says that the token was used and that the node joined: a further request and a second admission are refused.
    ask(&node, "once-more", "worker-10").await;
    let (kind, message) = verdict(&service, "once-more").await;
    assert_eq!(kind, "Denied", "{message}");
    let record = service
        .workers()
        .await
        .into_iter()
        .find(|record| record.name_any() == "worker-10")
        .unwrap();
    assert!(
        !record
            .annotations()
            .contains_key("constellation.edgeless.systems/bootstrap-token-id")
    );
    let again = service.join(&first, request(10)).await.unwrap_err();
    assert_eq!(again.code(), tonic::Code::AlreadyExists, "{again}");
}

#[tokio::test]
async fn a_second_request_with_one_token_is_denied() {
    let image = Image::default();
    let service = Service::start(&image).await.unwrap();
    let machine = Machine::boot(&image);
    let ticket = service.join(&machine, request(10)).await.unwrap();
    let node = by_token(&service, &ticket.token).await;
    // Both are there before either is settled, or the second one finds the token gone: one approval either way.
    let (one, other) = tokio::join!(
        ask(&node, "one", "worker-10"),
        ask(&node, "other", "worker-10")
    );
    let ((), ()) = (one, other);
    let mut kinds = [
        verdict(&service, "one").await.0,
        verdict(&service, "other").await.0,
    ];
    kinds.sort();
    assert_eq!(kinds, ["Approved", "Denied"]);
}

#[tokio::test]
async fn the_token_of_a_lost_ticket_is_worth_nothing() {
    let image = Image::default();
    let service = Service::start(&image).await.unwrap();
    let machine = Machine::boot(&image);
    let lost = service.join(&machine, request(10)).await.unwrap();
    let ticket = service.join(&machine, request(10)).await.unwrap();
    ask(
        &by_token(&service, &lost.token).await,
        "by-the-lost-one",
        "worker-10",
    )
    .await;
    assert_eq!(verdict(&service, "by-the-lost-one").await.0, "Denied");
    ask(
        &by_token(&service, &ticket.token).await,
        "by-the-last-one",
        "worker-10",
    )
    .await;
    assert_eq!(verdict(&service, "by-the-last-one").await.0, "Approved");
}
