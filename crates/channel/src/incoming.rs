//! A listener's attested connections, as a stream.
//!
//! Handshakes run concurrently and within bounds ([`Limits`]); one that fails is logged and forgotten, so the stream has no
//! errors. Connections are accepted as they come: what is over the bounds is decided by who has shown something, not by who was first.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use tokio_stream::Stream;
use tracing::{debug, warn};

use crate::{
    Error,
    admission::{Admission, Finished, Seat, Seats, Source, Unfinished, acquire},
    attested::Attested,
    server::Server,
    verifier::Demand,
};

/// Bounds of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Unfinished handshakes at once whose peer has said hello; further ones wait.
    pub handshakes: usize,
    /// The same of one IPv4 address or IPv6 /64. Four times as many are kept, whose hellos wait for each other in their order.
    pub handshakes_per_source: usize,
    /// Connections at once, finished and unfinished.
    pub connections: usize,
    /// Connections at once of one IPv4 address or IPv6 /64 that are finished, or lack only what the peer owes. Those that are finished are
    /// not ended for others.
    pub connections_per_source: usize,
    /// How long a finished connection lives, whatever it does, unless a handler lets it stay: [`crate::Peer::may_stay`].
    pub age: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshakes: 64,
            handshakes_per_source: 16,
            connections: 1024,
            connections_per_source: 64,
            age: Duration::from_secs(150),
        }
    }
}

/// What becomes of a handshake.
#[derive(Clone, Copy, Debug)]
pub enum Handshake<'a> {
    /// It began.
    Begun,
    /// It ended with an attested connection.
    Attested,
    /// It ended without one.
    Failed(&'a Error),
    /// It was given up, because others wait, its source has too many, or nobody wants connections any more.
    GivenUp,
}

/// Is told about every handshake of a listener, for metrics and events. It decides nothing, and must not block.
pub type Observer = Arc<dyn Fn(SocketAddr, Handshake<'_>) + Send + Sync>;

/// One handshake under observation: every `Begun` has its end, also when the task is aborted.
struct Observed {
    observer: Observer,
    address: SocketAddr,
    ended: bool,
}

impl Observed {
    fn begin(observer: Observer, address: SocketAddr) -> Self {
        observer(address, Handshake::Begun);
        Self {
            observer,
            address,
            ended: false,
        }
    }

    fn end(mut self, how: Handshake<'_>) {
        self.ended = true;
        (self.observer)(self.address, how);
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        if !self.ended {
            (self.observer)(self.address, Handshake::GivenUp);
        }
    }
}

/// After an `accept` that failed for want of descriptors or memory.
const PAUSE: Duration = Duration::from_millis(100);

/// The attested connections of a listener. Dropping it closes the listener and ends every unfinished handshake.
pub struct Incoming<P> {
    attested: mpsc::Receiver<Attested<TcpStream, P>>,
    listener: JoinHandle<()>,
}

impl<P: Send + 'static> Incoming<P> {
    /// Starts to accept.
    pub(crate) fn new<D: Demand<Proof = P>>(
        listener: TcpListener,
        server: Server<D>,
        observer: Observer,
    ) -> Self {
        // One: what nobody takes still counts as a connection, so a service that is behind stops accepting.
        let (sender, attested) = mpsc::channel(1);
        Self {
            attested,
            listener: tokio::spawn(accept(listener, server, sender, observer)),
        }
    }
}

impl<P> Drop for Incoming<P> {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl<P> Stream for Incoming<P> {
    type Item = io::Result<Attested<TcpStream, P>>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.attested.poll_recv(context).map(|next| next.map(Ok))
    }
}

async fn accept<D: Demand>(
    listener: TcpListener,
    server: Server<D>,
    sender: mpsc::Sender<Attested<TcpStream, D::Proof>>,
    observer: Observer,
) {
    let limits = server.limits();
    let connections = Arc::new(Semaphore::new(limits.connections));
    let handshakes = Arc::new(Semaphore::new(limits.handshakes));
    let (unfinished, finished) = (Unfinished::default(), Finished::default());
    // Dropped with this task, and everything in it with it.
    let mut tasks = JoinSet::new();
    loop {
        let (stream, address) = loop {
            match listener.accept().await {
                Ok(accepted) => break accepted,
                Err(error) => {
                    warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot accept a connection"
                    );
                    // where descriptors are short, a silent peer's is given to one that may say something
                    make_room(&unfinished, &finished);
                    sleep(PAUSE).await;
                }
            }
        };
        while tasks.try_join_next().is_some() {}
        if connections.available_permits() == 0 {
            make_room(&unfinished, &finished);
        }
        let connection = acquire(&connections).await;

        let source = Source::from(address);
        let observed = Observed::begin(observer.clone(), address);
        let Some(place) = unfinished.enter(source, limits.handshakes_per_source) else {
            continue;
        };
        let seats = Seats {
            finished: finished.clone(),
            source,
            bound: limits.connections_per_source,
        };
        let admission = Admission::new(place, Arc::clone(&handshakes), seats);
        let (server, sender) = (server.clone(), sender.clone());
        tasks.spawn(async move {
            let attested = tokio::select! {
                biased;
                () = admission.evicted() => return,
                attested = handshake(&server, stream, address, admission.clone(), observed) => attested,
            };
            if let Some((attested, seat)) = attested {
                // An error means that nobody wants connections any more.
                let _delivered = sender.send(attested.counted(connection, seat, limits.age)).await;
            }
        });
    }
}

/// Ends the connection that is worth the least, if one makes room.
fn make_room(unfinished: &Unfinished, finished: &Finished) {
    if !unfinished.make_room() {
        finished.make_room();
    }
}

async fn handshake<D: Demand>(
    server: &Server<D>,
    stream: TcpStream,
    address: SocketAddr,
    admission: Admission,
    observed: Observed,
) -> Option<(Attested<TcpStream, D::Proof>, Seat)> {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(peer = %address, error = &error as &dyn std::error::Error, "cannot set TCP_NODELAY");
    }
    match server
        .accept_from(stream, Some(address), admission.clone())
        .await
    {
        Ok(attested) => {
            // none: it made room in this very moment
            let seat = admission.finish()?;
            observed.end(Handshake::Attested);
            Some((attested, seat))
        }
        Err(error @ Error::TooMany) => {
            warn!(peer = %address, "{error}");
            None
        }
        Err(error) => {
            observed.end(Handshake::Failed(&error));
            // A refusal is logged with its whole tree where it was found.
            if matches!(error, Error::Refused(_)) {
                return None;
            }
            warn!(
                target: "attestation",
                peer = %address,
                error = &error as &dyn std::error::Error,
                "no attested channel"
            );
            None
        }
    }
}
