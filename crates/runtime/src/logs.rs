//! Where events go: the log to stderr, the audit stream to stdout, both as JSON lines.

use std::panic;

use tracing_subscriber::{
    EnvFilter, Layer as _, filter::filter_fn, fmt, layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::AUDIT;

/// What the filter is when `CONSTELLATION_LOG` does not say otherwise: HTTP and Kubernetes libraries are chatty at `info`.
const DEFAULT_FILTER: &str = "info,hyper=warn,h2=warn,tower=warn,kube=warn,rustls=warn";

/// Sets up both streams and sends panics to the log.
pub(crate) fn start(program: &'static str, filter: Option<&str>) {
    let (filter, bad) = match filter.map(EnvFilter::try_new) {
        None => (EnvFilter::new(DEFAULT_FILTER), None),
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(DEFAULT_FILTER), Some(error)),
    };
    let log = fmt::layer()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr)
        // Audit events have one place; a filter for the log must neither double nor drop them.
        .with_filter(filter_fn(|metadata| metadata.target() != AUDIT))
        .with_filter(filter);
    let audit = fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_writer(std::io::stdout)
        .with_filter(filter_fn(|metadata| metadata.target() == AUDIT));
    // A second call in one process (a test) keeps the first set-up.
    let _kept = tracing_subscriber::registry()
        .with(log)
        .with(audit)
        .try_init();
    panic::set_hook(Box::new(move |info| {
        tracing::error!(
            program,
            location = info.location().map(ToString::to_string),
            "panic: {}",
            info.payload_as_str().unwrap_or("without a message")
        );
    }));
    if let Some(error) = bad {
        tracing::warn!(error = %crate::chain(&error), "CONSTELLATION_LOG is not a filter; using the default");
    }
}
