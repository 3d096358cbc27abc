//! Why there is no attested connection.

use std::{io, time::Duration};

use attest::{IssueError, Refusal, RefusalCode, Role, Variant};
use thiserror::Error;

pub use crate::{
    frame::FrameError,
    message::MessageError,
    tls::{SessionError, SetupError},
};

/// Why there is no attested connection. No byte of application data was sent or taken.
#[derive(Debug, Error)]
pub enum Error {
    /// There is no connection at all.
    #[error("cannot connect to {address}")]
    Connect {
        /// Where to.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The whole exchange has one deadline.
    #[error("the attested channel was not there after {} s", .0.as_secs_f32())]
    Deadline(Duration),
    /// No key or configuration for this connection.
    #[error("cannot prepare the attested channel")]
    Setup(#[source] SetupError),
    /// TLS failed.
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    /// TLS succeeded, but it is not the session this protocol needs.
    #[error("the TLS session cannot carry an attested channel")]
    Session(#[from] SessionError),
    /// A frame is missing, broken or too long.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame does not hold what it should.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The peer is not who belongs at the other end.
    #[error("the peer is a {actual}, expected a {expected}")]
    Role {
        /// Who belongs there.
        expected: Role,
        /// Who is there.
        actual: Role,
    },
    /// The peer demands what this side does not have, or does without what this side must show.
    #[error("the peer's demand for evidence does not fit the roles")]
    Demand,
    /// The peer cannot appraise the evidence of this machine.
    #[error("the peer does not accept {0} evidence")]
    VariantNotAccepted(Variant),
    /// The machine cannot make evidence.
    #[error("cannot make evidence for the peer")]
    Issue(#[source] IssueError),
    /// A thread ended without its result.
    #[error("the attestation work was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
    /// This side refused the peer. The refusal prints as a tree of checks.
    #[error("the peer's evidence is refused ({})", .0.code())]
    Refused(Box<Refusal>),
    /// The peer refused this side. It does not say more; its log does.
    #[error("the peer refused this machine's evidence ({})", match .0 { Some(code) => code.to_string(), None => "a code of a later release".to_owned() })]
    RefusedByPeer(Option<RefusalCode>),
    /// The peer sent more than was due, before it could know that it is accepted.
    #[error("the peer sent data before it was accepted")]
    EarlyData,
    /// The peer's address has as many connections to this listener as one may have.
    #[error("too many connections of one source")]
    TooMany,
    /// gRPC could not be started on the attested connection.
    #[error("cannot start gRPC on the attested connection")]
    Grpc(#[source] tonic::transport::Error),
}

impl Error {
    /// Whether the same call can succeed later although nothing changes here: the peer is not up, overloaded, or the way to it
    /// broke. A refusal or a peer that does not speak the protocol stays what it is.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Deadline(_) | Self::TooMany | Self::Grpc(_) => true,
            Self::Frame(error) => {
                matches!(
                    error,
                    FrameError::Truncated(_) | FrameError::Read { .. } | FrameError::Write { .. }
                )
            }
            // A proxy whose server is not there yet accepts and closes; TLS' own refusals have another kind.
            Self::Handshake(error) => error.kind() != io::ErrorKind::InvalidData,
            Self::Setup(_)
            | Self::Session(_)
            | Self::Message(_)
            | Self::Role { .. }
            | Self::Demand
            | Self::VariantNotAccepted(_)
            | Self::Issue(_)
            | Self::Interrupted(_)
            | Self::Refused(_)
            | Self::RefusedByPeer(_)
            | Self::EarlyData => false,
        }
    }

    /// The complete refusal, if it was this side that refused.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}
