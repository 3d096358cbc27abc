//! gRPC on attested connections, end to end.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use attest::RefusalCode;
use channel::{Error, Peer, Unproved};
use proto::{
    init::{
        self, InitRequest, InitResponse, InitSuccess, Progress,
        init_response::Kind::{InitSuccess as Success, Progress as Phase},
    },
    join::{
        self, IssueJoinTicketRequest, IssueJoinTicketResponse, IssueRejoinTicketRequest,
        IssueRejoinTicketResponse,
    },
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_stream::iter;
use tonic::{Code, Request, Response, Status, transport};

use crate::{admin, join_service, joining, machine, node, stranger};

#[derive(Clone, Default)]
struct Join {
    calls: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl join::api_server::Api for Join {
    async fn issue_join_ticket(
        &self,
        request: Request<IssueJoinTicketRequest>,
    ) -> Result<Response<IssueJoinTicketResponse>, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let peer = channel::tonic::proved(&request)?;
        let ca_certificate = vec![b'c'; request.get_ref().host_public_key.len()];
        Ok(Response::new(IssueJoinTicketResponse {
            token: peer.verified().ak_id(),
            mesh_ip: peer.address().unwrap().to_string(),
            ca_certificate,
            ..Default::default()
        }))
    }

    async fn issue_rejoin_ticket(
        &self,
        _request: Request<IssueRejoinTicketRequest>,
    ) -> Result<Response<IssueRejoinTicketResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

struct Init;

#[tonic::async_trait]
impl init::api_server::Api for Init {
    type InitStream = tokio_stream::Iter<std::vec::IntoIter<Result<InitResponse, Status>>>;

    async fn init(
        &self,
        request: Request<InitRequest>,
    ) -> Result<Response<Self::InitStream>, Status> {
        let peer = request
            .extensions()
            .get::<Peer<Unproved>>()
            .expect("an attested connection");
        assert_eq!(
            channel::tonic::address::<_, Unproved>(&request),
            peer.address()
        );
        assert_eq!(
            channel::tonic::proved(&request).unwrap_err().code(),
            Code::Unauthenticated
        );
        let phase = Progress {
            phase: request.into_inner().cluster_name,
            ..Default::default()
        };
        let done = InitSuccess {
            cluster_id: vec![1; 32],
            ..Default::default()
        };
        let answers =
            [Phase(phase), Success(done)].map(|kind| Ok(InitResponse { kind: Some(kind) }));
        Ok(Response::new(iter(Vec::from(answers))))
    }
}

async fn serve_join(service: Join) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        transport::Server::builder()
            .add_service(join::api_server::ApiServer::new(service))
            .serve_with_incoming(channel::tonic::incoming(listener, join_service()))
            .await
            .unwrap();
    });
    (address, serving)
}

