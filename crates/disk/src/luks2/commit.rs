//! Putting a header on a device and taking one away, so that a crash at any moment leaves no header or a whole one.
//!
//! All that makes a header visible is the first sector of each copy, and a device writes a sector whole or not at all. The
//! steps are data, each is made durable before the next begins, and the tests cut them at every sector:
//!
//! | step | if the machine stops during or after it |
//! |---|---|
//! | `erase secondary` | the old header is still whole but for its second copy: not initialised, a new disk |
//! | `erase primary` | no header: a new disk |
//! | `keyslot`, `text` | no header: a new disk |
//! | `primary` | before: a new disk; after: the header is there, and its blank second copy is written at the next opening |
//! | `secondary` | the same |
//!
//! The header of an initialised disk is not rewritten by this: erasing it first would leave a moment without any.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::binary::SECTOR;
use super::{COPY_SIZE, Copy, VerifiedHeader};

/// Writes that may reach the device in any order, and are all durable before the next step.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) writes: Vec<Write>,
}

/// Bytes for one place.
pub(crate) struct Write {
    pub(crate) offset: u64,
    pub(crate) bytes: Vec<u8>,
}

/// Takes a header away. The second copy goes first: the first without the second is a state that can be read.
pub(crate) fn erase() -> [Step; 2] {
    let blank = |name, copy: Copy| Step {
        name,
        writes: vec![at(copy, 0, &[0; SECTOR])],
    };
    [
        blank("erase secondary", Copy::Secondary),
        blank("erase primary", Copy::Primary),
    ]
}

/// Puts a header on a device that has none.
pub(crate) fn create(header: &VerifiedHeader, keyslot_area: &[u8]) -> [Step; 4] {
    let bytes = header.encode();
    let part = |copy: Copy, from: usize, to: usize| {
        let start = copy.offset();
        let bytes = bytes
            .get(start + from..start + to)
            .expect("both copies are in what was encoded");
        at(copy, from, bytes)
    };
    let keyslot = Write {
        offset: header.keyslot_area().start,
        bytes: keyslot_area.to_vec(),
    };
    let text = |copy| part(copy, SECTOR, COPY_SIZE);
    let sector = |copy| part(copy, 0, SECTOR);
    [
        Step {
            name: "keyslot",
            writes: vec![keyslot],
        },
        Step {
            name: "text",
            writes: vec![text(Copy::Primary), text(Copy::Secondary)],
        },
        Step {
            name: "primary",
            writes: vec![sector(Copy::Primary)],
        },
        Step {
            name: "secondary",
            writes: vec![sector(Copy::Secondary)],
        },
    ]
}

/// The last step alone, for a header that was found without its second copy.
pub(crate) fn complete(header: &VerifiedHeader) -> Step {
    let [_, _, _, secondary] = create(header, &[]);
    secondary
}

/// Carries out one step.
pub(crate) fn apply(device: &File, step: &Step) -> io::Result<()> {
    for write in &step.writes {
        device.write_all_at(&write.bytes, write.offset)?;
    }
    device.sync_data()
}

fn at(copy: Copy, offset: usize, bytes: &[u8]) -> Write {
    Write {
        offset: (copy.offset() + offset) as u64,
        bytes: bytes.to_vec(),
    }
}

#[cfg(test)]
mod tests;
