//! gRPC over attested channels.
//!
//! A tonic channel made here is one attested connection. It does not connect again by itself: the next connection may end at
//! another machine, so whoever wants one calls [`connect`] again and looks at its proof.

use std::{
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tonic::transport::{Channel, Endpoint, server::Connected};
use tower::service_fn;

use crate::{
    Error,
    attested::{Attested, Peer},
    client::Client,
    server::Server,
    verifier::{Demand, Proved},
};

pub use crate::incoming::{Handshake, Incoming, Observer};

/// Finds a peer that is gone; the original's interval.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Connects, attests, and starts gRPC: the channel, and what the server proved.
///
/// # Errors
/// When there is no attested connection, or gRPC cannot be started on it.
pub async fn connect<A: ToSocketAddrs + fmt::Display>(
    client: &Client,
    address: A,
) -> Result<(Channel, Peer<Proved>), Error> {
    channel(client.dial(address).await?).await
}

/// Starts gRPC on an attested connection.
///
/// # Errors
/// When gRPC cannot be started.
pub async fn channel(
    attested: Attested<TcpStream, Proved>,
) -> Result<(Channel, Peer<Proved>), Error> {
    let peer = attested.peer().clone();
    let once = Mutex::new(Some(attested));
    let connector = service_fn(move |_| {
        let attested = once.lock().ok().and_then(|mut once| once.take());
        async move {
            attested
                .map(TokioIo::new)
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
        }
    });
    // The name is for the :authority header only.
    let channel = Endpoint::from_static("http://attested.invalid")
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(Error::Grpc)?;
    Ok((channel, peer))
}

/// The attested connections of a listener, for `serve_with_incoming`.
#[must_use]
pub fn incoming<D: Demand>(listener: TcpListener, server: Server<D>) -> Incoming<D::Proof> {
    Incoming::new(listener, server, Arc::new(|_, _| {}))
}

/// As [`incoming`], and tells `observer` about every handshake.
#[must_use]
pub fn incoming_observed<D: Demand>(
    listener: TcpListener,
    server: Server<D>,
    observer: Observer,
) -> Incoming<D::Proof> {
    Incoming::new(listener, server, observer)
}

/// What a gRPC handler finds in the extensions of its request: [`Peer`].
impl<P: Clone + Send + Sync + 'static> Connected for Attested<TcpStream, P> {
    type ConnectInfo = Peer<P>;

    fn connect_info(&self) -> Peer<P> {
        self.peer().clone()
    }
}

/// Who a request of a service with a [`crate::Verifier`] comes from.
///
/// # Errors
/// `Unauthenticated` if the request did not come over an attested channel.
pub fn proved<T>(request: &tonic::Request<T>) -> Result<&Peer<Proved>, tonic::Status> {
    request.extensions().get::<Peer<Proved>>().ok_or_else(|| {
        tonic::Status::unauthenticated("the request did not come over an attested channel")
    })
}

/// Lets the connection of a request reach an age: [`Peer::may_stay`].
pub fn may_stay<T, P: Clone + Send + Sync + 'static>(request: &tonic::Request<T>, age: Duration) {
    if let Some(peer) = request.extensions().get::<Peer<P>>() {
        peer.may_stay(age);
    }
}

/// Where a request of any attested service comes from.
pub fn address<T, P: Clone + Send + Sync + 'static>(
    request: &tonic::Request<T>,
) -> Option<SocketAddr> {
    request
        .extensions()
        .get::<Peer<P>>()
        .and_then(Peer::address)
}
