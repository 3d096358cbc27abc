//! Why an item could not be had, in words for a person: which item, from whom, and what to do.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::genuine::NotGenuine;
use crate::item::Item;
use crate::shape::ShapeError;

/// What a person can do who has no Internet, or no luck with it.
const IMPORT: &str = "where the vendor can be reached, `constellation collateral fetch` and `export` make a bundle; `constellation collateral import` takes it here";

/// Why an item could not be had. Cheap to clone: everybody who waited for it gets the same.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{item} could not be had from {vendor}", vendor = item.vendor())]
pub struct FetchError {
    item: Box<Item>,
    #[source]
    reason: Reason,
}

/// What happened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Reason {
    /// Nobody is to be asked.
    #[error("it is not in the cache, fresh, and the network is not to be used")]
    Offline,
    /// The URL is not one of the allowed ones.
    #[error("nothing is fetched from there: it is none of the allowed places of revocation lists")]
    NotAllowed,
    /// An endpoint of the settings is not a URL.
    #[error("the endpoint is not a URL")]
    Endpoint(#[source] url::ParseError),
    /// Too many wait for the same service.
    #[error("too many requests wait for this service")]
    Full,
    /// No whole answer came.
    #[error("no answer, or not all of one")]
    Transport(#[source] Arc<reqwest::Error>),
    /// An attempt took too long.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Slow(Duration),
    /// The caller's own deadline.
    #[error("not done within the {} s that were given", .0.as_secs_f64())]
    Deadline(Duration),
    /// There is no such thing.
    #[error("the service does not know it (status {0})")]
    Unknown(u16),
    /// The service asks to be asked less often.
    #[error("the service asks to come back later{}", after(.0))]
    RateLimited(Option<Duration>),
    /// The service points elsewhere.
    #[error("the service points elsewhere (status {0}), and redirects are not followed")]
    Redirected(u16),
    /// Another status.
    #[error("the service answers with status {0}")]
    Status(u16),
    /// A page for a person, or packed content.
    #[error("the answer is {0:?}, which this is never")]
    ContentType(String),
    /// More bytes than the item may have.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
    /// A header that belongs to it is missing or unreadable.
    #[error("the answer has no readable header {0}")]
    Header(&'static str),
    /// It is not what was asked for.
    #[error("the answer is not what was asked for")]
    Shape(#[source] ShapeError),
    /// It is not its publisher's, or not yet.
    #[error("the answer is not what its publisher has published")]
    NotGenuine(#[source] NotGenuine),
    /// It was replaced by its publisher before.
    #[error("the answer is an older one{}, which its publisher has replaced by what is in the cache{}", of(.came), of(.there))]
    Superseded {
        /// When the one that came was issued.
        came: Option<Timestamp>,
        /// When the one in the cache was issued.
        there: Option<Timestamp>,
    },
    /// Anybody could have made it, and what is in the cache is its publisher's.
    #[error(
        "the answer is a list of an issuer that nobody knows here, and the list in the cache is its publisher's"
    )]
    Unverified,
}

fn of(issued_at: &Option<Timestamp>) -> String {
    issued_at
        .map(|issued_at| format!(" (of {issued_at})"))
        .unwrap_or_default()
}

fn after(pause: &Option<Duration>) -> String {
    pause
        .map(|pause| format!(", in {} s", pause.as_secs()))
        .unwrap_or_default()
}

impl FetchError {
    pub(crate) fn new(item: &Item, reason: Reason) -> Self {
        Self {
            item: Box::new(item.clone()),
            reason,
        }
    }

    /// What was asked for.
    pub fn item(&self) -> &Item {
        &self.item
    }

    /// What happened.
    pub fn reason(&self) -> &Reason {
        &self.reason
    }

    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match &self.reason {
            Reason::NotAllowed => {
                "fetch the list by hand if you trust the place, or allow the place (`--allow-crl`)"
            }
            Reason::Endpoint(_) => "write it as https://host[:port][/path]",
            Reason::Full => "try again in a minute",
            Reason::Unknown(_) if matches!(*self.item, Item::AmdVcek(_)) => {
                "the chip, its product line and the TCB version must be those of the report; AMD does not know chips that it has not sold"
            }
            Reason::Unknown(_) => {
                "the product line or platform may be newer or older than what the service has"
            }
            Reason::RateLimited(_) => {
                "others behind the same address ask as well; a bundle or a mirror helps (`constellation collateral export`, `import`)"
            }
            Reason::Redirected(_) | Reason::ContentType(_) => {
                "a captive portal or a proxy may have answered; set the endpoint to where the service is"
            }
            Reason::Superseded { .. } => {
                "a service or mirror that is not up to date, or that takes back what was revoked, has answered; ask another one, or use what is in the cache while it holds (`--allow-stale`)"
            }
            Reason::NotGenuine(_) | Reason::Unverified => {
                "a mirror or proxy may have answered, or a clock is wrong; set the endpoint to where the service is"
            }
            Reason::Offline
            | Reason::Transport(_)
            | Reason::Slow(_)
            | Reason::Deadline(_)
            | Reason::Status(_)
            | Reason::TooLarge(_)
            | Reason::Header(_)
            | Reason::Shape(_) => IMPORT,
        }
    }
}

impl Reason {
    /// Whether another attempt may go better.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Transport(_) | Self::Slow(_) | Self::RateLimited(_) => true,
            Self::Status(status) => *status >= 500,
            // a node of a content network that is not up to date, a cut that looks whole
            Self::Shape(_) | Self::Header(_) | Self::NotGenuine(_) => true,
            Self::Offline
            | Self::NotAllowed
            | Self::Endpoint(_)
            | Self::Full
            | Self::Deadline(_)
            | Self::Unknown(_)
            | Self::Redirected(_)
            | Self::ContentType(_)
            | Self::TooLarge(_)
            | Self::Superseded { .. }
            | Self::Unverified => false,
        }
    }
}
