//! The process frame of every service: arguments, logs, signals, health, metrics, drain; and the ports that strangers reach.
//!
//! A program hands its name and one `run` function to [`main`]; what `run` gets is a [`Context`]: the token that is
//! cancelled when the process is asked to stop, the readiness conditions, and the metrics. This crate knows nothing of the
//! domain: no node, no key, no evidence. It is, with the CLI, the only place that reads arguments and environment.
//!
//! Two streams leave a process: its log (JSON lines on stderr) and its audit events (JSON lines on stdout, everything
//! whose target is [`AUDIT`]). They are apart so that a collector can keep the second longer than the first.

mod chain;
mod health;
mod http;
mod listen;
mod logs;
mod metrics;
mod process;

pub use chain::{Chain, chain};
pub use health::{Condition, Health};
pub use http::{ServeError, serve_operations};
pub use listen::{BoundedListener, Connection, Share, Shares, Source, public_grpc};
pub use metrics::Metrics;
pub use process::{Context, DRAIN_DEADLINE, main};

/// The target of audit events: `tracing::info!(target: runtime::AUDIT, ...)`.
pub const AUDIT: &str = "audit";
