//! What vendors state about the machines that this program verifies: from the cache of `collateral`, and from the vendors where that has
//! nothing fresh.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use attest::{Endorsements, Evidence, Variant};
use channel::{EndorsementsSource, Gathering};
use collateral::{
    Ambient, Bounds, Cache, Collateral, Demand, OnFailure, Proxies, Refresh, Settings, Update,
    default_directory,
};

/// Less than an attested channel takes at most.
const DEADLINE: Duration = Duration::from_secs(20);

/// Asks nobody before there is a machine that somebody vouches for.
#[derive(Clone, Default)]
pub(crate) struct Vendors(Arc<OnceLock<Option<Collateral>>>);

impl Vendors {
    /// What can be had about a machine. Nothing where a cache can not be kept, or a vendor does not answer: its appraisal then says what is
    /// missing, and `constellation collateral fetch` why.
    pub(crate) async fn endorse(&self, evidence: &Evidence) -> Endorsements {
        if evidence.variant() == Variant::QemuVtpm {
            return Endorsements::new();
        }
        let Some(collateral) = self.0.get_or_init(open) else {
            return Endorsements::new();
        };
        let demand = Demand {
            refresh: Refresh::WhenStale,
            // whether it still holds is in it
            on_failure: OnFailure::Stale,
            deadline: DEADLINE,
        };
        let endorsed = collateral.endorse(evidence, Update::Standard, demand).await;
        endorsed.endorsements
    }
}

impl EndorsementsSource for Vendors {
    fn endorsements<'a>(&'a self, evidence: &'a Evidence) -> Gathering<'a> {
        Box::pin(async move { Arc::new(self.endorse(evidence).await) })
    }
}

fn open() -> Option<Collateral> {
    let directory = default_directory(|name| std::env::var_os(name))?;
    let cache = Cache::open(&directory, Bounds::default()).ok()?;
    let settings = Settings {
        proxies: Proxies::Environment,
        ..Settings::default()
    };
    Collateral::new(settings, Ambient::system(), cache).ok()
}
