//! TLS sessions that cannot carry an attested channel. Model: steps 1 and 2.

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SignatureAlgorithm};
use rustls::{
    HandshakeKind, SignatureScheme, SupportedProtocolVersion,
    client::Resumption,
    crypto::aws_lc_rs::{Ticketer, default_provider},
    pki_types::{CertificateDer, PrivateKeyDer},
    sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};

use super::*;
use crate::{SessionError, danger};

/// A client that takes any certificate, as ours does, but is otherwise what rustls makes it.
fn plain_client(version: &'static SupportedProtocolVersion) -> ClientConfig {
    let provider = Arc::new(default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[version])
        .unwrap();
    let mut config = danger::expect_possession_by_server(builder, provider).with_no_client_auth();
    config.alpn_protocols = vec![tls::ALPN.to_vec()];
    config
}

fn plain_server(
    version: &'static SupportedProtocolVersion,
    algorithm: &'static SignatureAlgorithm,
) -> ServerConfig {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let certificate = CertificateParams::default().self_signed(&key).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(key.serialize_der().into()),
        )
        .unwrap();
    config.alpn_protocols = vec![tls::ALPN.to_vec()];
    config
}

/// Our server against TLS with this configuration.
async fn node_meets(config: ClientConfig) -> Accepted<Unproved> {
    meets(node(machine()), config).await
}

async fn meets<D: crate::Demand>(server: Server<D>, config: ClientConfig) -> Accepted<D::Proof> {
    let (left, right) = duplex(BUFFER);
    let client = async {
        let connector = TlsConnector::from(Arc::new(config));
        if let Ok(mut stream) = connector.connect(tls::server_name(), left).await {
            let _end = stream.read_to_end(&mut Vec::new()).await;
        }
    };
    tokio::join!(async { server.accept(right).await }, client).0
}

/// Our client against TLS with this configuration.
async fn admin_meets(config: ServerConfig) -> Accepted<Proved> {
    let (left, right) = duplex(BUFFER);
    let server = async {
        if let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(right).await {
            let _end = stream.read_to_end(&mut Vec::new()).await;
        }
    };
    tokio::join!(async { admin().connect(left).await }, server).0
}

#[tokio::test]
async fn tls_1_2_is_refused() {
    let server = node_meets(plain_client(&TLS12)).await;
    assert!(matches!(server, Err(Error::Handshake(_))), "{server:?}");
    let client = admin_meets(plain_server(&TLS12, &rcgen::PKCS_ECDSA_P256_SHA256)).await;
    assert!(matches!(client, Err(Error::Handshake(_))), "{client:?}");
}

#[tokio::test]
async fn another_protocol_or_none_is_refused() {
    for protocols in [
        vec![],
        vec![b"h2".to_vec()],
        vec![b"constellation-attest/2".to_vec()],
    ] {
        let mut config = plain_client(&TLS13);
        config.alpn_protocols.clone_from(&protocols);
        let server = node_meets(config).await;
        assert!(
            matches!(
                server,
                Err(Error::Handshake(_) | Error::Session(SessionError::Protocol))
            ),
            "{protocols:?}: {server:?}"
        );
        let mut config = plain_server(&TLS13, &rcgen::PKCS_ECDSA_P256_SHA256);
        config.alpn_protocols.clone_from(&protocols);
        let client = admin_meets(config).await;
        assert!(
            matches!(
                client,
                Err(Error::Handshake(_) | Error::Session(SessionError::Protocol))
            ),
            "{protocols:?}: {client:?}"
        );
    }
}

/// Signs with its key whatever the peer has offered, as no honest TLS does.
#[derive(Debug)]
struct Stubborn(Arc<dyn SigningKey>);

impl SigningKey for Stubborn {
    fn choose_scheme(&self, _offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        self.0.choose_scheme(&[
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ED25519,
        ])
    }

    fn algorithm(&self) -> rustls::SignatureAlgorithm {
        self.0.algorithm()
    }
}

/// What a peer shows in the handshake: certificates, and a key that need not be theirs.
fn shown(certificates: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<SingleCertAndKey> {
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let certified = CertifiedKey::new(certificates, Arc::new(Stubborn(key)));
    Arc::new(SingleCertAndKey::from(certified))
}

fn certificate(params: CertificateParams, key: &KeyPair) -> CertificateDer<'static> {
    params.self_signed(key).unwrap().der().clone()
}

/// Both of ours against a peer that shows this: neither gets beyond the handshake.
async fn is_refused_by_both(what: &str, shown: Arc<SingleCertAndKey>) {
    let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth();
    let mut server = server.with_cert_resolver(Arc::clone(&shown) as Arc<_>);
    server.alpn_protocols = vec![tls::ALPN.to_vec()];
    let ours = admin_meets(server).await;
    assert!(matches!(ours, Err(Error::Handshake(_))), "{what}: {ours:?}");

    let provider = Arc::new(default_provider());
    let client = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&TLS13])
        .unwrap();
    let client = danger::expect_possession_by_server(client, provider);
    let mut client = client.with_client_cert_resolver(shown);
    client.alpn_protocols = vec![tls::ALPN.to_vec()];
    let ours = meets(join_service(member()), client).await;
    assert!(matches!(ours, Err(Error::Handshake(_))), "{what}: {ours:?}");
}

#[tokio::test]
async fn a_key_of_another_kind_is_refused() {
    for algorithm in [&PKCS_ED25519, &PKCS_ECDSA_P384_SHA384] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = certificate(CertificateParams::default(), &key);
        is_refused_by_both("another kind", shown(vec![certificate], &key)).await;
    }
}

