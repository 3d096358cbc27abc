//! One item as it was published: its bytes, when they came, and until when the publisher vouches for them.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::cache::Written;
use crate::genuine::{self, Genuine, NotGenuine};
use crate::item::{Format, Item};
use crate::shape::{self, Edition, ShapeError};

/// How much the clocks of two machines may differ.
const SKEW: Duration = Duration::from_secs(300);

/// An item's bytes. They have the shape of the item; whether a machine is to be believed because of them is for `attest`
/// to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    item: Item,
    fetched_at: Timestamp,
    valid_until: Option<Timestamp>,
    edition: Option<Edition>,
    body: Arc<[u8]>,
    issuer_chain: Option<Arc<[u8]>>,
}

/// Whether an entry is to be used without asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Yes.
    Fresh,
    /// Its publisher announced a newer one for a time that has come, or it is older than [`Ages`] allow.
    Stale,
}

/// How long after its fetch an entry is fresh; never longer than its publisher vouches for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ages {
    /// Certificates and their chains: they change only when AMD signs them anew with another key.
    pub certificates: Duration,
    /// Revocation lists and Intel's statements: a list may be good for a year and be replaced tomorrow.
    pub statements: Duration,
}

impl Default for Ages {
    fn default() -> Self {
        Self {
            certificates: Duration::from_secs(30 * 24 * 3600),
            statements: Duration::from_secs(24 * 3600),
        }
    }
}

impl Entry {
    /// Checks that the bytes are the item. Errors: see [`ShapeError`].
    pub fn new(
        item: Item,
        fetched_at: Timestamp,
        body: &[u8],
        issuer_chain: Option<&[u8]>,
    ) -> Result<Self, ShapeError> {
        let claims = shape::check(&item, body, issuer_chain)?;
        Ok(Self {
            item,
            fetched_at,
            valid_until: claims.valid_until,
            edition: claims.edition,
            body: body.into(),
            issuer_chain: issuer_chain.map(Into::into),
        })
    }

    /// What it is.
    pub fn item(&self) -> &Item {
        &self.item
    }

    /// When it came from its publisher.
    pub fn fetched_at(&self) -> Timestamp {
        self.fetched_at
    }

    /// The `nextUpdate` of a list or statement, the end of a certificate. `None` for a list that names none.
    pub fn valid_until(&self) -> Option<Timestamp> {
        self.valid_until
    }

    /// The `thisUpdate` of a list, the `issueDate` of a statement. `None` for certificates.
    pub fn issued_at(&self) -> Option<Timestamp> {
        self.edition.as_ref().map(|edition| edition.issued_at)
    }

    /// Which of several lists or statements of one item was made later: the greater one.
    pub(crate) fn edition(&self) -> Option<&Edition> {
        self.edition.as_ref()
    }

    /// The bytes as published.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The chain of whoever signed it, PEM.
    pub fn issuer_chain(&self) -> Option<&[u8]> {
        self.issuer_chain.as_deref()
    }

    /// Bytes of both parts.
    pub fn size(&self) -> usize {
        self.body
            .len()
            .saturating_add(self.issuer_chain.as_ref().map_or(0, |chain| chain.len()))
    }

    /// Whether it is fresh at `now`. One that says to come from the future is not.
    pub fn state(&self, now: Timestamp, ages: &Ages) -> State {
        let age = match self.item.format() {
            Format::Der | Format::Pem => ages.certificates,
            Format::Crl | Format::Json => ages.statements,
        };
        let too_old = self.fetched_at.checked_add(age).is_ok_and(|end| end <= now);
        let from_the_future = self.is_from_the_future(now);
        let ended = self.valid_until.is_some_and(|end| end <= now);
        if too_old || from_the_future || ended {
            State::Stale
        } else {
            State::Fresh
        }
    }

    /// Whether a list or statement is what its publisher has published by `now`: it is not of a time to come, and signed
    /// by its issuer if that is known without evidence, as it is but for some lists by URL. Always so of certificates.
    pub fn check_genuine(&self, now: Timestamp) -> Result<(), NotGenuine> {
        self.genuine(now).map(drop)
    }

    fn genuine(&self, now: Timestamp) -> Result<Genuine, NotGenuine> {
        if let Some(issued_at) = self.issued_at().filter(|at| is_to_come(*at, now)) {
            return Err(NotGenuine::NotYetValid { issued_at, now });
        }
        let chain = self.issuer_chain().unwrap_or_default();
        genuine::check(&self.item, &self.body, chain, now)
    }

    /// What becomes of it where `there` is, an entry of the same item.
    ///
    /// What the publisher made later counts. Of one and the same list or statement, of certificates, and of lists whose issuer nobody can
    /// name here, the latest fetch does: such a list could say of its time whatever it likes. It takes the place of none that is known to
    /// be its publisher's, for anybody on the way could have made it, and leave out what is revoked.
    pub(crate) fn placed_over(&self, there: &Self, now: Timestamp) -> Written {
        let latest = if there.is_from_the_future(now) || self.fetched_at > there.fetched_at {
            Written::Replaced
        } else {
            Written::Kept
        };
        match (self.genuine(now), there.genuine(now)) {
            // a forged one must not keep the genuine out
            (_, Err(_)) | (Ok(Genuine::Verified), Ok(Genuine::Unknown)) => Written::Replaced,
            (Ok(Genuine::Unknown) | Err(_), Ok(Genuine::Verified)) => Written::Unverified,
            (Ok(Genuine::Unknown) | Err(_), Ok(Genuine::Unknown)) => latest,
            (Ok(Genuine::Verified), Ok(Genuine::Verified)) => {
                match self.edition.cmp(&there.edition) {
                    Ordering::Less => Written::Superseded,
                    Ordering::Equal => latest,
                    Ordering::Greater => Written::Replaced,
                }
            }
        }
    }

    /// The same, fetched at `now` if it says later.
    pub(crate) fn fetched_by(&self, now: Timestamp) -> Self {
        Self {
            fetched_at: self.fetched_at.min(now),
            ..self.clone()
        }
    }

    pub(crate) fn is_from_the_future(&self, now: Timestamp) -> bool {
        is_to_come(self.fetched_at, now)
    }
}

/// Whether a time is later than `now` by more than clocks may differ.
fn is_to_come(time: Timestamp, now: Timestamp) -> bool {
    now.checked_add(SKEW).is_ok_and(|latest| time > latest)
}
