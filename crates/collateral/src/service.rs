//! Gets an item: from the cache while it is fresh, else from its vendor; once, however many ask at the same time.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared, WeakShared};
use jiff::Timestamp;
use reqwest::Client;

use crate::cache::{Cache, CacheError, Written};
use crate::entry::{Entry, State};
use crate::fetch_error::{FetchError, Reason};
use crate::http;
use crate::item::{Item, Vendor};
use crate::lane::{Full, Lane};
use crate::settings::{Ambient, Settings};

/// How many different items may be on their way at once.
const MAX_FLIGHTS: usize = 1024;

/// What a caller wants of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// When the vendor is asked.
    pub refresh: Refresh,
    /// What is good enough when the vendor could not be asked.
    pub on_failure: OnFailure,
    /// How long this caller waits. Others who wait for the same item go on waiting.
    pub deadline: Duration,
}

/// When the vendor is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refresh {
    /// When there is nothing fresh in the cache.
    WhenStale,
    /// Always.
    Always,
}

/// What is good enough when the vendor could not be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Nothing.
    Fail,
    /// What is in the cache, marked [`State::Stale`].
    Stale,
}

/// An item that was had.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The item's bytes.
    pub entry: Entry,
    /// Whether they are fresh: stale only for who asked with [`OnFailure::Stale`], or where what the vendor sent has run out already.
    pub state: State,
    /// Whether the vendor was asked for it now.
    pub is_new: bool,
    /// What else a person may want to know.
    pub notes: Vec<Note>,
}

/// What went not as it should, and stopped nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The cache has a file of the item that can not be used.
    Unreadable(String),
    /// The cache did not take the item.
    NotKept(String),
    /// The vendor could not be asked; this is what the cache has.
    Refused(String),
}

impl Note {
    /// Whether it says that what was given is not as new as it was asked for.
    pub(crate) const fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(why) => write!(f, "not used: {why}"),
            Self::NotKept(why) => write!(f, "not kept in the cache: {why}"),
            Self::Refused(why) => write!(f, "not refreshed: {why}"),
        }
    }
}

/// What a flight brings: everybody who waited gets the same.
type Landed = Result<Answer, Box<Failed>>;
type Flight = BoxFuture<'static, Landed>;

/// A fetch that failed, and what the cache had.
#[derive(Clone)]
struct Failed {
    error: FetchError,
    there: Option<Entry>,
    notes: Vec<Note>,
}

/// Gets items. Cheap to clone; clones share the queues.
#[derive(Clone)]
pub struct Collateral(Arc<Inner>);

struct Inner {
    settings: Settings,
    ambient: Ambient,
    cache: Cache,
    client: Client,
    lanes: Lanes,
    flights: Mutex<HashMap<(Item, Refresh), WeakShared<Flight>>>,
}

struct Lanes {
    amd_vcek: Lane,
    amd: Lane,
    intel: Lane,
    crl: Lane,
}

impl Collateral {
    /// Errors: TLS could not be set up.
    pub fn new(settings: Settings, ambient: Ambient, cache: Cache) -> Result<Self, reqwest::Error> {
        let pace = settings.pace;
        let lane = |interval| Lane::new(interval, pace.longest_queue);
        Ok(Self(Arc::new(Inner {
            client: http::client(&settings.retries, settings.proxies)?,
            lanes: Lanes {
                amd_vcek: lane(pace.amd_vcek),
                amd: lane(pace.amd),
                intel: lane(pace.intel),
                crl: lane(pace.crl),
            },
            settings,
            ambient,
            cache,
            flights: Mutex::new(HashMap::new()),
        })))
    }

    /// The cache.
    pub fn cache(&self) -> &Cache {
        &self.0.cache
    }

    /// The clock that freshness is judged by.
    pub fn now(&self) -> Timestamp {
        self.0.now()
    }

    /// Whether an entry is fresh now.
    pub fn state(&self, entry: &Entry) -> State {
        entry.state(self.now(), &self.0.settings.ages)
    }

