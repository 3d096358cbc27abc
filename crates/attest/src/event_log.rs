//! The TCG event logs of a boot: what firmware, boot loader and kernel measured, in order (TCG PC Client Platform Firmware
//! Profile, section 10; UEFI, section 38 for the log of a confidential guest).
//!
//! A log is a hint: it names the parts behind a register. Nothing is accepted because of it; a log that does not lead to
//! the quoted values is a reason to refuse. The steps, each with a type that the next one demands:
//! 1. [`Log`]: the bytes are a log of one of three forms ([`Form`]), within bounds. It says nothing yet.
//! 2. [`BankLog`]: its measurements in one bank, and where they lead ([`BankLog::compare`]).
//! 3. [`Explained`]: the measurements of the registers that were quoted and are led to. Their order and their digests are
//!    certain now. What an event says in its data is so only where its digest is over that data: [`Said`].
//! 4. [`SecureBoot`], [`GoogleFirmware`], [`TdFirmware`], [`Explained::applications`], [`Explained::partition_tables`] and
//!    [`Explained::loader_events`] read such data.
//!
//! [`EventLog`] is the short way for a machine with 24 PCRs of SHA-256.

mod applications;
mod bank;
mod device_path;
mod explained;
mod format;
mod google;
mod guid;
mod loader;
mod manifest;
mod partitions;
mod pcr_log;
mod register;
mod replay;
mod secure_boot;
mod signatures;
mod tdx;
mod variable;

pub use applications::{Application, ImageKind};
pub use bank::{Bank, BankDigest, BankDigestError};
pub use device_path::{DevicePath, Node};
pub use explained::{Explained, Said};
pub use format::{Form, Log, MAX_CCEL};
pub use google::{GoogleFirmware, GoogleFirmwareError, Technology};
pub use guid::Guid;
pub use loader::LoaderEvent;
pub use manifest::ReferenceManifest;
pub use partitions::{Partition, PartitionTable};
pub use pcr_log::{Event, EventLog};
pub use register::{Register, Rtmr};
pub use replay::{
    BankLog, BankLogError, Comparison, Explanation, Measured, Quoted, QuotedError, Unexplained,
};
pub use secure_boot::{Authority, DmaProtection, SecureBoot, SecureBootError, SecureBootState};
pub use signatures::{Signature, SignatureDatabase, SignatureKind};
pub use tdx::{ConfigurationVolume, TdFirmware, TdFirmwareError};
pub use variable::Variable;

/// The largest log of a machine with a TPM: in base64 it must leave room in an evidence document.
pub const MAX_LOG: usize = 160 * 1024;

/// `EV_*` numbers that mean something here.
pub mod event_type {
    /// Informative; extends nothing.
    pub const NO_ACTION: u32 = 0x0000_0003;
    /// Between firmware and what it boots.
    pub const SEPARATOR: u32 = 0x0000_0004;
    /// Tagged by the operating system's loader: the kernel's EFI stub.
    pub const EVENT_TAG: u32 = 0x0000_0006;
    /// The version of the code that measures first.
    pub const S_CRTM_VERSION: u32 = 0x0000_0008;
    /// Initial program loader data: systemd-stub's sections, GRUB's commands, shim's lists.
    pub const IPL: u32 = 0x0000_000d;
    /// What the platform says about itself: Google's technology.
    pub const NONHOST_INFO: u32 = 0x0000_0011;
    /// A variable that decides what may boot: the Secure Boot keys and state.
    pub const EFI_VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
    /// A boot option.
    pub const EFI_VARIABLE_BOOT: u32 = 0x8000_0002;
    /// An EFI application was started: boot loader, UKI, kernel.
    pub const EFI_BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
    /// An EFI driver that ends with the firmware was started.
    pub const EFI_BOOT_SERVICES_DRIVER: u32 = 0x8000_0004;
    /// An EFI driver that stays was started.
    pub const EFI_RUNTIME_SERVICES_DRIVER: u32 = 0x8000_0005;
    /// The partition table.
    pub const EFI_GPT_EVENT: u32 = 0x8000_0006;
    /// A text about what firmware does.
    pub const EFI_ACTION: u32 = 0x8000_0007;
    /// A part of the firmware with a name: a TD's configuration volume.
    pub const EFI_PLATFORM_FIRMWARE_BLOB2: u32 = 0x8000_000a;
    /// Tables with a name: a TD's hand-off block.
    pub const EFI_HANDOFF_TABLES2: u32 = 0x8000_000b;
    /// The entry of a Secure Boot list that let an image run.
    pub const EFI_VARIABLE_AUTHORITY: u32 = 0x8000_00e0;
}
