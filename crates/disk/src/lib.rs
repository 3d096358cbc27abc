//! LUKS2 header guard, the state disk, mounts.
//!
//! Touches one outside thing: the machine's block devices, through `cryptsetup` and `mkfs.ext4` as programs. It knows the types of
//! keys and derives none; it talks to nobody. Specification: `docs/life-of-a-key.md`.

#![forbid(unsafe_code)]

pub mod luks2;
pub mod mounts;
mod program;
mod state_disk;
mod wipe;

pub use program::ProgramError;
pub use state_disk::{
    Found, InitializedDisk, NewDisk, ProbeError, Progress, RunFiles, StateDisk, StateDiskError,
    Step, probe,
};
pub use wipe::WipeError;
