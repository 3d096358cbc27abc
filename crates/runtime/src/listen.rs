//! Ports that strangers reach: bounded in connections, in all and per source, and in how long one may stay.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, stream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tonic::transport::server::{Connected, Server, TcpConnectInfo};

/// After an `accept` that failed, most likely for want of descriptors: gives the others time to close.
const PAUSE: Duration = Duration::from_millis(100);
/// A connection that does not end by itself ends after the sum of the two, whatever it does.
const AGE: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const MAX_HEADERS: u32 = 8 * 1024;

/// Whose share a connection or a request counts against: an IPv4 address, or the /64 an IPv6 address is from, since a host has
/// all of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(IpAddr);

impl From<SocketAddr> for Source {
    fn from(address: SocketAddr) -> Self {
        Self(match address.ip().to_canonical() {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        })
    }
}

/// As many of something at once as each source may have; clones count together.
#[derive(Clone)]
pub struct Shares {
    bound: usize,
    taken: Arc<Mutex<HashMap<Source, usize>>>,
}

/// One of a source's share, until it is dropped.
pub struct Share {
    shares: Shares,
    source: Source,
}

impl Shares {
    /// `bound` for each source.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self {
            bound,
            taken: Arc::default(),
        }
    }

    /// One more for a source; nothing, if it has its share.
    #[must_use]
    pub fn take(&self, source: Source) -> Option<Share> {
        let mut taken = self.lock();
        let count = taken.get(&source).copied().unwrap_or_default();
        if count >= self.bound {
            return None;
        }
        taken.insert(source, count + 1);
        Some(Share {
            shares: self.clone(),
            source,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Source, usize>> {
        // Every change is one insert or one remove.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.shares.lock();
        match taken.get_mut(&self.source) {
            Some(count) if *count > 1 => *count -= 1,
            Some(_) | None => drop(taken.remove(&self.source)),
        }
    }
}

/// A listener with a bound: what is over it waits in the kernel's queue.
pub struct BoundedListener {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    shares: Shares,
}

impl BoundedListener {
    /// So many connections at once in all, and of one source.
    #[must_use]
    pub fn new(listener: TcpListener, connections: usize, per_source: usize) -> Self {
        Self {
            listener,
            slots: Arc::new(Semaphore::new(connections)),
            shares: Shares::new(per_source),
        }
    }

    /// The next connection, once there is room for it. One whose source has its share is closed.
    pub async fn accept(&self) -> (Connection, SocketAddr) {
        let slot = Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .expect("nobody closes this semaphore");
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    if let Some(share) = self.shares.take(address.into()) {
                        let counted = (slot, share);
                        let connection = Connection {
                            stream,
                            _counted: counted,
                        };
                        return (connection, address);
                    }
                }
                Err(error) => {
                    tracing::warn!(error = %crate::chain(&error), "cannot accept a connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// The connections as a gRPC server takes them. There is no end and no error.
    pub fn into_incoming(self) -> impl Stream<Item = io::Result<Connection>> {
        stream::unfold(self, |listener| async move {
            let (connection, _address) = listener.accept().await;
            Some((Ok(connection), listener))
        })
    }
}

/// A gRPC server for a port that strangers reach. Without the grace period a connection that sends nothing would stay.
#[must_use]
pub fn public_grpc() -> Server {
    Server::builder()
        .timeout(GRACE)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .max_connection_age(AGE)
        .max_connection_age_grace(GRACE)
        .http2_max_header_list_size(MAX_HEADERS)
}

/// A connection that counts for its listener until it is dropped.
pub struct Connection {
    stream: TcpStream,
    _counted: (OwnedSemaphorePermit, Share),
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpSocket,
    };

    use super::*;

    async fn open(from: &str, to: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket
            .bind(SocketAddr::new(from.parse().unwrap(), 0))
            .unwrap();
        socket.connect(to).await.unwrap()
    }

    #[test]
    fn a_source_is_an_address_or_a_network_of_64_bits() {
        let source = |address: &str| Source::from(address.parse::<SocketAddr>().unwrap());
        assert_eq!(source("10.0.0.1:1"), source("[::ffff:10.0.0.1]:2"));
        assert_ne!(source("10.0.0.1:1"), source("10.0.0.2:1"));
        assert_eq!(
            source("[2001:db8:0:1::1]:1"),
            source("[2001:db8:0:1:f::9]:1")
        );
        assert_ne!(source("[2001:db8:0:1::1]:1"), source("[2001:db8:0:2::1]:1"));
    }

    #[tokio::test]
    async fn connections_over_a_sources_share_are_closed_and_others_get_in() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = Box::pin(BoundedListener::new(listener, 3, 2).into_incoming());
        let _clients = [
            open("127.0.0.2", address).await,
            open("127.0.0.2", address).await,
        ];
        let mut over = open("127.0.0.2", address).await;
        let _other = open("127.0.0.3", address).await;
        let mut served = Vec::new();
        for from in ["127.0.0.2", "127.0.0.2", "127.0.0.3"] {
            let connection = incoming.next().await.unwrap().unwrap();
            let peer = connection.connect_info().remote_addr().unwrap();
            assert_eq!(peer.ip().to_string(), from);
            served.push(connection);
        }
        assert_eq!(over.read(&mut [0]).await.unwrap_or(0), 0, "it is closed");

        // The bound in all is reached: the next one is not accepted until one ends.
        let _next = open("127.0.0.4", address).await;
        let next = incoming.next();
        tokio::pin!(next);
        assert!(futures::poll!(&mut next).is_pending());
        drop(served.pop());
        let connection = next.await.unwrap().unwrap();
        let peer = connection.connect_info().remote_addr().unwrap();
        assert_eq!(peer.ip().to_string(), "127.0.0.4");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_sends_nothing_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = BoundedListener::new(listener, 1, 1);
        let _serving = tokio::spawn(
            public_grpc()
                .add_routes(tonic::service::Routes::default())
                .serve_with_incoming(listener.into_incoming()),
        );
        for begin in [&b""[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
            let mut silent = TcpStream::connect(address).await.unwrap();
            silent.write_all(begin).await.unwrap();
            let mut answer = Vec::new();
            let end = silent.read_to_end(&mut answer);
            let _closed = tokio::time::timeout(2 * (AGE + GRACE), end)
                .await
                .expect("it does not stay");
        }
    }

    #[test]
    fn a_share_is_free_again_when_it_is_dropped() {
        let shares = Shares::new(2);
        let source = Source::from(SocketAddr::from(([10, 0, 0, 1], 1)));
        let (first, second) = (shares.take(source), shares.take(source));
        assert!(first.is_some() && second.is_some() && shares.take(source).is_none());
        drop(first);
        let third = shares.take(source);
        assert!(third.is_some() && shares.take(source).is_none());
        drop((second, third));
        assert!(shares.lock().is_empty());
    }
}
