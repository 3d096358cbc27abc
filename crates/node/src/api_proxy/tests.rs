use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// Connections at once in these tests.
const MOST: usize = 8;

/// A server that says its name and then repeats what it hears until it is told that nothing more comes.
struct Server {
    address: SocketAddrV4,
    serving: JoinSet<()>,
}

impl Server {
    async fn start(name: &'static str) -> Self {
        Self::start_at(name, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).await
    }

    async fn start_at(name: &'static str, address: SocketAddrV4) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let SocketAddr::V4(address) = listener.local_addr().unwrap() else {
            panic!("an IPv4 address")
        };
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                connections.spawn(async move {
                    stream.write_all(name.as_bytes()).await.unwrap();
                    let mut heard = Vec::new();
                    if stream.read_to_end(&mut heard).await.is_ok() {
                        let _gone = stream.write_all(&heard).await;
                    }
                });
            }
        });
        Self { address, serving }
    }

    async fn stop(mut self) {
        self.serving.shutdown().await;
    }
}

async fn proxy(servers: Servers) -> (SocketAddr, ApiServers, JoinSet<()>) {
    proxy_with(servers, Health::default()).await
}

async fn proxy_with(servers: Servers, health: Health) -> (SocketAddr, ApiServers, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let known = ApiServers::default();
    known.set(servers);
    let mut serving = JoinSet::new();
    serving.spawn(serve(listener, known.0.subscribe(), health, MOST));
    (address, known, serving)
}

/// The name of the server that a new connection reaches; empty if it is closed.
async fn reached(proxy: SocketAddr) -> String {
    let mut stream = TcpStream::connect(proxy).await.unwrap();
    let mut name = [0; 3];
    match stream.read_exact(&mut name).await {
        Ok(_) => String::from_utf8(name.to_vec()).unwrap(),
        Err(_) => String::new(),
    }
}

#[tokio::test]
async fn the_own_server_is_first_and_the_others_take_turns_without_it() {
    let (own, one, two) = (
        Server::start("own").await,
        Server::start("one").await,
        Server::start("two").await,
    );
    let others = vec![one.address, two.address];
    let (address, _known, _serving) = proxy(Servers {
        own: Some(own.address),
        others,
        ..Servers::default()
    })
    .await;
    for _ in 0..4 {
        assert_eq!(reached(address).await, "own");
    }
    let place = own.address;
    own.stop().await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..4 {
        seen.insert(reached(address).await);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["one", "two"]);

    // all of them gone, and one back: it is asked although it was left out
    one.stop().await;
    two.stop().await;
    assert_eq!(reached(address).await, "");
    let _own = Server::start_at("own", place).await;
    assert_eq!(reached(address).await, "own");
}

#[tokio::test]
async fn a_server_that_was_left_out_is_asked_first_again_after_a_while() {
    let (own, one) = (Server::start("own").await, Server::start("one").await);
    let (address, _known, _serving) = proxy(Servers {
        own: Some(own.address),
        others: vec![one.address],
        ..Servers::default()
    })
    .await;
    let place = own.address;
    own.stop().await;
    assert_eq!(reached(address).await, "one");
    let _own = Server::start_at("own", place).await;
    assert_eq!(reached(address).await, "one", "it is left out");
    tokio::time::pause();
    tokio::time::advance(LEFT_OUT).await;
    tokio::time::resume();
    assert_eq!(reached(address).await, "own");
}

#[tokio::test]
async fn a_server_that_is_not_ready_comes_after_those_that_are_and_its_connections_end() {
    let (own, one) = (Server::start("own").await, Server::start("one").await);
    let health = Health::default();
    let servers = Servers {
        own: Some(own.address),
        others: vec![one.address],
        ..Servers::default()
    };
    let (address, _known, _serving) = proxy_with(servers, health.clone()).await;
    let mut open = TcpStream::connect(address).await.unwrap();
    open.read_exact(&mut [0; 3]).await.unwrap();

    // nobody is better: what is connected stays
    health.set(own.address, Some(false));
    assert_eq!(reached(address).await, "one", "it may be ready");
    timeout(Duration::from_millis(300), open.read(&mut [0; 64]))
        .await
        .expect_err("it is better than none");
    health.set(one.address, Some(false));
    assert_eq!(reached(address).await, "own", "none is ready");
    health.set(one.address, Some(true));
    assert_eq!(reached(address).await, "one");
    let mut rest = [0; 64];
    let ended = timeout(Duration::from_secs(30), open.read(&mut rest)).await;
    assert!(matches!(ended.unwrap(), Ok(0) | Err(_)), "it ends");

    // what does not connect comes after what is not ready
    let (place, other) = (one.address, own.address);
    one.stop().await;
    assert_eq!(reached(address).await, "own");
    let _one = Server::start_at("one", place).await;
    health.set(other, Some(true));
    assert_eq!(reached(address).await, "own");
    health.set(other, None);
    assert_eq!(reached(address).await, "own");
}

