//! The exchange against honest peers (`honest`), with what vendors state (`endorsed`), against peers that lie about evidence (`evidence`), that break the protocol
//! (`protocol`), and that bring the wrong TLS session (`session`).

mod endorsed;
mod evidence;
mod honest;
mod protocol;
mod session;
mod wire;

use std::time::Duration;

use attest::Policy;
use rustls::{ClientConfig, ServerConfig};
use testkit::{boot::Image, tee::SoftTpm};
use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::{AsksNothing, Client, Proved, Server, Unproved, Verifier, tls::Identity};
use attest::ClusterMark;

/// Smaller than evidence, so that a side that writes without reading stands still.
const BUFFER: usize = 1024;
/// For tests that wait for it; far longer than an exchange takes.
const SHORT: Duration = Duration::from_secs(1);
pub(super) const CLUSTER: [u8; 32] = [7; 32];

fn machine() -> Arc<SoftTpm> {
    Arc::new(SoftTpm::boot(&Image::default()))
}

fn member() -> Arc<SoftTpm> {
    let machine = machine();
    machine.join(&CLUSTER);
    machine
}

fn policy() -> Arc<Policy> {
    Arc::new(Image::default().policy())
}

fn admin() -> Client {
    Client::admin(Verifier::new(policy(), ClusterMark::NotJoined))
}

fn joining(machine: Arc<SoftTpm>) -> Client {
    Client::joining_node(machine, Verifier::new(policy(), ClusterMark::AnyCluster))
}

fn node(machine: Arc<SoftTpm>) -> Server<AsksNothing> {
    Server::node(machine).unwrap()
}

fn join_service(machine: Arc<SoftTpm>) -> Server<Verifier> {
    Server::join_service(machine, Verifier::new(policy(), ClusterMark::NotJoined)).unwrap()
}

type Accepted<P> = Result<Attested<DuplexStream, P>, Error>;

async fn meet<D: crate::Demand>(
    client: &Client,
    server: &Server<D>,
) -> (Accepted<Proved>, Accepted<D::Proof>) {
    let (left, right) = duplex(BUFFER);
    tokio::join!(client.connect(left), server.accept(right))
}

/// A peer that does by hand whatever a test wants, over a real TLS session.
struct Raw {
    stream: TlsStream<DuplexStream>,
    side: Side,
    own_key: Option<Vec<u8>>,
    frames: [Vec<u8>; 2],
}

impl Raw {
    async fn client(stream: DuplexStream, identity: Option<&Identity>) -> Self {
        Self::client_with(stream, identity, tls::client_config(identity).unwrap()).await
    }

    async fn client_with(
        stream: DuplexStream,
        identity: Option<&Identity>,
        config: ClientConfig,
    ) -> Self {
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector
            .connect(tls::server_name(), stream)
            .await
            .expect("TLS");
        Self::new(TlsStream::Client(stream), Side::Client, identity)
    }

    async fn server(stream: DuplexStream, identity: &Identity, client: ClientCertificate) -> Self {
        Self::server_with(
            stream,
            identity,
            tls::server_config(identity, client).unwrap(),
        )
        .await
    }

    async fn server_with(stream: DuplexStream, identity: &Identity, config: ServerConfig) -> Self {
        let stream = TlsAcceptor::from(Arc::new(config))
            .accept(stream)
            .await
            .expect("TLS");
        Self::new(TlsStream::Server(stream), Side::Server, Some(identity))
    }

    fn new(stream: TlsStream<DuplexStream>, side: Side, identity: Option<&Identity>) -> Self {
        let own_key = identity.map(|identity| identity.public_key().to_vec());
        Self {
            stream,
            side,
            own_key,
            frames: [Vec::new(), Vec::new()],
        }
    }

    /// Sends a hello and reads the peer's, which is returned.
    async fn greet(&mut self, hello: &Hello) -> Hello {
        self.greet_with(&hello.encode()).await
    }

    async fn greet_with(&mut self, body: &[u8]) -> Hello {
        self.send(Kind::Hello, body).await;
        let own = frame::encode(Kind::Hello, body).unwrap();
        let body = self.receive(Kind::Hello).await;
        let (client, server) = self
            .side
            .client_first(own, frame::encode(Kind::Hello, &body).unwrap());
        self.frames = [client, server];
        Hello::parse(&body).expect("a hello of ours")
    }

    async fn send(&mut self, kind: Kind, body: &[u8]) {
        self.send_bytes(&frame::encode(kind, body).unwrap()).await;
    }