#[tokio::test]
async fn a_node_gets_its_ticket() {
    let service = Join::default();
    let (address, _serving) = serve_join(service.clone()).await;
    let node = machine();
    let (channel, peer) = channel::tonic::connect(&joining(Arc::clone(&node)), address)
        .await
        .unwrap();
    assert!(peer.verified().has_joined());
    assert_eq!(peer.address(), Some(address));
    let mut client = join::api_client::ApiClient::new(channel);

    // Larger than any window or buffer on the way, several at once.
    let request = IssueJoinTicketRequest {
        host_public_key: vec![b'k'; 1 << 20],
        ..Default::default()
    };
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (mut client, request) = (client.clone(), request.clone());
        calls.spawn(async move {
            client
                .issue_join_ticket(request)
                .await
                .unwrap()
                .into_inner()
        });
    }
    for ticket in calls.join_all().await {
        assert_eq!(ticket.token.len(), 64);
        assert!(ticket.mesh_ip.starts_with("127.0.0.1:"));
        assert_eq!(ticket.ca_certificate, vec![b'c'; 1 << 20]);
    }
    assert_eq!(service.calls.load(Ordering::SeqCst), 4);
    let status = client
        .issue_rejoin_ticket(IssueRejoinTicketRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_refused_node_gets_no_ticket() {
    let service = Join::default();
    let (address, _serving) = serve_join(service.clone()).await;
    let refused = channel::tonic::connect(&joining(stranger()), address).await;
    assert!(
        matches!(
            refused,
            Err(Error::RefusedByPeer(Some(RefusalCode::Measurements)))
        ),
        "{refused:?}"
    );
    assert_eq!(service.calls.load(Ordering::SeqCst), 0);
    // The next one is not held responsible.
    let (channel, _peer) = channel::tonic::connect(&joining(machine()), address)
        .await
        .unwrap();
    join::api_client::ApiClient::new(channel)
        .issue_join_ticket(IssueJoinTicketRequest::default())
        .await
        .unwrap();
    assert_eq!(service.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn an_administrator_initialises_a_node() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _serving = tokio::spawn(
        transport::Server::builder()
            .add_service(init::api_server::ApiServer::new(Init))
            .serve_with_incoming(channel::tonic::incoming(listener, node())),
    );
    let (channel, peer) = channel::tonic::connect(&admin(), address).await.unwrap();
    assert!(!peer.verified().has_joined());
    let request = InitRequest {
        cluster_name: "mini".to_owned(),
        ..Default::default()
    };
    let mut answers = init::api_client::ApiClient::new(channel)
        .init(request)
        .await
        .unwrap()
        .into_inner();
    let Some(Phase(phase)) = answers.message().await.unwrap().unwrap().kind else {
        panic!("a phase")
    };
    assert_eq!(phase.phase, "mini");
    let Some(Success(success)) = answers.message().await.unwrap().unwrap().kind else {
        panic!("a result")
    };
    assert_eq!(success.cluster_id, [1; 32]);
    assert!(answers.message().await.unwrap().is_none());
}

#[tokio::test]
async fn grpc_without_the_channel_reaches_nothing() {
    let service = Join::default();
    let (address, _serving) = serve_join(service.clone()).await;
    let endpoint = transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    if let Ok(channel) = endpoint.connect().await {
        let mut client = join::api_client::ApiClient::new(channel);
        let status = client
            .issue_join_ticket(IssueJoinTicketRequest::default())
            .await
            .unwrap_err();
        assert_ne!(status.code(), Code::Ok);
    }
    assert_eq!(service.calls.load(Ordering::SeqCst), 0);
}

/// The next connection may end at another machine: it takes another attestation.
#[tokio::test]
async fn a_grpc_channel_ends_with_its_connection() {
    let (address, _serving) = serve_join(Join::default()).await;
    // A way to the service that can be cut, and would lead there again.
    let way = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let way_address = way.local_addr().unwrap();
    let (cut, mut is_cut) = tokio::sync::mpsc::channel::<()>(1);
    let opened = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&opened);
    tokio::spawn(async move {
        loop {
            let (mut near, _) = way.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let mut far = TcpStream::connect(address).await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                _ = is_cut.recv() => {}
            }
        }
    });

    let (channel, _peer) = channel::tonic::connect(&joining(machine()), way_address)
        .await
        .unwrap();
    let mut client = join::api_client::ApiClient::new(channel);
    client
        .issue_join_ticket(IssueJoinTicketRequest::default())
        .await
        .unwrap();
    cut.send(()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    for _ in 0..3 {
        assert!(
            client
                .issue_join_ticket(IssueJoinTicketRequest::default())
                .await
                .is_err()
        );
    }
    assert_eq!(opened.load(Ordering::SeqCst), 1);
    // The way is fine; it takes another attestation.
    let (channel, _peer) = channel::tonic::connect(&joining(machine()), way_address)
        .await
        .unwrap();
    let mut client = join::api_client::ApiClient::new(channel);
    client
        .issue_join_ticket(IssueJoinTicketRequest::default())
        .await
        .unwrap();
    assert_eq!(opened.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn nobody_there_is_transient() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = channel::tonic::connect(&admin(), address)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Connect { .. }) && error.is_transient());
}
