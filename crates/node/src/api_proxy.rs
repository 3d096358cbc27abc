//! The Kubernetes API on this node's loopback: passes connections on to a control plane that answers, so that kubelet, kube-proxy and
//! the agent outlive any one control plane.
//!
//! A control plane's own API server comes first, then the others through the mesh, in turns. What answers too late or not at all
//! is left out for a moment; a control plane that lost its power sends no end of a connection, so silence ends one as well. One that is
//! not ready ([`health`]) comes after those that are, and its connections end as soon as there is another. Nothing here knows what
//! passes: the clients check the API server's certificate. Like Talos' KubePrism.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
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

mod health;

use health::Health;

/// Connections at once; more wait in the kernel's queue. A node's programs have a few dozen.
const CONNECTIONS: usize = 1024;
/// How long an API server may take to accept.
const CONNECT: Duration = Duration::from_secs(2);
/// How long one that did not is asked last.
const LEFT_OUT: Duration = Duration::from_secs(5);
/// When a silent connection is asked whether the other side is there, and how often.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(2);
/// How long anything, such a question too, may stay without an answer: less than a kubelet takes to renew its lease, and more than one
/// lost handshake costs WireGuard. It stands in for the number of questions (tcp(7), `TCP_USER_TIMEOUT`).
const UNANSWERED: Duration = Duration::from_secs(10);
/// After an `accept` that failed for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Where API servers are, in the order in which they are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Servers {
    own: Option<SocketAddrV4>,
    others: Vec<SocketAddrV4>,
    /// Whose credentials they are asked with whether they are ready.
    kubeconfig: Option<PathBuf>,
}

impl Servers {
    fn all(&self) -> impl Iterator<Item = SocketAddrV4> {
        self.own.into_iter().chain(self.others.iter().copied())
    }
}

/// Tells the proxy where API servers are. Clones tell the same one.
#[derive(Clone, Debug, Default)]
pub struct ApiServers(watch::Sender<Servers>);

impl ApiServers {
    /// Takes the mesh as a node with this role knows it, and the kubeconfig with which it asks whether an API server is ready.
    pub fn follow(&self, role: Role, peers: &[MeshPeer], kubeconfig: PathBuf) {
        let own = match role {
            Role::ControlPlane => Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, API_PORT)),
            Role::Worker => None,
        };
        let others = peers
            .iter()
            .filter(|peer| peer.role == Role::ControlPlane)
            .map(|peer| SocketAddrV4::new(peer.mesh_ip, API_PORT))
            .collect();
        self.set(Servers {
            own,
            others,
            kubeconfig: Some(kubeconfig),
        });
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
        let health = Health::default();
        serving.spawn(health.clone().follow(self.0.subscribe()));
        serving.spawn(serve(listener, self.0.subscribe(), health, CONNECTIONS));
        Ok(serving)
    }
}

async fn serve(
    listener: TcpListener,
    servers: watch::Receiver<Servers>,
    health: Health,
    most: usize,
) {
    let chooser = Arc::new(Chooser::new(servers, health));
    let slots = Arc::new(Semaphore::new(most));
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
            if let Some((server, stream)) = chooser.connect().await {
                tokio::select! {
                    () = pass(client, stream) => {}
                    () = chooser.health.better_elsewhere(server) => {}
                }
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
    health: Health,
    /// Until when a server is asked last.
    left_out: Mutex<Vec<(SocketAddrV4, Instant)>>,
    turn: AtomicUsize,
}

impl Chooser {
    fn new(servers: watch::Receiver<Servers>, health: Health) -> Self {
        Self {
            servers,
            health,
            left_out: Mutex::default(),
            turn: AtomicUsize::new(0),
        }
    }

    async fn connect(&self) -> Option<(SocketAddrV4, TcpStream)> {
        for server in self.order() {
            match timeout(CONNECT, TcpStream::connect(server)).await {
                Ok(Ok(stream)) if notice_silence(&stream).is_ok() => {
                    return Some((server, stream));
                }
                _ => self.leave_out(server),
            }
        }
        None
    }

    /// The own server, the others beginning with another one each time, then those that are not ready, and last those that did not
    /// answer.
    fn order(&self) -> Vec<SocketAddrV4> {
        let Servers {
            own, mut others, ..
        } = self.servers.borrow().clone();
        if !others.is_empty() {
            let first = self.turn.fetch_add(1, Ordering::Relaxed) % others.len();
            others.rotate_left(first);
        }
        let now = Instant::now();
        let mut left_out = self.lock();
        left_out.retain(|(_, until)| *until > now);
        let mut order: Vec<_> = own.into_iter().chain(others).collect();
        // stable: the order stays among equals
        order.sort_by_key(|server| {
            let is_left_out = left_out.iter().any(|(left, _)| left == server);
            (is_left_out, self.health.is_unready(*server))
        });
        order
    }

    fn leave_out(&self, server: SocketAddrV4) {
        self.health.doubt(server);
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
    let unanswered = u32::try_from(UNANSWERED.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(stream, unanswered)
}

#[cfg(test)]
mod tests;
