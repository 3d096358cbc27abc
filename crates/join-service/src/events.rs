//! Refusals as events on the cluster: `kubectl -n kube-system get events`.
//!
//! Whoever can reach the port can cause refusals, so what they can cost is bounded: one event object per reason, updated in
//! place with a count, at most once per [`EVERY`]; what comes faster is counted and the newest text kept. The log has each.

use std::{collections::BTreeMap, fmt, time::Duration};

use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const COMPONENT: &str = "join-service";
const EVERY: Duration = Duration::from_secs(10);
/// Waiting texts; what is over it is dropped, and the log still has it.
const QUEUE: usize = 64;
/// The API's own limit for a message.
const TEXT_MAX: usize = 1024;

/// Why there is an event; also its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// A machine's evidence was refused, with this code.
    MachineRefused(u32),
    /// A machine proved itself but may not be a node.
    JoinDenied,
    /// A node asked for a disk that is not its own.
    RejoinDenied,
    /// A certificate request was denied.
    CertificateDenied,
}

impl Reason {
    fn word(self) -> &'static str {
        match self {
            Self::MachineRefused(_) => "MachineRefused",
            Self::JoinDenied => "JoinDenied",
            Self::RejoinDenied => "RejoinDenied",
            Self::CertificateDenied => "CertificateDenied",
        }
    }
}

/// The event's object name.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MachineRefused(code) => write!(f, "{COMPONENT}.machine-refused-{code}"),
            Self::JoinDenied => write!(f, "{COMPONENT}.join-denied"),
            Self::RejoinDenied => write!(f, "{COMPONENT}.rejoin-denied"),
            Self::CertificateDenied => write!(f, "{COMPONENT}.certificate-denied"),
        }
    }
}

/// Publishes events; clones share the queue.
#[derive(Clone)]
pub(crate) struct Events(mpsc::Sender<(Reason, String)>);

impl Events {
    /// Starts the publisher.
    pub(crate) fn start(client: Client, context: &runtime::Context) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let api = Api::namespaced(client, k8s::api::NAMESPACE);
        tokio::spawn(publish(api, receiver, context.shutdown.clone()));
        Self(sender)
    }

    /// Queues an event; never blocks.
    pub(crate) fn publish(&self, reason: Reason, text: String) {
        // A full queue is a flood: the log has every one of them.
        let _dropped = self.0.try_send((reason, text));
    }
}

/// What waits to be written about one reason.
#[derive(Debug, Default, PartialEq, Eq)]
struct Waiting {
    count: i32,
    unwritten: bool,
    text: String,
}

/// Takes one more text.
fn take(waiting: &mut BTreeMap<Reason, Waiting>, reason: Reason, text: &str) {
    let entry = waiting.entry(reason).or_default();
    entry.count = entry.count.saturating_add(1);
    entry.unwritten = true;
    entry.text = shortened(text);
}

fn shortened(text: &str) -> String {
    if text.len() <= TEXT_MAX {
        return text.to_owned();
    }
    let mut end = TEXT_MAX - '…'.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", text.get(..end).unwrap_or_default())
}

async fn publish(
    api: Api<Event>,
    mut receiver: mpsc::Receiver<(Reason, String)>,
    shutdown: CancellationToken,
) {
    let mut waiting = BTreeMap::new();
    // The first event of a quiet time goes out at once.
    let mut next = tokio::time::Instant::now();
    loop {
        let unwritten = waiting.values().any(|entry: &Waiting| entry.unwritten);
        tokio::select! {
            received = receiver.recv() => match received {
                Some((reason, text)) => take(&mut waiting, reason, &text),
                None => return,
            },
            () = tokio::time::sleep_until(next), if unwritten => {
                next = tokio::time::Instant::now() + EVERY;
                for (reason, entry) in waiting.iter_mut().filter(|(_, entry)| entry.unwritten) {
                    match write(&api, *reason, entry).await {
                        Ok(()) => entry.unwritten = false,
                        Err(error) => tracing::warn!(%reason, error = %runtime::chain(&error), "cannot write an event"),
                    }
                }
            }
            () = shutdown.cancelled() => return,
        }
    }
}

/// Updates the event of this reason, or makes it.
async fn write(api: &Api<Event>, reason: Reason, entry: &Waiting) -> Result<(), kube::Error> {
    let name = reason.to_string();
    let now = Time(jiff::Timestamp::now());
    let change =
        serde_json::json!({ "count": entry.count, "lastTimestamp": now, "message": entry.text });
    match api
        .patch(&name, &PatchParams::default(), &Patch::Merge(change))
        .await
    {
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        outcome => return outcome.map(|_| ()),
    }
    let namespace = Some(k8s::api::NAMESPACE.to_owned());
    let event = Event {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: namespace.clone(),
            ..ObjectMeta::default()
        },
        involved_object: ObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: Some("DaemonSet".to_owned()),
            name: Some(COMPONENT.to_owned()),
            namespace,
            ..ObjectReference::default()
        },
        type_: Some("Warning".to_owned()),
        reason: Some(reason.word().to_owned()),
        message: Some(entry.text.clone()),
        count: Some(entry.count),
        first_timestamp: Some(now.clone()),
        last_timestamp: Some(now),
        source: Some(EventSource {
            component: Some(COMPONENT.to_owned()),
            ..EventSource::default()
        }),
        ..Event::default()
    };
    api.create(&PostParams::default(), &event).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_entry_with_a_count() {
        let mut waiting = BTreeMap::new();
        for number in 0..1000 {
            take(
                &mut waiting,
                Reason::MachineRefused(5),
                &format!("refused 10.42.2.{number}"),
            );
            take(&mut waiting, Reason::JoinDenied, "denied");
        }
        assert_eq!(waiting.len(), 2);
        let entry = &waiting[&Reason::MachineRefused(5)];
        assert_eq!(
            (entry.count, entry.text.as_str()),
            (1000, "refused 10.42.2.999")
        );
    }

    #[test]
    fn texts_fit_into_an_event() {
        let text = shortened(&"ä".repeat(1000));
        assert!(text.len() <= TEXT_MAX && text.ends_with('…'));
        assert_eq!(shortened("short"), "short");
    }
}
