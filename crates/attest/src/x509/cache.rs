//! Signatures that were verified before, so that an authority's certificate costs its RSA verification once.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::certificate::Certificate;
use super::path::{self, Path, PathError, PathRules, Revocation};
use crate::Digest;

/// Remembers, of certificates and CRLs on paths that led to a root, that this key signed these bytes. Nothing else: validity, authority
/// and revocation are looked at anew each time, with the rules and the roots of that time.
///
/// A signature that does not verify is not remembered. The oldest entry leaves when a new one finds no place.
pub struct PathCache {
    capacity: NonZeroUsize,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    known: HashSet<Digest>,
    /// As they came.
    order: VecDeque<Digest>,
}

impl PathCache {
    /// A cache of at most `capacity` signatures, 64 bytes each.
    #[must_use]
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self {
            capacity,
            entries: Mutex::default(),
        }
    }

    /// As [`Path::build`], without the signatures that are known to hold.
    ///
    /// # Errors
    ///
    /// As [`Path::build`].
    pub fn build(
        &self,
        leaf: &Certificate,
        intermediates: &[Certificate],
        roots: &[Certificate],
        crls: &Revocation<'_>,
        now: Timestamp,
        rules: &PathRules,
    ) -> Result<Path, PathError> {
        path::build(leaf, intermediates, roots, crls, now, rules, Some(self))
    }

    /// How many signatures are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries().order.len()
    }

    /// Whether none is remembered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What stands for "the key of this encoding signed the certificate or CRL of this digest". The signature is part of the latter.
    pub(super) fn key(issuer_spki: &[u8], signed: &Digest) -> Digest {
        // an encoding says where it ends, so no two pairs make the same row of bytes
        Digest::of_parts(&[issuer_spki, signed.as_bytes()])
    }

    pub(super) fn knows(&self, key: &Digest) -> bool {
        self.entries().known.contains(key)
    }

    pub(super) fn remember(&self, verified: &[Digest]) {
        let mut entries = self.entries();
        for key in verified {
            if !entries.known.insert(*key) {
                continue;
            }
            entries.order.push_back(*key);
            if entries.order.len() > self.capacity.get()
                && let Some(oldest) = entries.order.pop_front()
            {
                entries.known.remove(&oldest);
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        // nothing between two entries can panic and leave half of one
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for PathCache {
    /// Room for the chains of a large cluster's machines.
    fn default() -> Self {
        const CAPACITY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);
        Self::new(CAPACITY)
    }
}

impl fmt::Debug for PathCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PathCache({} of {})", self.len(), self.capacity)
    }
}