    async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the peer reads");
        self.stream.flush().await.expect("the peer reads");
    }

    async fn receive(&mut self, kind: Kind) -> Vec<u8> {
        frame::receive(&mut self.stream, kind)
            .await
            .expect("a frame")
    }

    async fn verdict(&mut self) -> Verdict {
        Verdict::parse(&self.receive(Kind::Verdict).await).expect("a verdict of ours")
    }

    /// Everything that still comes.
    async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // The peer may leave without a farewell; what it sent before is there in any case.
        let _end = self.stream.read_to_end(&mut rest).await;
        rest
    }

    fn transcript(&self) -> [u8; 32] {
        let mut context = Context::new(&SHA256);
        self.frames.iter().for_each(|frame| context.update(frame));
        context.finish().as_ref().try_into().unwrap()
    }

    fn exporter(&self) -> [u8; 64] {
        tls::export(&self.stream, &self.transcript()).unwrap()
    }

    /// Server's and client's.
    fn keys(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        let peer = self
            .stream
            .get_ref()
            .1
            .peer_certificates()
            .map(|certificates| crate::danger::public_key(&certificates[0]).unwrap());
        let (client, server) = self.side.client_first(self.own_key.clone(), peer);
        (server.expect("a server has a certificate"), client)
    }

    /// What an honest attester of `role` in this session would make evidence over.
    fn binding(&self, role: Role) -> Binding {
        let (server, client) = self.keys();
        Binding::for_channel(
            role,
            &self.exporter(),
            &self.transcript(),
            &server,
            client.as_deref(),
        )
    }

    /// Evidence of `machine` over `binding`, as a frame's body.
    fn evidence(machine: &SoftTpm, binding: &Binding) -> Vec<u8> {
        message::encode_evidence(&machine.issue(binding).unwrap())
    }
}

/// A hello that fits the role and what it asks for.
fn hello(role: Role, asks: bool) -> Hello {
    let accepts = if asks {
        vec!["qemu-vtpm".to_owned()]
    } else {
        Vec::new()
    };
    Hello {
        nonce: [3; 32],
        role,
        accepts,
    }
}

fn accepted() -> Vec<u8> {
    Verdict::Accepted.encode()
}

/// The honest administrator against a server by hand: what the administrator gets, and what the server saw.
async fn admin_against<T, F>(
    identity: &Identity,
    server: impl FnOnce(Raw) -> F,
) -> (Accepted<Proved>, T)
where
    F: Future<Output = T>,
{
    client_against(admin(), identity, server).await
}

async fn client_against<T, F>(
    client: Client,
    identity: &Identity,
    server: impl FnOnce(Raw) -> F,
) -> (Accepted<Proved>, T)
where
    F: Future<Output = T>,
{
    let (left, right) = duplex(BUFFER);
    let server =
        async { server(Raw::server(right, identity, ClientCertificate::NotAsked).await).await };
    tokio::join!(async { client.connect(left).await }, server)
}

/// The honest node against a client by hand.
async fn node_against<T, F>(client: impl FnOnce(Raw) -> F) -> (Accepted<Unproved>, T)
where
    F: Future<Output = T>,
{
    node_within(crate::DEADLINE, client).await
}

async fn node_within<T, F>(
    deadline: Duration,
    client: impl FnOnce(Raw) -> F,
) -> (Accepted<Unproved>, T)
where
    F: Future<Output = T>,
{
    let (left, right) = duplex(BUFFER);
    let server = node(machine()).with_deadline(deadline);
    let client = async { client(Raw::client(left, None).await).await };
    tokio::join!(async { server.accept(right).await }, client)
}

/// The honest join service against a client by hand.
async fn join_service_against<T, F>(client: impl FnOnce(Raw) -> F) -> (Accepted<Proved>, T)
where
    F: Future<Output = T>,
{
    join_service_within(crate::DEADLINE, client).await
}

async fn join_service_within<T, F>(
    deadline: Duration,
    client: impl FnOnce(Raw) -> F,
) -> (Accepted<Proved>, T)
where
    F: Future<Output = T>,
{
    let (left, right) = duplex(BUFFER);
    let server = join_service(member()).with_deadline(deadline);
    let identity = Identity::fresh().unwrap();
    let client = async { client(Raw::client(left, Some(&identity)).await).await };
    tokio::join!(async { server.accept(right).await }, client)
}

fn refusal_code<T: std::fmt::Debug>(result: Result<T, Error>) -> attest::RefusalCode {
    match result {
        Err(Error::Refused(refusal)) => refusal.code(),
        other => panic!("not refused: {other:?}"),
    }
}