#[tokio::test]
async fn a_chain_of_certificates_is_refused() {
    let key = KeyPair::generate().unwrap();
    let certificate = certificate(CertificateParams::default(), &key);
    is_refused_by_both("two", shown(vec![certificate.clone(), certificate], &key)).await;
}

#[tokio::test]
async fn a_large_certificate_is_refused() {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["x".repeat(5_000)]).unwrap();
    let certificate = certificate(params, &key);
    is_refused_by_both("large", shown(vec![certificate], &key)).await;
}

#[tokio::test]
async fn a_joining_node_without_a_certificate_is_refused() {
    let (left, right) = duplex(BUFFER);
    let client = async {
        let connector = TlsConnector::from(Arc::new(tls::client_config(None).unwrap()));
        if let Ok(mut stream) = connector.connect(tls::server_name(), left).await {
            let _end = stream.read_to_end(&mut Vec::new()).await;
        }
    };
    let (server, ()) = tokio::join!(async { join_service(member()).accept(right).await }, client);
    assert!(matches!(server, Err(Error::Handshake(_))), "{server:?}");
}

/// The certificate of a machine without its key is worth nothing.
#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let stolen = Identity::fresh().unwrap();
    let stolen_certificate = {
        let (left, right) = duplex(BUFFER);
        let config = tls::server_config(&stolen, ClientCertificate::NotAsked).unwrap();
        let accept = TlsAcceptor::from(Arc::new(config)).accept(right);
        let (raw, _server) = tokio::join!(Raw::client(left, None), accept);
        raw.stream.get_ref().1.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    };
    let own = KeyPair::generate().unwrap();
    is_refused_by_both("stolen", shown(vec![stolen_certificate], &own)).await;
}

#[tokio::test]
async fn a_client_cannot_resume_a_session() {
    let mut config = plain_client(&TLS13);
    config.resumption = Resumption::in_memory_sessions(8);
    let config = Arc::new(config);
    let server = node(machine());
    for _ in 0..2 {
        let (left, right) = duplex(BUFFER);
        let client = async {
            let connector = TlsConnector::from(Arc::clone(&config));
            let stream = connector.connect(tls::server_name(), left).await.unwrap();
            let mut raw = Raw::new(TlsStream::Client(stream), Side::Client, None);
            raw.greet(&hello(Role::Cli, true)).await;
            raw.receive(Kind::Evidence).await;
            raw.send(Kind::Verdict, &accepted()).await;
            raw.stream.get_ref().1.handshake_kind()
        };
        let (server, kind) = tokio::join!(server.accept(right), client);
        assert!(server.is_ok());
        assert_eq!(kind, Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn our_client_does_not_resume_a_session() {
    let mut config = plain_server(&TLS13, &rcgen::PKCS_ECDSA_P256_SHA256);
    config.ticketer = Ticketer::new().unwrap();
    config.send_tls13_tickets = 4;
    let config = Arc::new(config);
    let client = admin();
    for _ in 0..2 {
        let (left, right) = duplex(BUFFER);
        let server = async {
            let stream = TlsAcceptor::from(Arc::clone(&config))
                .accept(right)
                .await
                .unwrap();
            let mut raw = Raw::new(TlsStream::Server(stream), Side::Server, None);
            raw.greet(&hello(Role::Node, false)).await;
            raw.stream.get_ref().1.handshake_kind()
        };
        let (_client, kind) = tokio::join!(client.connect(left), server);
        assert!(
            matches!(
                kind,
                Some(HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest)
            ),
            "{kind:?}"
        );
    }
}

/// The check behind the configuration: a session that was resumed does not carry a channel, on either side.
#[tokio::test]
async fn a_resumed_session_is_refused() {
    let mut client = plain_client(&TLS13);
    client.resumption = Resumption::in_memory_sessions(8);
    let mut server = plain_server(&TLS13, &rcgen::PKCS_ECDSA_P256_SHA256);
    server.ticketer = Ticketer::new().unwrap();
    let (client, server) = (Arc::new(client), Arc::new(server));
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let (left, right) = duplex(16 * BUFFER);
        let (left, right) = tokio::join!(
            TlsConnector::from(Arc::clone(&client)).connect(tls::server_name(), left),
            TlsAcceptor::from(Arc::clone(&server)).accept(right)
        );
        let (mut left, mut right) = (left.unwrap(), right.unwrap());
        right.write_all(b"!").await.unwrap();
        left.read_exact(&mut [0]).await.unwrap();
        let checked = [
            tls::check_session(left.get_ref().1, ClientCertificate::Demanded).map(drop),
            tls::check_session(right.get_ref().1, ClientCertificate::NotAsked).map(drop),
        ];
        kinds.push(left.get_ref().1.handshake_kind().unwrap());
        match kinds.as_slice() {
            [HandshakeKind::Full] => assert!(checked.iter().all(Result::is_ok)),
            [_, HandshakeKind::Resumed] => {
                assert!(
                    checked
                        .iter()
                        .all(|checked| matches!(checked, Err(SessionError::Resumed)))
                );
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(kinds.len(), 2);
}

#[tokio::test]
async fn the_hybrid_key_exchange_is_used() {
    let (client, server) = meet(&admin(), &node(machine())).await;
    drop((client.unwrap(), server.unwrap()));
    let (left, right) = duplex(BUFFER);
    let identity = Identity::fresh().unwrap();
    let (client, server) = tokio::join!(
        Raw::client(left, None),
        Raw::server(right, &identity, ClientCertificate::NotAsked)
    );
    for raw in [client, server] {
        let group = raw
            .stream
            .get_ref()
            .1
            .negotiated_key_exchange_group()
            .unwrap()
            .name();
        assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
    }
}
