//! This machine's trusted hardware: reads and extends its PCRs, and makes evidence with it.
//!
//! Decides nothing: what evidence is worth is `attest`'s business. Blocking; callers with an executor hand calls to a
//! blocking thread.
#![forbid(unsafe_code)]

pub mod azure;
pub mod detect;
mod event_log;
pub mod gcp;
mod issuer;
pub mod metadata;
pub mod report;
pub mod tpm;
pub mod tsm;

pub use event_log::{EventLogError, KERNEL_EVENT_LOG, read_event_log};
pub use issuer::{QuoteError, TpmIssuer};
pub use tpm::{Tpm, TpmAddress, TpmError};
