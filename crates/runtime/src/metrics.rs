//! The process's metrics, all of them under `constellation_`.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::{
    metrics::info::Info,
    registry::{Metric, Registry},
};

/// A registry that every part of a program registers its metrics with.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Metrics {
    /// A registry with `constellation_build_info{program, version}`.
    #[must_use]
    pub fn new(program: &'static str, version: &'static str) -> Self {
        let mut registry = Registry::with_prefix("constellation");
        registry.register(
            "build",
            "What this process was built from",
            Info::new([("program", program), ("version", version)]),
        );
        Self(Arc::new(Mutex::new(registry)))
    }

    /// Registers a metric under `constellation_<name>`; metrics are cheap handles, so hand in a clone.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .register(name, help, metric);
    }

    /// The metrics in the OpenMetrics text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if prometheus_client::encoding::text::encode(&mut text, &registry).is_err() {
            // An encoder fails half-way only through a metric that fails to print itself; a cut page misleads.
            text.clear();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn names_the_build_and_counts() {
        let metrics = Metrics::new("join-service", "0.1.0");
        let tickets: Counter = Counter::default();
        metrics.register("join_tickets", "Tickets issued", tickets.clone());
        tickets.inc();
        let page = metrics.encode();
        assert!(
            page.contains(r#"constellation_build_info{program="join-service",version="0.1.0"} 1"#),
            "{page}"
        );
        assert!(
            page.contains("constellation_join_tickets_total 1"),
            "{page}"
        );
    }
}