#[tokio::test]
async fn one_connection_too_many_waits_until_another_ends() {
    let server = Server::start("own").await;
    let (address, _known, _serving) = proxy(Servers {
        own: Some(server.address),
        others: Vec::new(),
        ..Servers::default()
    })
    .await;
    let mut open = Vec::new();
    for _ in 0..MOST {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.read_exact(&mut [0; 3]).await.unwrap();
        open.push(stream);
    }
    let waiting = reached(address);
    tokio::pin!(waiting);
    timeout(Duration::from_millis(500), &mut waiting)
        .await
        .expect_err("there is no room for it");
    drop(open.pop());
    assert_eq!(waiting.await, "own");
}

#[tokio::test]
async fn the_list_of_servers_is_followed() {
    let (one, two) = (Server::start("one").await, Server::start("two").await);
    let only = |server: &Server| Servers {
        own: None,
        others: vec![server.address],
        ..Servers::default()
    };
    let (address, known, _serving) = proxy(Servers::default()).await;
    assert_eq!(reached(address).await, "", "nobody is known");
    known.set(only(&one));
    assert_eq!(reached(address).await, "one");
    known.set(only(&two));
    assert_eq!(reached(address).await, "two");
}

#[tokio::test]
async fn what_is_sent_arrives_also_after_one_side_is_done() {
    let server = Server::start("own").await;
    let (address, _known, _serving) = proxy(Servers {
        own: Some(server.address),
        others: Vec::new(),
        ..Servers::default()
    })
    .await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let sent: Vec<u8> = (0..1_000_000u32).map(|number| number as u8).collect();
    stream.write_all(&sent).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
    assert_eq!(&heard[..3], b"own");
    assert!(heard[3..] == sent);
}

/// A server whose queue is full, as one behind a mesh whose other end has lost its power: no answer at all.
#[tokio::test]
async fn a_server_that_does_not_answer_is_passed_over() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&silent, 0).unwrap();
    let SocketAddr::V4(place) = silent.local_addr().unwrap() else {
        panic!("an IPv4 address")
    };
    let _queue: Vec<_> = (0..2)
        .map(|_| {
            std::thread::spawn(move || {
                std::net::TcpStream::connect_timeout(&place.into(), Duration::from_secs(1))
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    let server = Server::start("two").await;
    let (address, _known, _serving) = proxy(Servers {
        own: Some(place),
        others: vec![server.address],
        ..Servers::default()
    })
    .await;
    // both wait for it at the same time
    let both = async { tokio::join!(reached(address), reached(address)) };
    let both = timeout(CONNECT + Duration::from_secs(1), both).await;
    assert_eq!(both.unwrap(), ("two".to_owned(), "two".to_owned()));
    // the next one does not wait for it again
    assert_eq!(timeout(CONNECT, reached(address)).await.unwrap(), "two");
}

/// A server that is busy takes connections, and its answers are late: nobody leaves it, and nobody makes it shake hands once more.
#[tokio::test(start_paused = true)]
async fn a_late_answer_is_waited_for_on_one_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let SocketAddr::V4(place) = listener.local_addr().unwrap() else {
        panic!("an IPv4 address")
    };
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut open = Vec::new();
        loop {
            open.push(listener.accept().await);
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    let text = "{apiVersion: v1, kind: Config, current-context: it, \
        clusters: [{name: it, cluster: {server: 'https://127.0.0.1'}}], users: [{name: it, user: {}}], \
        contexts: [{name: it, context: {cluster: it, user: it}}]}";
    std::fs::write(&kubeconfig, text).unwrap();
    let health = Health::default();
    let servers = ApiServers::default();
    servers.set(Servers {
        own: Some(place),
        kubeconfig: Some(kubeconfig),
        ..Servers::default()
    });
    tasks.spawn(health.clone().follow(servers.0.subscribe()));

    tokio::time::sleep(Duration::from_secs(25)).await;
    assert_eq!(taken.load(Ordering::Relaxed), 1);
    assert!(!health.is_unready(place));
    // one that never answers is left in the end
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(health.is_unready(place));
}

#[test]
fn control_planes_are_the_servers() {
    let peer = |index: u16, role| {
        let addresses = cluster::network::AddressPlan::default()
            .node(index)
            .unwrap();
        MeshPeer {
            node_name: format!("node-{index}").parse().unwrap(),
            role,
            public_key: cluster::identity::WireGuardPublicKey::new([7; 32]),
            endpoint: [10, 42, 1, 10].into(),
            mesh_ip: addresses.mesh_ip,
            pod_cidr: addresses.pod_cidr,
        }
    };
    let peers = [peer(1, Role::ControlPlane), peer(2, Role::Worker)];
    let known = ApiServers::default();
    known.follow(Role::Worker, &peers, "worker".into());
    let other = SocketAddrV4::new([10, 45, 0, 1].into(), API_PORT);
    let expected = |own, credentials: &str| Servers {
        own,
        others: vec![other],
        kubeconfig: Some(credentials.into()),
    };
    assert_eq!(*known.0.borrow(), expected(None, "worker"));
    known.follow(Role::ControlPlane, &peers, "agent".into());
    let own = SocketAddrV4::new(Ipv4Addr::LOCALHOST, API_PORT);
    assert_eq!(*known.0.borrow(), expected(Some(own), "agent"));
}
