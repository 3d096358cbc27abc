//! What every virtual TPM states: a quote over the session, the PCR values it is over, and the log of what was measured.
//!
//! Why the key that signs it may be believed is the business of each kind of machine.

pub mod document;

pub use document::{DocumentError, MAX_CERTIFICATES, TpmEvidence};
