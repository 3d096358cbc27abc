//! `UEFI_IMAGE_LOAD_EVENT` (PC Client Platform Firmware Profile, 10.2.3): the images that firmware started.

use super::device_path::MAX_PATH;
use super::variable::length;
use super::{BankDigest, DevicePath, Explained, Register, event_type};
use crate::tpm::{ParseError, Reader};

/// What an image was started as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageKind {
    /// A boot loader, a UKI, a kernel.
    Application,
    /// A driver that ends with the firmware.
    BootServicesDriver,
    /// A driver that stays.
    RuntimeDriver,
}

/// An image that firmware started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Where it was measured.
    pub register: Register,
    /// What it was started as, by the writer of the log.
    pub claimed_kind: ImageKind,
    /// Its Authenticode digest: the one thing here that is certain.
    pub digest: BankDigest,
    /// From where it was loaded, by the writer of the log; nothing if it says nothing that can be read.
    pub claimed_path: Option<DevicePath>,
}

impl Explained<'_> {
    /// The images that were started, in order.
    #[must_use]
    pub fn applications(&self) -> Vec<Application> {
        self.events()
            .filter_map(|event| {
                let claimed_kind = match event.kind {
                    event_type::EFI_BOOT_SERVICES_APPLICATION => ImageKind::Application,
                    event_type::EFI_BOOT_SERVICES_DRIVER => ImageKind::BootServicesDriver,
                    event_type::EFI_RUNTIME_SERVICES_DRIVER => ImageKind::RuntimeDriver,
                    _ => return None,
                };
                Some(Application {
                    register: event.register,
                    claimed_kind,
                    digest: event.digest,
                    claimed_path: path_of(event.data).ok(),
                })
            })
            .collect()
    }
}

fn path_of(data: &[u8]) -> Result<DevicePath, ParseError> {
    let mut reader = Reader::little_endian(data);
    reader.u64("ImageLocationInMemory")?;
    reader.u64("ImageLengthInMemory")?;
    reader.u64("ImageLinkTimeAddress")?;
    let size = length(&mut reader, "LengthOfDevicePath", MAX_PATH)?;
    let path = reader.bytes("DevicePath", size)?;
    DevicePath::parse(path)
}
