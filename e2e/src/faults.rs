//! Faults into a running control plane, and a checker that goes through them: what the API acknowledged is there afterwards.

pub mod checker;
pub mod control_plane;
pub mod ledger;
pub mod random;
pub mod rotation;
pub mod table;
