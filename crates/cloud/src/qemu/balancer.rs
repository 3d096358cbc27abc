//! The load balancer of a local cluster with several control planes: one address of this host for all of them.
//!
//! QEMU's user-mode network accepts for a machine whose program does not listen, so an accepted connection says nothing. Every service
//! behind this port hears its client first: what the client says first is kept until a control plane has answered it, and given to
//! the next one if it does not. Nothing here sees inside TLS; like all of the host it can only keep bytes from arriving.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Seat;

/// The host's loopback address of the load balancer.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 42, 0, 1);

/// Init goes to the first control plane and to no other.
const INIT_PORT: u16 = 9000;
/// API, recovery, verification (gRPC), join.
const SHARED_PORTS: [u16; 4] = [6443, 9999, 30081, 30090];

/// Connections at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 1024;
/// How long a client may take to say something.
const CLIENT: Duration = Duration::from_secs(30);
/// How long a control plane may take to answer it, if there is another one to ask. Emulated machines are slow.
const ANSWER: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(2);
/// What is kept of a client's first words: more than a TLS hello.
const FIRST_WORDS: usize = 16 * 1024;
/// After an `accept` that failed for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Every port, and where it leads.
pub fn ports(control_planes: &[Seat]) -> Vec<(u16, Vec<SocketAddr>)> {
    let at = |port| move |seat: &Seat| SocketAddr::from((seat.host_address(), port));
    let first: Vec<_> = control_planes.iter().take(1).map(at(INIT_PORT)).collect();
    SHARED_PORTS
        .into_iter()
        .map(|port| (port, control_planes.iter().map(at(port)).collect()))
        .chain([(INIT_PORT, first)])
        .collect()
}

/// Serves one port until its future is dropped.
pub async fn serve(listener: TcpListener, servers: Vec<SocketAddr>) -> Infallible {
    let servers: Arc<[SocketAddr]> = servers.into();
    let (slots, turn) = (
        Arc::new(Semaphore::new(CONNECTIONS)),
        Arc::new(AtomicUsize::new(0)),
    );
    let mut connections = JoinSet::new();
    loop {
        let slot = Arc::clone(&slots)
            .acquire_owned()
            .await
            .expect("nobody closes this semaphore");
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let servers = Arc::clone(&servers);
        let first = turn.fetch_add(1, Ordering::Relaxed);
        connections.spawn(async move {
            if let Err(error) = pass(client, &servers, first).await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(slot);
        });
    }
}

/// Finds a server that answers the client's first words, beginning with number `first`.
async fn pass(mut client: TcpStream, servers: &[SocketAddr], first: usize) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut words = vec![0; FIRST_WORDS];
    let length = timeout(CLIENT, client.read(&mut words)).await??;
    words.truncate(length);
    if words.is_empty() {
        return Ok(());
    }
    for tried in 0..servers.len() {
        let Some(server) = servers.get((first + tried) % servers.len()) else {
            break;
        };
        let patience = (tried + 1 < servers.len()).then_some(ANSWER);
        if let Some((mut stream, answer)) = ask(*server, &words, patience).await {
            client.write_all(&answer).await?;
            tokio::io::copy_bidirectional(&mut client, &mut stream).await?;
            return Ok(());
        }
    }
    Ok(())
}

/// A connection to a server, and the beginning of its answer. The last one that is asked has all the time that its client has.
async fn ask(
    server: SocketAddr,
    words: &[u8],
    patience: Option<Duration>,
) -> Option<(TcpStream, Vec<u8>)> {
    let asked = async {
        let mut stream = timeout(CONNECT, TcpStream::connect(server)).await??;
        stream.set_nodelay(true)?;
        stream.write_all(words).await?;
        let mut answer = vec![0; FIRST_WORDS];
        let length = stream.read(&mut answer).await?;
        answer.truncate(length);
        Ok::<_, std::io::Error>((stream, answer))
    };
    let answered = match patience {
        Some(patience) => timeout(patience, asked).await.ok()?,
        None => asked.await,
    };
    answered.ok().filter(|(_, answer)| !answer.is_empty())
}

#[cfg(test)]
mod tests {
    use cluster::Role;

    use super::*;

    /// Answers with its name, and then repeats what it hears.
    async fn server(name: &'static str) -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut heard = [0; 5];
                    stream.read_exact(&mut heard).await.unwrap();
                    stream.write_all(name.as_bytes()).await.unwrap();
                    let (mut from, mut to) = stream.split();
                    let _ended = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        (address, serving)
    }

    /// Accepts and closes, as the user-mode network does for a program that does not listen.
    async fn closes() -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                drop(stream);
            }
        });
        (address, serving)
    }

    async fn balancer(servers: Vec<SocketAddr>) -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut serving = JoinSet::new();
        serving.spawn(async move { match serve(listener, servers).await {} });
        (address, serving)
    }

    async fn reached(balancer: SocketAddr) -> String {
        let mut stream = TcpStream::connect(balancer).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let mut name = [0; 3];
        match stream.read_exact(&mut name).await {
            Ok(_) => String::from_utf8(name.to_vec()).unwrap(),
            Err(_) => String::new(),
        }
    }

    #[tokio::test]
    async fn connections_take_turns_and_pass_over_machines_that_do_not_answer() {
        let ((one, _one), (two, second)) = (server("one").await, server("two").await);
        let (nobody, _nobody) = closes().await;
        let (address, _serving) = balancer(vec![one, nobody, two]).await;
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..6 {
            seen.insert(reached(address).await);
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["one", "two"]);
        drop(second);
        for _ in 0..3 {
            assert_eq!(reached(address).await, "one");
        }
    }

    #[tokio::test]
    async fn what_follows_passes_both_ways() {
        let (one, _one) = server("one").await;
        let (address, _serving) = balancer(vec![one]).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"hello").await.unwrap();
        let sent = vec![7; 1_000_000];
        let (mut from, mut to) = stream.split();
        let (written, heard) = tokio::join!(
            async {
                to.write_all(&sent).await.unwrap();
                to.shutdown().await
            },
            async {
                let mut heard = Vec::new();
                from.read_to_end(&mut heard).await.unwrap();
                heard
            }
        );
        written.unwrap();
        assert!(heard[..3] == *b"one" && heard[3..] == sent);
    }

    #[tokio::test]
    async fn nobody_answers_and_the_connection_ends() {
        let (nobody, _nobody) = closes().await;
        let (address, _serving) = balancer(vec![nobody, nobody]).await;
        assert_eq!(reached(address).await, "");
    }

    #[test]
    fn init_leads_to_the_first_control_plane_only() {
        let seats: Vec<_> = (0..3)
            .map(|index| Seat::new(Role::ControlPlane, index).unwrap())
            .collect();
        for (port, servers) in ports(&seats) {
            assert_eq!(servers.len(), if port == INIT_PORT { 1 } else { 3 });
            let first = SocketAddr::from(([127, 42, 1, 10], port));
            assert_eq!(servers[0], first);
        }
    }
}
