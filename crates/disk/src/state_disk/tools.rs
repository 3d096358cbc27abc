//! What is done with `cryptsetup` and `mkfs.ext4`: format, open, close, change a key, make a file system.

use std::path::{Path, PathBuf};

use keys::{DiskKey, FirstBootKey};
use uuid::Uuid;

use super::StateDiskError;
use crate::luks2::DATA_OFFSET;
use crate::program;

/// The keys are uniformly random 256-bit keys: stretching them adds nothing. This is the least that cryptsetup takes; the original's
/// Argon2 with 64 MiB costs seconds, and a multiple of that on an emulated processor.
const CHEAPEST_KDF: [&str; 2] = ["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"];

pub(super) fn mapped(name: &str) -> PathBuf {
    Path::new("/dev/mapper").join(name)
}

pub(super) fn luks_format(
    device: &Path,
    header: &Path,
    uuid: Uuid,
    key: &FirstBootKey,
) -> Result<(), StateDiskError> {
    let [header, uuid] = [header.display().to_string(), uuid.to_string()];
    let offset = format!("--offset={}", DATA_OFFSET / 512);
    let device = device.display().to_string();
    let mut arguments = vec![
        "luksFormat",
        "--batch-mode",
        "--type=luks2",
        "--cipher=aes-xts-plain64",
        "--key-size=512",
        "--integrity=hmac-sha256",
        "--integrity-no-wipe",
        "--sector-size=4096",
        "--key-slot=0",
        "--key-file=-",
        "--uuid",
        &uuid,
        "--header",
        &header,
        &offset,
    ];
    arguments.extend(CHEAPEST_KDF);
    arguments.push(&device);
    program::cryptsetup(&arguments, &[key.expose_bytes()]).map_err(|source| {
        StateDiskError::Program {
            what: "format the state disk",
            source,
        }
    })
}

pub(super) fn open(
    device: &Path,
    header: &Path,
    name: &str,
    options: &[&str],
    key: &[&[u8]],
) -> Result<(), StateDiskError> {
    let [device, header] = [device, header].map(|path| path.display().to_string());
    let mut arguments = vec![
        "open",
        "--type=luks2",
        "--key-file=-",
        "--key-slot=0",
        "--header",
        &header,
    ];
    arguments.extend(options);
    arguments.extend([device.as_str(), name]);
    program::cryptsetup(&arguments, key).map_err(|source| StateDiskError::Program {
        what: "open the state disk",
        source,
    })
}

pub(super) fn close(name: &str) -> Result<(), StateDiskError> {
    program::cryptsetup(&["close", name], &[]).map_err(|source| StateDiskError::Program {
        what: "close the state disk",
        source,
    })
}

/// Both keys go over one pipe: cryptsetup reads as many bytes of it as each has.
pub(super) fn change_key(
    header: &Path,
    old: &FirstBootKey,
    new: &DiskKey,
) -> Result<(), StateDiskError> {
    let header = header.display().to_string();
    let mut arguments = vec![
        "luksChangeKey",
        "--batch-mode",
        "--key-slot=0",
        "--key-file=-",
        "--keyfile-size=32",
        "--new-keyfile-size=32",
    ];
    arguments.extend(CHEAPEST_KDF);
    arguments.extend([header.as_str(), "-"]);
    program::cryptsetup(&arguments, &[old.expose_bytes(), new.expose_bytes()]).map_err(|source| {
        StateDiskError::Program {
            what: "change the state disk's key",
            source,
        }
    })
}

pub(super) fn test_key(header: &Path, key: &DiskKey) -> Result<(), StateDiskError> {
    let header = header.display().to_string();
    let arguments = [
        "open",
        "--type=luks2",
        "--test-passphrase",
        "--key-file=-",
        &header,
    ];
    program::cryptsetup(&arguments, &[key.expose_bytes()]).map_err(|source| {
        StateDiskError::Program {
            what: "open the state disk's new header",
            source,
        }
    })
}

/// The device was wiped with zeros just now, so neither the inode tables nor the journal need to be zeroed again.
pub(super) fn make_file_system(device: &Path) -> Result<(), StateDiskError> {
    let device = device.display().to_string();
    let arguments = [
        "-q",
        "-F",
        "-b",
        "4096",
        "-E",
        "assume_storage_prezeroed=1,nodiscard",
        device.as_str(),
    ];
    program::mkfs_ext4(&arguments).map_err(|source| StateDiskError::Program {
        what: "make the file system",
        source,
    })
}