    /// Gets an item.
    pub async fn get(&self, item: &Item, demand: Demand) -> Result<Answer, FetchError> {
        let late = || Failed {
            error: FetchError::new(item, Reason::Deadline(demand.deadline)),
            there: None,
            notes: Vec::new(),
        };
        let failed = match self.flight(item, demand.refresh) {
            Err(reason) => Failed {
                error: FetchError::new(item, reason),
                there: None,
                notes: Vec::new(),
            },
            Ok(flight) => match tokio::time::timeout(demand.deadline, flight).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(failed)) => *failed,
                Err(_) => late(),
            },
        };
        match demand.on_failure {
            OnFailure::Fail => Err(failed.error),
            OnFailure::Stale => self.second_best(item, failed).await,
        }
    }

    /// What the cache has, for who asked for that. It may even be fresh: when it was to be refreshed all the same.
    async fn second_best(&self, item: &Item, failed: Failed) -> Result<Answer, FetchError> {
        let Failed {
            error,
            there,
            mut notes,
        } = failed;
        let there = match there {
            Some(entry) => Some(entry),
            None => self.0.cached(item, &mut Vec::new()).await,
        };
        let Some(entry) = there else {
            return Err(error);
        };
        notes.push(Note::Refused(chain(&error)));
        Ok(Answer {
            state: self.state(&entry),
            entry,
            is_new: false,
            notes,
        })
    }

    /// The flight of an item: the one that is on its way, or a new one.
    fn flight(&self, item: &Item, refresh: Refresh) -> Result<Shared<Flight>, Reason> {
        let key = (item.clone(), refresh);
        let mut flights = self
            .0
            .flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let under_way = flights
            .get(&key)
            .and_then(WeakShared::upgrade)
            // one that has landed is not asked again: what it brought may be old by now
            .filter(|flight| flight.peek().is_none());
        if let Some(flight) = under_way {
            return Ok(flight);
        }
        flights.retain(|_, flight| flight.upgrade().is_some_and(|f| f.peek().is_none()));
        if flights.len() >= MAX_FLIGHTS {
            return Err(Reason::Full);
        }
        let inner = Arc::clone(&self.0);
        let item = item.clone();
        let flight: Flight = async move { inner.fly(item, refresh).await }.boxed();
        let flight = flight.shared();
        if let Some(weak) = flight.downgrade() {
            flights.insert(key, weak);
        }
        Ok(flight)
    }
}

impl Inner {
    fn now(&self) -> Timestamp {
        (self.ambient.now)()
    }

    async fn fly(&self, item: Item, refresh: Refresh) -> Landed {
        let mut notes = Vec::new();
        let there = self.cached(&item, &mut notes).await;
        if let (Some(entry), Refresh::WhenStale) = (&there, refresh)
            && entry.state(self.now(), &self.settings.ages) == State::Fresh
        {
            return Ok(Answer {
                entry: entry.clone(),
                state: State::Fresh,
                is_new: false,
                notes,
            });
        }
        let entry = match self.fetch(&item).await {
            Ok(entry) => entry,
            Err(reason) => {
                return Err(Box::new(Failed {
                    error: FetchError::new(&item, reason),
                    there,
                    notes,
                }));
            }
        };
        let now = self.now();
        let stays = |written| matches!(written, Written::Superseded | Written::Unverified);
        let placed = there.as_ref().map(|there| entry.placed_over(there, now));
        let written = match placed.filter(|it| stays(*it)) {
            Some(written) => Some(written),
            // somebody else may have written since
            None => self.keep(&entry, &mut notes).await,
        };
        if let Some(written) = written.filter(|it| stays(*it)) {
            let there = self.cached(&item, &mut notes).await.or(there);
            let reason = if written == Written::Unverified {
                Reason::Unverified
            } else {
                Reason::Superseded {
                    came: entry.issued_at(),
                    there: there.as_ref().and_then(Entry::issued_at),
                }
            };
            tracing::warn!(%item, %reason, "an answer is not used");
            return Err(Box::new(Failed {
                error: FetchError::new(&item, reason),
                there,
                notes,
            }));
        }
        Ok(Answer {
            state: entry.state(self.now(), &self.settings.ages),
            entry,
            is_new: true,
            notes,
        })
    }

