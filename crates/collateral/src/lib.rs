//! What hardware vendors publish about their machines - certificates of chips, revocation lists, statements about
//! firmware - fetched once, kept on disk, carried in bundles.
//!
//! The crate touches the vendors' services and one directory. It decides nothing about trust: what arrives is checked
//! for its shape and its size, for being what was asked, and, if it is a list or statement, for coming from its publisher
//! and not before what is there. Whether evidence is believed is judged by `attest`, which looks at every signature again.
//! So a service, a mirror or a bundle that lies can withhold collateral and can waste time; it can not make a machine
//! trusted, and can not take back what it once handed out.
//!
//! [`Item`] names what there is; [`Collateral`] gets it, from the [`Cache`] or from the vendor; [`Bundle`] carries it to
//! a site without Internet; [`needs`] says what a piece of evidence needs, and
//! [`Collateral::endorse`] gets it for a verifier. Design: `docs/attestation.md`, Collateral.
#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::wildcard_enum_match_arm)]
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable
    )
)]

mod bundle;
mod cache;
mod endorsements;
mod entry;
mod fetch_error;
mod genuine;
mod http;
mod item;
mod lane;
pub mod needs;
mod service;
mod settings;
mod shape;

pub use bundle::{Bundle, BundleError, MAX_BUNDLE, MAX_ITEMS, TarError};
pub use cache::{Bounds, Cache, CacheError, Listed, Written};
pub use endorsements::{Endorsed, Missing, NotAStatement, add_entries};
pub use entry::{Ages, Entry, State};
pub use fetch_error::{FetchError, Reason};
pub use genuine::NotGenuine;
pub use item::{
    ChipId, CrlUrl, Fmspc, Item, ItemError, PckCa, Product, Signer, TcbVersion, Update, Vcek,
    Vendor,
};
pub use service::{Answer, Collateral, Demand, Note, OnFailure, Refresh, default_directory};
pub use settings::{Ambient, CrlOrigin, Endpoints, Pace, Proxies, Retries, Settings};
pub use shape::ShapeError;
