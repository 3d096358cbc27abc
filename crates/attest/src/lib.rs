//! Evidence in, [`Verified`] or [`Refusal`] out.
//!
//! The crate decides whether a machine is the machine a policy asks for. It opens no file and no connection, reads no
//! clock and no environment: evidence, binding, policy, cluster mark, the vendors' statements and the time go in, a verdict comes out. The devices that
//! make evidence are in `tee`; the session a binding belongs to is in `channel`.
//!
//! Every byte of evidence comes from a machine that may lie, so each parser here bounds a collection before it reads
//! it and has no way to panic. Design: `docs/attestation.md`.
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

mod appraise;
pub mod aws;
pub mod azure;
mod binding;
mod cbor;
pub mod certificate_table;
pub mod component;
mod digest;
mod digest384;
mod endorsements;
pub mod event_log;
mod evidence;
pub mod gcp;
mod image;
mod mark;
pub mod nvidia;
mod pcr;
pub mod policy;
pub mod qemu_vtpm;
mod roots;
pub mod sev_snp;
mod strict;
pub mod tdx;
pub mod tpm;
mod variant;
mod verdict;
pub mod vtpm;
pub mod x509;
pub mod yaml;

pub use appraise::{Trust, appraise};
pub use binding::{Binding, Role, UnknownRole};
pub use component::{Component, ComponentDigest};
pub use digest::{Digest, DigestError};
pub use digest384::{Digest384, Digest384Error};
pub use endorsements::{Endorsements, TooManyEndorsements};
pub use evidence::{Evidence, EvidenceError, Issue, IssueError, MAX_EVIDENCE};
pub use image::{ImageEntry, ImageMeasurements, ImageMeasurementsError};
pub use mark::{ClusterIdDigest, ClusterMark};
pub use pcr::{PcrIndex, PcrIndexError, PcrValues};
pub use policy::{Measurement, Measurements, Policy, PolicyDocument, PolicyError};
pub use roots::Roots;
pub use variant::{Missing, Variant, VariantError};
pub use verdict::{
    Check, CheckName, Difference, Findings, Outcome, Refusal, RefusalCode, Step, Stop, Text,
    Verified,
};
