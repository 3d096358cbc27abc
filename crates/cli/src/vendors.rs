//! What vendors state about the machines that this program verifies: from the cache of `collateral`, and from the vendors where that has
//! nothing fresh.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use attest::{Endorsements, Evidence, Variant};
use channel::{EndorsementsSource, Gathering};
use collateral::{
    Ambient, Bounds, Cache, Collateral, Demand, OnFailure, Proxies, Refresh, Settings, Update,
    default_directory,
};

use crate::text::{chain, printable};

/// Less than an attested channel takes at most, which has to connect before and to tell the peer after.
const DEADLINE: Duration = Duration::from_secs(20);

/// One for the process, because vendors limit how often they are asked. Made when there is a machine that somebody vouches for.
static COLLATERAL: OnceLock<Result<Collateral, String>> = OnceLock::new();
/// What could not be had, for the end of the program.
static MISSING: Mutex<Notes> = Mutex::new(Notes {
    told: BTreeSet::new(),
    is_cut: false,
});

/// Notes, each once, and whether there were more than a person reads.
struct Notes {
    told: BTreeSet<String>,
    is_cut: bool,
}

/// The source of statements.
#[derive(Clone, Copy)]
pub(crate) struct Vendors {
    deadline: Duration,
}

impl Default for Vendors {
    fn default() -> Self {
        Self::within(DEADLINE)
    }
}

impl Vendors {
    /// A source that waits no longer for a vendor.
    pub(crate) const fn within(deadline: Duration) -> Self {
        Self { deadline }
    }

    /// What can be had about a machine. Whether it can do without the rest is decided where it is appraised, and [`missing`] says why it is
    /// not there.
    pub(crate) async fn endorse(self, evidence: &Evidence) -> Endorsements {
        if evidence.variant() == Variant::QemuVtpm {
            return Endorsements::new();
        }
        let collateral = match COLLATERAL.get_or_init(open) {
            Ok(collateral) => collateral,
            Err(why) => {
                note(why.clone());
                return Endorsements::new();
            }
        };
        let demand = Demand {
            refresh: Refresh::WhenStale,
            // whether it still holds is in it
            on_failure: OnFailure::Stale,
            deadline: self.deadline,
        };
        let endorsed = collateral.endorse(evidence, Update::Standard, demand).await;
        for missing in &endorsed.missing {
            note(chain(missing));
        }
        endorsed.endorsements
    }
}

impl EndorsementsSource for Vendors {
    fn endorsements<'a>(&'a self, evidence: &'a Evidence) -> Gathering<'a> {
        Box::pin(async move { Arc::new(self.endorse(evidence).await) })
    }
}

/// What could not be had about the machines of this run, each once.
pub(crate) fn missing() -> Vec<String> {
    let mut notes = MISSING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut lines: Vec<String> = std::mem::take(&mut notes.told).into_iter().collect();
    if std::mem::take(&mut notes.is_cut) {
        lines.push("and more of the kind".to_owned());
    }
    lines
}

fn note(why: String) {
    /// More than a person reads.
    const MOST: usize = 32;
    let why = printable(&why);
    let mut notes = MISSING.lock().unwrap_or_else(PoisonError::into_inner);
    if notes.told.contains(&why) {
        return;
    }
    if notes.told.len() < MOST {
        notes.told.insert(why);
    } else {
        notes.is_cut = true;
    }
}

fn open() -> Result<Collateral, String> {
    let directory = default_directory(|name| std::env::var_os(name))
        .ok_or("no cache: neither XDG_CACHE_HOME nor HOME is set")?;
    let cache = Cache::open(&directory, Bounds::default()).map_err(|error| chain(&error))?;
    let settings = Settings {
        proxies: Proxies::Environment,
        ..Settings::default()
    };
    Collateral::new(settings, Ambient::system(), cache).map_err(|error| chain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, because the notes are the process's.
    #[test]
    fn what_could_not_be_had_is_told_once_and_in_bounds() {
        let text = |number| format!("amd-crl/{number}: \u{1b}[2Jno answer\nverified");
        for number in (0..32).chain(0..100) {
            note(text(number));
        }
        let told = missing();
        assert_eq!(told.len(), 33);
        assert_eq!(
            told.last().map(String::as_str),
            Some("and more of the kind")
        );
        for line in told {
            assert!(!line.contains(['\u{1b}', '\n']), "{line:?}");
        }
        assert!(missing().is_empty(), "once is enough");
        note(text(1));
        note(text(1));
        assert_eq!(missing().len(), 1);
    }
}
