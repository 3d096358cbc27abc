//! The OS image: what it is made of, and what a TPM holds after it booted.
//!
//! An image is a disk (`image.raw`: GPT with ESP, root, root-verity) whose only measured file is a unified kernel image
//! (UKI): boot stub, kernel, initrd and command line in one PE file. The command line holds the root hash of dm-verity, so
//! that one measured file pins every byte that runs. [`predict`] tells from the UKI alone which values PCR 4, 9 and 11 have
//! after boot, and [`Image`] reads what the build left beside the disk.
//!
//! This crate has no opinion on whether a machine may be trusted (that is `attest`), starts no machine (`cloud`) and runs no
//! program: `cargo xtask image` calls it to assemble the image. Every parser here takes foreign bytes, is bounded and does
//! not panic.
//!
//! Specification: PE/COFF and Authenticode of Microsoft, UEFI 2.10 chapter 5 (GPT), the UAPI group's UKI specification,
//! TCG PC Client Platform Firmware Profile; `docs/life-of-a-boot.md` says what is measured where.

mod bytes;
pub mod cpio;
pub mod fat;
pub mod gpt;
mod open;
pub mod pe;
mod predict;
pub mod uki;
pub mod verity;

pub use open::{Image, ImageInfo, ImageReference, OpenError, uki_range};
pub use predict::{PredictError, Prediction, predict};
