//! The Kubernetes API on this node's loopback: passes connections on to a control plane that answers, so that kubelet, kube-proxy and
//! the agent outlive any one control plane.
//!
//! A control plane's own API server comes first, then the others through the mesh, in turns. What answers too late or not at all
//! is left out for a moment; a control plane that lost its power sends no end of a connection, so silence ends one as well. Nothing here
//! knows what passes: the clients check the API server's certificate. Like Talos' KubePrism.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster::Role;
use cluster::network::{API_PORT, API_PROXY_PORT, MeshPeer};
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Connections at once; more wait in the kernel's queue. A node's programs have a few dozen.
const CONNECTIONS: usize = 1024;
/// How long an API server may take to accept.
const CONNECT: Duration = Duration::from_secs(2);
/// How long one that did not is asked last.
const LEFT_OUT: Duration = Duration::from_secs(5);
/// When a silent connection is asked whether the other side is there, how often, and how many times.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_COUNT: u32 = 3;
/// How long something may be sent without an answer.
const UNANSWERED: Duration = Duration::from_secs(20);
/// After an `accept` that failed for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Where API servers are, in the order in which they are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Servers {
    own: Option<SocketAddrV4>,
    others: Vec<SocketAddrV4>,
}

/// Tells the proxy where API servers are. Clones tell the same one.
#[derive(Clone, Debug, Default)]
pub struct ApiServers(watch::Sender<Servers>);

impl ApiServers {
    /// Takes the mesh as a node with this role knows it.
    pub fn follow(&self, role: Role, peers: &[MeshPeer]) {
        let own = match role {
            Role::ControlPlane => Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, API_PORT)),
            Role::Worker => None,
        };
        let others = peers
            .iter()
            .filter(|peer| peer.role == Role::ControlPlane)
            .map(|peer| SocketAddrV4::new(peer.mesh_ip, API_PORT))
            .collect();
        self.set(Servers { own, others });
    }

    fn set(&self, servers: Servers) {
        self.0.send_if_modified(|known| {
            let changed = *known != servers;
            *known = servers;
            changed
        });
    }

    /// Listens on the node's loopback, and passes connections on until the returned handle is dropped.
    pub async fn listen(&self) -> std::io::Result<JoinSet<()>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, API_PROXY_PORT)).await?;
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, self.0.subscribe()));
        Ok(serving)
    }
}

async fn serve(listener: TcpListener, servers: watch::Receiver<Servers>) {
    let chooser = Arc::new(Chooser::new(servers));
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let slot = Arc::clone(&slots)
            .acquire_owned()
            .await
            .expect("nobody closes this semaphore");
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                tracing::warn!(error = %runtime::chain(&error), "cannot accept a connection to the API");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let chooser = Arc::clone(&chooser);
        connections.spawn(async move {
            if let Some(server) = chooser.connect().await {
                pass(client, server).await;
            }
            drop(slot);
        });
    }
}

async fn pass(mut client: TcpStream, mut server: TcpStream) {
    for stream in [&client, &server] {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(error = %runtime::chain(&error), "cannot set TCP_NODELAY");
        }
    }
    // an error is the end of a connection like any other: its client begins anew
    let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

/// Chooses an API server for a connection.
struct Chooser {
    servers: watch::Receiver<Servers>,
    /// Until when a server is asked last.
    left_out: Mutex<Vec<(SocketAddrV4, Instant)>>,
    turn: AtomicUsize,
}

impl Chooser {
    fn new(servers: watch::Receiver<Servers>) -> Self {
        Self {
            servers,
            left_out: Mutex::default(),
            turn: AtomicUsize::new(0),
        }
    }

    async fn connect(&self) -> Option<TcpStream> {
        for server in self.order() {
            match timeout(CONNECT, TcpStream::connect(server)).await {
                Ok(Ok(stream)) if notice_silence(&stream).is_ok() => return Some(stream),
                _ => self.leave_out(server),
            }
        }
        None
    }

    /// The own server, the others beginning with another one each time, and last those that did not answer.
    fn order(&self) -> Vec<SocketAddrV4> {
        let Servers { own, mut others } = self.servers.borrow().clone();
        if !others.is_empty() {
            let first = self.turn.fetch_add(1, Ordering::Relaxed) % others.len();
            others.rotate_left(first);
        }
        let now = Instant::now();
        let mut left_out = self.lock();
        left_out.retain(|(_, until)| *until > now);
        let (last, mut order): (Vec<_>, Vec<_>) = own
            .into_iter()
            .chain(others)
            .partition(|server| left_out.iter().any(|(left, _)| left == server));
        order.extend(last);
        order
    }

    fn leave_out(&self, server: SocketAddrV4) {
        let mut left_out = self.lock();
        left_out.retain(|(left, _)| *left != server);
        left_out.push((server, Instant::now() + LEFT_OUT));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(SocketAddrV4, Instant)>> {
        // every change is whole wherever it could panic
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn notice_silence(stream: &TcpStream) -> rustix::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_COUNT)?;
    let unanswered = u32::try_from(UNANSWERED.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, unanswered)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let known = ApiServers::default();
        known.set(servers);
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, known.0.subscribe()));
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
    async fn the_list_of_servers_is_followed() {
        let (one, two) = (Server::start("one").await, Server::start("two").await);
        let only = |server: &Server| Servers {
            own: None,
            others: vec![server.address],
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
        })
        .await;
        let begun = Instant::now();
        assert_eq!(reached(address).await, "two");
        assert!(begun.elapsed() < CONNECT + LEFT_OUT);
        // the next one does not wait for it again
        assert_eq!(timeout(CONNECT, reached(address)).await.unwrap(), "two");
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
        known.follow(Role::Worker, &peers);
        let other = SocketAddrV4::new([10, 45, 0, 1].into(), API_PORT);
        let expected = |own| Servers {
            own,
            others: vec![other],
        };
        assert_eq!(*known.0.borrow(), expected(None));
        known.follow(Role::ControlPlane, &peers);
        let own = SocketAddrV4::new(Ipv4Addr::LOCALHOST, API_PORT);
        assert_eq!(*known.0.borrow(), expected(Some(own)));
    }
}
