//! Why an attested machine gets no ticket, and what it is told.
//!
//! The log and the cluster's events have the whole reason; the machine gets a code and a sentence that names no other node.

use std::sync::Arc;

use cluster::admission::{Denial, Unrecognised};
use proto::FieldError;
use tonic::{Code, Status};

use crate::{key_client::KeysError, records::RecordsError, ticket::TicketError};

/// Why there is no ticket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("the request cannot be read")]
    Malformed(#[source] FieldError),
    #[error("the machine may not be this node")]
    Denied(#[source] Denial),
    #[error("the machine is not the node of this disk")]
    Unrecognised(#[source] Unrecognised),
    // Shared by all that were to be admitted in one turn.
    #[error("keep the record of the node")]
    Records(#[source] Arc<RecordsError>),
    #[error("get the node's keys")]
    Keys(#[source] KeysError),
    #[error("make the ticket")]
    Ticket(#[source] TicketError),
}

impl From<RecordsError> for Refusal {
    fn from(error: RecordsError) -> Self {
        Self::Records(Arc::new(error))
    }
}

impl Refusal {
    /// The one table from reasons to what the machine learns.
    pub(crate) fn status(&self) -> Status {
        let (code, text) = match self {
            Self::Malformed(_) => (Code::InvalidArgument, "the request cannot be read"),
            Self::Denied(Denial::AlreadyJoined(_)) => (
                Code::AlreadyExists,
                "this node has joined before; ask the administrator, who sees why",
            ),
            Self::Denied(Denial::EarlierBoot { .. }) => (
                Code::PermissionDenied,
                "this node was seen in a later boot of its TPM; if the TPM was cleared or put back, ask the administrator, who sees why",
            ),
            Self::Denied(Denial::Full(_)) => {
                (Code::ResourceExhausted, "no place is left for another node")
            }
            Self::Denied(_) | Self::Unrecognised(_) => (
                Code::PermissionDenied,
                "not admitted; the join service's log and events say why",
            ),
            Self::Records(error)
                if matches!(
                    **error,
                    RecordsError::Raced(_) | RecordsError::Conflict { .. }
                ) =>
            {
                (
                    Code::Aborted,
                    "another machine was admitted at the same time, try again",
                )
            }
            Self::Records(_) | Self::Keys(_) | Self::Ticket(_) => {
                (Code::Unavailable, "try again later")
            }
        };
        Status::new(code, text)
    }

    /// The word in metrics and audit events.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Denied(_) => "denied",
            Self::Unrecognised(_) => "unrecognised",
            Self::Records(_) => "records",
            Self::Keys(_) => "keys",
            Self::Ticket(_) => "ticket",
        }
    }

    /// Whether the machine may not have what it asks for, rather than that it could not be given.
    pub(crate) fn is_denial(&self) -> bool {
        match self {
            Self::Malformed(_) | Self::Denied(_) | Self::Unrecognised(_) => true,
            Self::Records(_) | Self::Keys(_) | Self::Ticket(_) => false,
        }
    }
}
