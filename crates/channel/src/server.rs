//! The side that is connected to: a node that is to be made part of a cluster or recovered, or a join service.
//!
//! A server always proves itself. How many handshakes it works on at once is `incoming`'s.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use attest::{Issue, Role};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::{
    DEADLINE, Error,
    admission::Admission,
    attested::Attested,
    exchange::{Party, Side},
    incoming::Limits,
    tls::{self, ClientCertificate, Identity, SetupError},
    verifier::{AsksNothing, Demand, Verifier},
};

/// Accepts attested channels. The constructors are the uses of the channel there are; each fixes who proves what. One value is
/// one start: its TLS key is made with it.
#[derive(Clone)]
pub struct Server<D> {
    role: Role,
    client: Role,
    issuer: Arc<dyn Issue>,
    demand: D,
    acceptor: TlsAcceptor,
    public_key: Arc<[u8]>,
    deadline: Duration,
    limits: Limits,
}

impl Server<AsksNothing> {
    /// For init and recover: a node that proves itself to an administrator's program. What the program sends inside decides
    /// whether it is the administrator's.
    ///
    /// # Errors
    /// When no key or configuration can be made.
    pub fn node(issuer: Arc<dyn Issue>) -> Result<Self, SetupError> {
        Self::new(Role::Node, Role::Cli, issuer, AsksNothing)
    }
}

impl Server<Verifier> {
    /// For join and rejoin: a join service and a node prove themselves to one another.
    ///
    /// # Errors
    /// When no key or configuration can be made.
    pub fn join_service(issuer: Arc<dyn Issue>, verifier: Verifier) -> Result<Self, SetupError> {
        Self::new(Role::JoinService, Role::Node, issuer, verifier)
    }
}

impl<D: Demand> Server<D> {
    fn new(
        role: Role,
        client: Role,
        issuer: Arc<dyn Issue>,
        demand: D,
    ) -> Result<Self, SetupError> {
        Self::with_identity(role, client, issuer, demand, &Identity::fresh()?)
    }

    pub(crate) fn with_identity(
        role: Role,
        client: Role,
        issuer: Arc<dyn Issue>,
        demand: D,
        identity: &Identity,
    ) -> Result<Self, SetupError> {
        let certificate = if D::ASKS {
            ClientCertificate::Demanded
        } else {
            ClientCertificate::NotAsked
        };
        let config = tls::server_config(identity, certificate)?;
        Ok(Self {
            role,
            client,
            issuer,
            demand,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            public_key: identity.public_key().into(),
            deadline: DEADLINE,
            limits: Limits::default(),
        })
    }

    /// Gives up earlier than the protocol demands.
    #[must_use]
    pub fn with_deadline(self, deadline: Duration) -> Self {
        Self {
            deadline: deadline.min(DEADLINE),
            ..self
        }
    }

    /// Other bounds for [`crate::tonic::incoming`].
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    pub(crate) const fn limits(&self) -> Limits {
        self.limits
    }

    /// Attests over a connection that there is already.
    ///
    /// # Errors
    /// When anything keeps it from being an attested one; it is closed then.
    pub async fn accept<S>(&self, stream: S) -> Result<Attested<S, D::Proof>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        self.accept_from(stream, None, Admission::default()).await
    }

    pub(crate) async fn accept_from<S>(
        &self,
        stream: S,
        address: Option<SocketAddr>,
        admission: Admission,
    ) -> Result<Attested<S, D::Proof>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let until = Instant::now() + self.deadline;
        let attested = async {
            let stream = self
                .acceptor
                .accept(stream)
                .await
                .map_err(Error::Handshake)?;
            let party = Party {
                side: Side::Server,
                role: self.role,
                peer_role: self.client,
                issuer: Some(Arc::clone(&self.issuer)),
                demand: self.demand.clone(),
                public_key: Some(&self.public_key),
                admission,
                until,
            };
            party.attest(TlsStream::Server(stream), address).await
        };
        timeout_at(until, attested)
            .await
            .map_err(|_| Error::Deadline(self.deadline))?
    }
}

impl<D> fmt::Debug for Server<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("role", &self.role)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