    /// The entry in the cache, if it can be used.
    async fn cached(&self, item: &Item, notes: &mut Vec<Note>) -> Option<Entry> {
        let (cache, item) = (self.cache.clone(), item.clone());
        let read = self.blocking(move || cache.read(&item)).await;
        read.unwrap_or_else(|error| {
            tracing::warn!(error, "an entry of the cache can not be used");
            notes.push(Note::Unreadable(error));
            None
        })
    }

    /// Writes an entry. `None`: the cache does not take it.
    async fn keep(&self, entry: &Entry, notes: &mut Vec<Note>) -> Option<Written> {
        let (cache, entry, now) = (self.cache.clone(), entry.clone(), self.now());
        match self.blocking(move || cache.write(&entry, now)).await {
            Ok(written) => Some(written),
            Err(error) => {
                tracing::warn!(error, "the cache does not take an entry");
                notes.push(Note::NotKept(error));
                None
            }
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, CacheError> + Send + 'static,
    ) -> Result<T, String> {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done.map_err(|error| chain(&error)),
            Err(error) => Err(chain(&error)),
        }
    }

    /// Asks the vendor, as often as it makes sense.
    async fn fetch(&self, item: &Item) -> Result<Entry, Reason> {
        if !self.settings.network {
            return Err(Reason::Offline);
        }
        if let Item::Crl(url) = item
            && !self.settings.crl_origins.iter().any(|o| o.covers(url))
        {
            return Err(Reason::NotAllowed);
        }
        let url = self
            .settings
            .endpoints
            .url(item)
            .map_err(Reason::Endpoint)?;
        let retries = &self.settings.retries;
        let lane = self.lane(item);
        let mut attempt = 1;
        loop {
            lane.turn().await.map_err(|Full| Reason::Full)?;
            let reason = match self.attempt(item, url.clone()).await {
                Ok(entry) => return Ok(entry),
                Err(reason) => reason,
            };
            tracing::debug!(%item, attempt, %reason, "an attempt failed");
            let wait = retries.wait(attempt, (self.ambient.jitter)());
            if let Reason::RateLimited(asked) = reason {
                let pause = asked.unwrap_or(wait);
                // for everybody in this queue, but never longer than we would let a service ask for
                lane.hold_off(pause.min(retries.longest_retry_after));
                if pause > retries.longest_retry_after {
                    return Err(reason);
                }
            }
            if attempt >= retries.attempts || !reason.is_passing() {
                return Err(reason);
            }
            tokio::time::sleep(wait).await;
            attempt += 1;
        }
    }

    async fn attempt(&self, item: &Item, url: url::Url) -> Result<Entry, Reason> {
        let published = http::get(&self.client, item, url, self.settings.retries.attempt).await?;
        let now = self.now();
        let entry = Entry::new(
            item.clone(),
            now,
            &published.body,
            published.issuer_chain.as_deref(),
        )
        .map_err(Reason::Shape)?;
        entry.check_genuine(now).map_err(Reason::NotGenuine)?;
        Ok(entry)
    }

    fn lane(&self, item: &Item) -> &Lane {
        match (item, item.vendor()) {
            (Item::AmdVcek(_), _) => &self.lanes.amd_vcek,
            (_, Vendor::Amd) => &self.lanes.amd,
            (_, Vendor::Intel) => &self.lanes.intel,
            (_, Vendor::Publisher) => &self.lanes.crl,
        }
    }
}

/// An error and its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// Where collateral is kept unless a site says otherwise: below the user's cache directory.
///
/// `variable` looks up an environment variable. `None` if neither `XDG_CACHE_HOME` nor `HOME` is an absolute path.
pub fn default_directory(variable: impl Fn(&str) -> Option<std::ffi::OsString>) -> Option<PathBuf> {
    let absolute = |name| {
        variable(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("constellation/collateral"))
}
