//! `EFI_DEVICE_PATH_PROTOCOL` (UEFI 10.3): from where firmware loaded an image, as a text for a person.

use std::fmt;

use super::Guid;
use super::variable::utf16_text;
use crate::tpm::{ParseError, Reader};

/// Nodes of a path: real ones have fewer than ten.
const MAX_NODES: usize = 64;
/// Bytes of a path.
pub(super) const MAX_PATH: usize = 4096;

/// One node of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// An ACPI device: `HID`, `UID`.
    Acpi(u32, u32),
    /// A PCI device: device, function.
    Pci(u8, u8),
    /// A SCSI device: target, logical unit.
    Scsi(u16, u16),
    /// A USB device: port, interface.
    Usb(u8, u8),
    /// A SATA device: port, multiplier port, logical unit.
    Sata(u16, u16, u16),
    /// A namespace of an NVMe device, and its EUI-64.
    Nvme(u32, [u8; 8]),
    /// A network interface.
    Mac([u8; 6]),
    /// An address on the network.
    Uri(String),
    /// A partition of a disk by its GUID: number and GUID.
    GptPartition(u32, Guid),
    /// A partition of a disk by its number.
    MbrPartition(u32),
    /// A file.
    File(String),
    /// A volume of the firmware.
    FirmwareVolume(Guid),
    /// A file in a volume of the firmware.
    FirmwareFile(Guid),
    /// A node of a vendor's own in the class of media.
    Vendor(Guid),
    /// Another node: type, sub-type, and how many bytes follow.
    Other(u8, u8, usize),
}

/// A path. Nothing covers it: the digest of its event is over the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DevicePath {
    /// The nodes without the end.
    pub nodes: Vec<Node>,
}

impl DevicePath {
    /// Reads a path up to its end, without a byte left over.
    ///
    /// # Errors
    /// When a node is cut off or shorter than its kind, the end is missing, or a bound is broken.
    pub fn parse(bytes: &[u8]) -> Result<Self, ParseError> {
        const HEAD: usize = 4;
        const END: u8 = 0x7f;
        const END_ENTIRE: u8 = 0xff;
        if bytes.len() > MAX_PATH {
            return Err(ParseError::TooLarge {
                field: "DevicePath",
                value: bytes.len(),
                bound: MAX_PATH,
            });
        }
        let mut reader = Reader::little_endian(bytes);
        let mut nodes = Vec::new();
        loop {
            let kind = reader.u8("device path type")?;
            let sub = reader.u8("device path sub-type")?;
            let length = usize::from(reader.u16("device path length")?);
            let Some(size) = length.checked_sub(HEAD) else {
                return Err(ParseError::Unsupported {
                    field: "device path length",
                    value: length as u64,
                });
            };
            let data = reader.bytes("device path node", size)?;
            if kind == END && sub == END_ENTIRE {
                reader.finish("DevicePath")?;
                return Ok(Self { nodes });
            }
            if nodes.len() == MAX_NODES {
                return Err(ParseError::TooLarge {
                    field: "device path nodes",
                    value: MAX_NODES + 1,
                    bound: MAX_NODES,
                });
            }
            nodes.push(node(kind, sub, data)?);
        }
    }
}

fn node(kind: u8, sub: u8, data: &[u8]) -> Result<Node, ParseError> {
    let mut reader = Reader::little_endian(data);
    let text = |data: &[u8]| {
        utf16_text(data).ok_or(ParseError::Unsupported {
            field: "PathName",
            value: data.len() as u64,
        })
    };
    Ok(match (kind, sub) {
        (1, 1) => {
            let function = reader.u8("Function")?;
            Node::Pci(reader.u8("Device")?, function)
        }
        (2, 1) => Node::Acpi(reader.u32("HID")?, reader.u32("UID")?),
        (3, 2) => Node::Scsi(reader.u16("TargetId")?, reader.u16("Lun")?),
        (3, 5) => Node::Usb(
            reader.u8("ParentPortNumber")?,
            reader.u8("InterfaceNumber")?,
        ),
        (3, 11) => Node::Mac(reader.array("MacAddress")?),
        (3, 18) => Node::Sata(
            reader.u16("HBAPortNumber")?,
            reader.u16("PortMultiplierPortNumber")?,
            reader.u16("Lun")?,
        ),
        (3, 23) => Node::Nvme(reader.u32("NamespaceId")?, reader.array("NamespaceUuid")?),
        (3, 24) => Node::Uri(String::from_utf8_lossy(data).into_owned()),
        (4, 1) => {
            let number = reader.u32("PartitionNumber")?;
            reader.bytes("PartitionStart and PartitionSize", 16)?;
            let signature: [u8; 16] = reader.array("Signature")?;
            reader.u8("MBRType")?;
            match reader.u8("SignatureType")? {
                2 => Node::GptPartition(number, Guid::from_bytes(signature)),
                _ => Node::MbrPartition(number),
            }
        }
        (4, 3) => Node::Vendor(Guid::from_bytes(reader.array("VendorGuid")?)),
        (4, 4) => Node::File(text(data)?),
        (4, 6) => Node::FirmwareFile(Guid::from_bytes(reader.array("FvFileName")?)),
        (4, 7) => Node::FirmwareVolume(Guid::from_bytes(reader.array("FvName")?)),
        (_, _) => Node::Other(kind, sub, data.len()),
    })
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // PNP0A03 in compressed form
            Self::Acpi(0x0a03_41d0, unit) => write!(f, "PciRoot({unit:#x})"),
            Self::Acpi(device, unit) => write!(f, "Acpi({device:#010x},{unit:#x})"),
            Self::Pci(device, function) => write!(f, "Pci({device:#x},{function:#x})"),
            Self::Scsi(target, unit) => write!(f, "Scsi({target:#x},{unit:#x})"),
            Self::Usb(port, interface) => write!(f, "USB({port:#x},{interface:#x})"),
            Self::Sata(port, multiplier, unit) => {
                write!(f, "Sata({port:#x},{multiplier:#x},{unit:#x})")
            }
            Self::Nvme(namespace, id) => write!(f, "NVMe({namespace:#x},{})", hex::encode(id)),
            Self::Mac(address) => write!(f, "MAC({})", hex::encode(address)),
            Self::Uri(uri) => write!(f, "Uri({uri})"),
            Self::GptPartition(number, id) => write!(f, "HD({number},GPT,{id})"),
            Self::MbrPartition(number) => write!(f, "HD({number},MBR)"),
            Self::File(path) => f.write_str(path),
            Self::FirmwareVolume(id) => write!(f, "Fv({id})"),
            Self::FirmwareFile(id) => write!(f, "FvFile({id})"),
            Self::Vendor(id) => write!(f, "VenMedia({id})"),
            Self::Other(kind, sub, size) => write!(f, "Path({kind},{sub},{size} bytes)"),
        }
    }
}

impl fmt::Display for DevicePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, node) in self.nodes.iter().enumerate() {
            if number > 0 {
                f.write_str("/")?;
            }
            fmt::Display::fmt(node, f)?;
        }
        Ok(())
    }
}
