//! This machine's trusted hardware: reads and extends its PCRs, and makes evidence with it.
//!
//! Decides nothing: what evidence is worth is `attest`'s business. Blocking; callers with an executor hand calls to a
//! blocking thread.
#![deny(unsafe_code)] // but for `sys`: an ioctl is handed an address, which no safe code can vouch for

pub mod azure;
pub mod detect;
pub mod devices;
mod event_log;
pub mod gcp;
pub mod hardware;
mod issuer;
pub mod metadata;
pub mod quote_service;
pub mod report;
pub mod sev_guest;
mod statement;
mod sys;
pub mod tdx_guest;
pub mod tpm;
pub mod tsm;

pub use event_log::{EventLogError, KERNEL_EVENT_LOG, read_event_log};
pub use issuer::{CloudError, CloudIssuer, NoIssuer, Part, TpmIssuer, issuer_for};
pub use statement::QuoteError;
pub use tpm::{Tpm, TpmAddress, TpmError};
