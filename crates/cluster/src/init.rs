//! The init flow of the first node, up to the lock; from there on it is [`crate::plan`].
//!
//! ```text
//! Admission ─ request ─→ AwaitingClusterId ─ cluster ID ─→ AwaitingLock ─ lock ─→ plan::AwaitingMark
//!     └── the same request again, after the lock: Reattach
//! ```
//!
//! Steps, in this order and no other:
//! 1. After the lock is gone only the request that took it is heard again, and it only attaches to what already happened.
//! 2. The init secret is compared with the bcrypt hash that the metadata service has. A wrong secret changes nothing and leaves
//!    the lock free. The hash is untrusted: whoever changes it can only decide *who* may initialise this machine.
//! 3. The cluster ID is derived from the request's key material. A request that has none changes nothing either.
//! 4. The lock is taken. Everything after it is final for this boot.
//!
//! Does no IO and holds no key. Design: `cluster.md` (Init); facts 7.2.

use keys::ClusterId;

use crate::boot_lock::BootLock;
use crate::plan::{AwaitingMark, Flow};

/// Names one init of an administrator, so that a broken connection can be resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestId([u8; 16]);

impl RequestId {
    /// Reads the id off the wire.
    pub fn from_wire(bytes: &[u8]) -> Result<Self, Refused> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_| Refused::MalformedRequestId)
    }
}

/// Why an init does not go on. Nothing on the node has changed.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refused {
    /// The id has not 16 bytes.
    #[error("the request id must have 16 bytes")]
    MalformedRequestId,
    /// The metadata service's hash can not be read.
    #[error("the init secret hash of the metadata service is not a bcrypt hash")]
    MalformedHash,
    /// The secret is another one.
    #[error("the init secret is not the one that this machine was made with")]
    WrongSecret,
    /// Another init, or a join, has this boot.
    #[error("this machine already belongs to a cluster or is on its way into one")]
    Taken,
}

/// Hash of the init secret, as the metadata service gives it.
#[derive(Debug)]
pub struct SecretHash(String);

/// Longest hash that is read. A bcrypt hash has 60 characters.
const MAX_HASH: usize = 128;

/// Highest bcrypt cost that is computed, so that a hostile metadata service can not make the comparison take for ever.
const MAX_COST: u32 = 14;

impl SecretHash {
    /// Reads a bcrypt hash in modular crypt format.
    pub fn parse(text: &str) -> Result<Self, Refused> {
        let text = text.trim();
        let parts: bcrypt::HashParts = if text.len() <= MAX_HASH {
            text.parse().map_err(|_| Refused::MalformedHash)?
        } else {
            return Err(Refused::MalformedHash);
        };
        if parts.get_cost() > MAX_COST {
            return Err(Refused::MalformedHash);
        }
        Ok(Self(text.to_owned()))
    }

    /// Compares, in a time that does not depend on how much of the secret is right.
    fn fits(&self, secret: &[u8]) -> bool {
        // bcrypt reads 72 bytes and stops at a NUL; a secret beyond that is refused, so that no part of it goes unread
        let readable = !secret.is_empty() && secret.len() <= 72 && !secret.contains(&0);
        readable && bcrypt::verify(secret, &self.0).unwrap_or(false)
    }
}

/// Decides on every Init request of a boot.
#[derive(Debug, Default)]
pub struct Admission {
    begun: Option<RequestId>,
}

/// What becomes of a request whose secret is right.
#[derive(Debug)]
pub enum Admitted {
    /// The first: go on.
    New(AwaitingClusterId),
    /// The one that took the lock, again: show it what happened and what happens.
    Reattach,
}

impl Admission {
    /// Before any request.
    pub fn new() -> Self {
        Self::default()
    }

    /// Decides on a request. Takes the time of a bcrypt comparison.
    pub fn receive(
        &self,
        lock: &BootLock,
        id: RequestId,
        hash: &SecretHash,
        secret: &[u8],
    ) -> Result<Admitted, Refused> {
        if lock.is_taken() {
            return if self.begun == Some(id) && hash.fits(secret) {
                Ok(Admitted::Reattach)
            } else {
                Err(Refused::Taken)
            };
        }
        if hash.fits(secret) {
            Ok(Admitted::New(AwaitingClusterId { id }))
        } else {
            Err(Refused::WrongSecret)
        }
    }

    /// Decides on somebody who wants to bring something before the request. Takes the time of a bcrypt comparison.
    pub fn may_bring(
        &self,
        lock: &BootLock,
        hash: &SecretHash,
        secret: &[u8],
    ) -> Result<(), Refused> {
        if lock.is_taken() {
            Err(Refused::Taken)
        } else if hash.fits(secret) {
            Ok(())
        } else {
            Err(Refused::WrongSecret)
        }
    }

    /// Takes the lock for a request, and remembers its id. The second of two racing requests is refused.
    pub fn begin(
        &mut self,
        lock: &BootLock,
        request: AwaitingLock,
    ) -> Result<AwaitingMark, Refused> {
        let held = lock.take().ok_or(Refused::Taken)?;
        self.begun = Some(request.id);
        Ok(AwaitingMark::new(Flow::Init, &request.cluster_id, held))
    }
}

/// The secret was right; waits for the cluster ID.
#[derive(Debug)]
pub struct AwaitingClusterId {
    id: RequestId,
}

impl AwaitingClusterId {
    /// Takes the ID derived from the request's key material.
    pub fn derived(self, cluster_id: ClusterId) -> AwaitingLock {
        AwaitingLock {
            id: self.id,
            cluster_id,
        }
    }
}

/// Everything about the request is known; waits for the lock.
#[derive(Debug)]
pub struct AwaitingLock {
    id: RequestId,
    cluster_id: ClusterId,
}

impl AwaitingLock {
    /// The cluster to be.
    pub fn cluster_id(&self) -> &ClusterId {
        &self.cluster_id
    }
}

#[cfg(test)]
mod tests;
