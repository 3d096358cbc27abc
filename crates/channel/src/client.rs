//! The side that connects: an administrator's program, or a node that wants to join or rejoin.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use attest::{Issue, Role};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, ToSocketAddrs},
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, TlsStream};

use crate::{
    DEADLINE, Error,
    admission::Admission,
    attested::Attested,
    exchange::{Party, Side},
    tls::{self, Identity},
    verifier::{Proved, Verifier},
};

/// Opens attested channels. The constructors are the uses of the channel there are; each fixes who proves what.
#[derive(Clone)]
pub struct Client {
    role: Role,
    server: Role,
    issuer: Option<Arc<dyn Issue>>,
    verifier: Verifier,
    deadline: Duration,
}

impl Client {
    /// For init and recover: proves nothing, speaks to a node that proves itself.
    #[must_use]
    pub fn admin(verifier: Verifier) -> Self {
        Self {
            role: Role::Cli,
            server: Role::Node,
            issuer: None,
            verifier,
            deadline: DEADLINE,
        }
    }

    /// For join and rejoin: a node and the join service prove themselves to one another.
    #[must_use]
    pub fn joining_node(issuer: Arc<dyn Issue>, verifier: Verifier) -> Self {
        Self {
            role: Role::Node,
            server: Role::JoinService,
            issuer: Some(issuer),
            verifier,
            deadline: DEADLINE,
        }
    }

    /// Gives up earlier than the protocol demands.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self {
            deadline: deadline.min(DEADLINE),
            ..self
        }
    }

    /// Connects by TCP and attests. The deadline covers both.
    ///
    /// # Errors
    /// When there is no connection, or anything keeps it from being an attested one.
    pub async fn dial<A: ToSocketAddrs + fmt::Display>(
        &self,
        address: A,
    ) -> Result<Attested<TcpStream, Proved>, Error> {
        let until = Instant::now() + self.deadline;
        let dialled = async {
            let failed = |source| Error::Connect {
                address: address.to_string(),
                source,
            };
            let stream = TcpStream::connect(&address).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            let peer = stream.peer_addr().map_err(failed)?;
            self.attest(stream, Some(peer), until).await
        };
        timeout_at(until, dialled)
            .await
            .map_err(|_| Error::Deadline(self.deadline))?
    }

    /// Attests over a connection that there is already.
    ///
    /// # Errors
    /// When anything keeps it from being an attested one; it is closed then.
    pub async fn connect<S>(&self, stream: S) -> Result<Attested<S, Proved>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let until = Instant::now() + self.deadline;
        timeout_at(until, self.attest(stream, None, until))
            .await
            .map_err(|_| Error::Deadline(self.deadline))?
    }

    async fn attest<S>(
        &self,
        stream: S,
        address: Option<SocketAddr>,
        until: Instant,
    ) -> Result<Attested<S, Proved>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        // A key per connection: one that leaks says nothing about another connection.
        let identity = match self.issuer {
            Some(_) => Some(Identity::fresh().map_err(Error::Setup)?),
            None => None,
        };
        let config = tls::client_config(identity.as_ref()).map_err(Error::Setup)?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(tls::server_name(), stream)
            .await
            .map_err(Error::Handshake)?;
        let party = Party {
            side: Side::Client,
            role: self.role,
            peer_role: self.server,
            issuer: self.issuer.clone(),
            demand: self.verifier.clone(),
            public_key: identity.as_ref().map(Identity::public_key),
            admission: Admission::default(),
            until,
        };
        party.attest(TlsStream::Client(stream), address).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("role", &self.role)
            .field("verifier", &self.verifier)
            .finish_non_exhaustive()
    }
}
