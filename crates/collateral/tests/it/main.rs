//! The crate against a server that behaves as the vendors' services do, on real collateral.

#![expect(
    clippy::unwrap_used,
    reason = "the whole crate is a test; clippy exempts only the functions marked as one"
)]

mod bundle;
mod cache;
mod endorse;
mod fetch;
mod lab;
mod needs;
mod rollback;
