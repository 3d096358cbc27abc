//! Clients that write and read through the API all the time, whatever is killed meanwhile, and judge what they see by the [`Ledger`].
//!
//! A write names the version it replaces, so that one without an answer can not arrive after a later one and look like a loss.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::ledger::{Ledger, Violation};
use super::random::Random;

/// Clients that write, each its own key.
const WRITERS: u64 = 4;
/// How long an answer may take until it counts as none.
const ANSWER: Duration = Duration::from_secs(10);
/// Between a failed request and the next: what is down answers at once.
const PAUSE: Duration = Duration::from_millis(50);
const NUMBER: &str = "number";

/// A running checker.
pub struct Checker {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
    stop: CancellationToken,
}

struct Shared {
    /// One for each API server.
    apis: Vec<Client>,
    state: Mutex<State>,
}

struct State {
    ledger: Ledger,
    violations: Vec<Violation>,
    unanswered: u64,
    last: Instant,
    longest_pause: Duration,
}

/// What the clients saw.
#[derive(Debug)]
pub struct Verdict {
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Requests that failed or had no answer.
    pub unanswered: u64,
    /// The longest time in which no write was acknowledged.
    pub longest_pause: Duration,
    /// What can not be.
    pub violations: Vec<Violation>,
}

impl Checker {
    /// Begins. `apis` are clients of the same cluster, one for each API server.
    pub fn start(apis: Vec<Client>, seed: u64) -> Self {
        let shared = Arc::new(Shared {
            apis,
            state: Mutex::new(State {
                ledger: Ledger::default(),
                violations: Vec::new(),
                unanswered: 0,
                last: Instant::now(),
                longest_pause: Duration::ZERO,
            }),
        });
        let stop = CancellationToken::new();
        let mut clients = JoinSet::new();
        for index in 0..WRITERS {
            clients.spawn(write(Arc::clone(&shared), stop.clone(), index));
        }
        clients.spawn(read(Arc::clone(&shared), stop.clone(), Random::new(seed)));
        Self {
            shared,
            clients,
            stop,
        }
    }

    /// How many writes were acknowledged until now.
    pub fn acknowledged(&self) -> u64 {
        self.shared.with(|state| state.ledger.acknowledged())
    }

    /// Ends, and reads everything back.
    ///
    /// # Errors
    /// When the API can not be read.
    pub async fn finish(mut self) -> Result<Verdict> {
        self.stop.cancel();
        while let Some(ended) = self.clients.join_next().await {
            ended.context("a client of the checker")?;
        }
        let there = self.everything().await?;
        Ok(self.shared.with(|state| {
            let mut violations = std::mem::take(&mut state.violations);
            violations.extend(state.ledger.compare(&there));
            Verdict {
                acknowledged: state.ledger.acknowledged(),
                unanswered: state.unanswered,
                longest_pause: state.longest_pause,
                violations,
            }
        }))
    }

    async fn everything(&self) -> Result<BTreeMap<String, u64>> {
        let mut there = BTreeMap::new();
        let maps = self.shared.maps(0);
        let mut params = ListParams::default()
            .labels("faults.test/checker=true")
            .limit(1_000);
        loop {
            let page = maps.list(&params).await.context("read everything back")?;
            for map in page.items {
                let name = map.metadata.name.clone().context("a name")?;
                there.insert(name, number(&map).context("a number")?);
            }
            match page.metadata.continue_.filter(|next| !next.is_empty()) {
                Some(next) => params = params.continue_token(&next),
                None => return Ok(there),
            }
        }
    }
}

impl Shared {
    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The objects by one of the API servers.
    fn maps(&self, turn: usize) -> Api<ConfigMap> {
        let api = &self.apis[turn % self.apis.len()];
        Api::namespaced(api.clone(), "default")
    }

    /// Sends a number and remembers what is answered. `None`: nobody knows whether it is there.
    async fn send(
        &self,
        key: &str,
        number: u64,
        answer: impl Future<Output = kube::Result<ConfigMap>>,
    ) -> Option<ConfigMap> {
        self.with(|state| state.ledger.send(key, number));
        let answer = tokio::time::timeout(ANSWER, answer).await;
        self.with(|state| match answer {
            Ok(Ok(written)) => {
                state.ledger.acknowledge(key, number);
                let now = Instant::now();
                state.longest_pause = state.longest_pause.max(now - state.last);
                state.last = now;
                Some(written)
            }
            _ => {
                state.unanswered += 1;
                None
            }
        })
    }

    /// Reads a key and judges. `None`: no answer; `Some(None)`: it is not there.
    async fn look(&self, key: &str, turn: usize) -> Option<Option<ConfigMap>> {
        let reading = self.with(|state| state.ledger.begin_read(key));
        let maps = self.maps(turn);
        let answer = tokio::time::timeout(ANSWER, maps.get_opt(key)).await;
        self.with(|state| match answer {
            Ok(Ok(map)) => {
                let judged = state.ledger.read(reading, map.as_ref().and_then(number));
                state.violations.extend(judged.err());
                Some(map)
            }
            _ => {
                state.unanswered += 1;
                None
            }
        })
    }
}

fn number(map: &ConfigMap) -> Option<u64> {
    map.data.as_ref()?.get(NUMBER)?.parse().ok()
}

fn register(writer: u64) -> String {
    format!("register-{writer}")
}

fn object(name: &str, version: Option<String>, number: u64) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            resource_version: version,
            labels: Some([("faults.test/checker".to_owned(), "true".to_owned())].into()),
            ..ObjectMeta::default()
        },
        data: Some([(NUMBER.to_owned(), number.to_string())].into()),
        ..ConfigMap::default()
    }
}

/// Writes increasing numbers into one key, and an object of its own for each.
async fn write(shared: Arc<Shared>, stop: CancellationToken, writer: u64) {
    let key = register(writer);
    let mut turn = usize::try_from(writer).unwrap_or_default();
    let mut version: Option<String> = None;
    let params = PostParams::default();
    for count in 1.. {
        if stop.is_cancelled() {
            return;
        }
        let maps = shared.maps(turn);
        let map = object(&key, version.clone(), count);
        let written = if version.is_some() {
            shared
                .send(&key, count, maps.replace(&key, &params, &map))
                .await
        } else {
            shared.send(&key, count, maps.create(&params, &map)).await
        };
        version = match written {
            Some(map) => map.metadata.resource_version,
            None => {
                turn += 1;
                version_now(&shared, &stop, &key, &mut turn).await
            }
        };
        let own = format!("object-{writer}-{count}");
        let map = object(&own, None, 1);
        let maps = shared.maps(turn);
        if shared
            .send(&own, 1, maps.create(&params, &map))
            .await
            .is_none()
        {
            turn += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }
}

/// Asks until there is an answer what is there now.
async fn version_now(
    shared: &Shared,
    stop: &CancellationToken,
    key: &str,
    turn: &mut usize,
) -> Option<String> {
    while !stop.is_cancelled() {
        if let Some(map) = shared.look(key, *turn).await {
            return map?.metadata.resource_version;
        }
        *turn += 1;
        tokio::time::sleep(PAUSE).await;
    }
    None
}

/// Reads the keys in no order.
async fn read(shared: Arc<Shared>, stop: CancellationToken, mut random: Random) {
    let mut turn = 0;
    while !stop.is_cancelled() {
        let key = register(random.below(WRITERS));
        if shared.look(&key, turn).await.is_none() {
            turn += 1;
            tokio::time::sleep(PAUSE).await;
        }
        // readers are not what loads the machine
        tokio::time::sleep(PAUSE / 5).await;
    }
}
