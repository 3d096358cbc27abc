//! Counts the handshakes of the attested channel and puts refused machines on the cluster as events.
//!
//! The channel has logged a refusal with its whole tree already; the peer was told a code.

use std::sync::Arc;

use channel::tonic::{Handshake, Observer};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
};

use crate::events::{Events, Reason};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: String,
}

/// What the channel tells about each handshake.
pub(crate) fn observer(metrics: &runtime::Metrics, events: Events) -> Observer {
    let in_flight: Gauge = Gauge::default();
    let handshakes: Family<Outcome, Counter> = Family::default();
    metrics.register(
        "join_handshakes_in_flight",
        "Unfinished handshakes of the attested channel",
        in_flight.clone(),
    );
    metrics.register(
        "join_handshakes",
        "Handshakes by outcome; a refused machine by the refusal's code",
        handshakes.clone(),
    );
    Arc::new(move |peer, handshake| {
        let outcome = match handshake {
            Handshake::Begun => {
                in_flight.inc();
                return;
            }
            Handshake::Attested => "attested".to_owned(),
            Handshake::GivenUp => "given-up".to_owned(),
            Handshake::Failed(error) => match error.refusal() {
                Some(refusal) => {
                    let text = format!("refused {}: {}\n{refusal}", peer.ip(), refusal.summary());
                    events.publish(Reason::MachineRefused(refusal.code().number()), text);
                    format!("refused: {}", refusal.code())
                }
                None => "failed".to_owned(),
            },
        };
        in_flight.dec();
        handshakes.get_or_create(&Outcome { outcome }).inc();
    })
}
