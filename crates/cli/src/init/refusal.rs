//! What a node that does not become a cluster means: try again, or an end that is told.

use std::error::Error;

use tonic::{Code, Status};

use crate::failure::Failure;
use crate::text::printable;

/// The connection went away, and not the node: then the init goes on without us. What the node itself calls internal or
/// unknown is its last word; of the same codes those that the transport made up have the transport's error behind them.
pub(super) fn is_connection(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => true,
        Code::Unknown | Code::Internal => status.source().is_some() || status.message().is_empty(),
        _ => false,
    }
}

/// The node still has the upload of a connection that broke, and takes another when it has noticed.
pub(super) fn is_busy(status: &Status) -> bool {
    status.code() == Code::ResourceExhausted
}

pub(super) fn refused(address: &str, status: &Status) -> Failure {
    let hint = match status.code() {
        Code::PermissionDenied => {
            "the init secret in constellation-state.yaml is not the one the machine was made with"
        }
        Code::FailedPrecondition => {
            "the machine was initialised or joined already by somebody else: make new machines (`constellation mini down`, then `up`)"
        }
        _ => "run again with --debug for more",
    };
    Failure::cluster(format!(
        "{address} refused the init: {}",
        printable(status.message())
    ))
    .hint(hint)
}

pub(super) fn untrusted(address: &str, error: channel::Error) -> Failure {
    let tree = error.refusal().map(ToString::to_string);
    let failure = Failure::trust(format!(
        "{address} did not prove that it may become part of the cluster"
    ))
    .because(&error);
    match tree {
        Some(tree) => failure.detail(tree).hint(
            "nothing was sent to it. If the image was rebuilt on purpose: `constellation config fetch-measurements`, then begin anew",
        ),
        None => failure.hint("nothing was sent to it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_node_itself_says_is_its_last_word() {
        assert!(!is_connection(&Status::internal("no disk")));
        assert!(!is_connection(&Status::unknown("no disk")));
        assert!(!is_connection(&Status::permission_denied("")));
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        for status in [
            Status::from_error(Box::new(broken)),
            Status::unavailable("gone"),
            Status::internal(""),
        ] {
            assert!(is_connection(&status), "{status:?}");
        }
    }
}
