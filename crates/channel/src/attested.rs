//! The attested connection: the only stream of this crate that carries application data.
//!
//! There is no way to it but a finished exchange (`exchange`, step 7), and its type says what the peer proved.

use std::{
    fmt, io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
};
use tokio_rustls::TlsStream;

use crate::{
    admission::Seat,
    lifetime::{Ending, Lifetime},
    verifier::{Proved, Unproved},
};

/// Who is at the other end. `P` is [`Proved`] or [`Unproved`].
#[derive(Clone)]
pub struct Peer<P> {
    proof: P,
    address: Option<SocketAddr>,
    /// If a listener took the connection.
    lifetime: Option<Lifetime>,
}

impl<P> Peer<P> {
    pub(crate) const fn new(proof: P, address: Option<SocketAddr>) -> Self {
        Self {
            proof,
            address,
            lifetime: None,
        }
    }

    /// Lets its connection reach an age beyond [`crate::Limits::age`], because of what it asked for and showed.
    pub fn may_stay(&self, age: Duration) {
        if let Some(lifetime) = &self.lifetime {
            lifetime.extend(age);
        }
    }

    /// Where the connection comes from or goes to, if it is a TCP connection.
    pub const fn address(&self) -> Option<SocketAddr> {
        self.address
    }
}

impl Peer<Proved> {
    /// What the peer proved.
    pub const fn verified(&self) -> &Proved {
        &self.proof
    }
}

impl Peer<Unproved> {
    /// What the peer proved: nothing.
    pub const fn unproved(&self) -> Unproved {
        self.proof
    }
}

impl<P> fmt::Debug for Peer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A connection whose exchange is finished and accepted. Reads and writes application data.
pub struct Attested<S, P> {
    stream: TlsStream<S>,
    peer: Peer<P>,
    /// Counts the connection for its listener until it is closed: in all, and for its source.
    _slot: Option<(OwnedSemaphorePermit, Seat)>,
    ending: Option<Ending>,
}

impl<S, P> Attested<S, P> {
    /// Model: step 8.
    pub(crate) const fn new(stream: TlsStream<S>, peer: Peer<P>) -> Self {
        Self {
            stream,
            peer,
            _slot: None,
            ending: None,
        }
    }

    pub(crate) fn counted(
        self,
        in_all: OwnedSemaphorePermit,
        of_source: Seat,
        age: Duration,
    ) -> Self {
        let lifetime = Lifetime::begin(age);
        Self {
            _slot: Some((in_all, of_source)),
            ending: Some(Ending::of(lifetime.clone())),
            peer: Peer {
                lifetime: Some(lifetime),
                ..self.peer
            },
            ..self
        }
    }

    /// Who is at the other end.
    pub const fn peer(&self) -> &Peer<P> {
        &self.peer
    }
}

impl<S, P> fmt::Debug for Attested<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attested")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, P: Unpin> AsyncRead for Attested<S, P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // whoever serves a connection reads from it all the time
        if let Some(ending) = &mut self.ending
            && ending.poll(context).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin, P: Unpin> AsyncWrite for Attested<S, P> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
