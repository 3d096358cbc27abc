//! Writing zeros through an opened device from end to end, so that every sector gets a valid integrity tag.
//!
//! A sector that was never written has no valid tag, and reading it fails: `mkfs.ext4` already stops at the first. The cost is that of
//! encrypting and authenticating every sector once; it is done in large writes past the page cache, by two threads, so that
//! there is always work queued for every processor.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

const CHUNK: usize = 4 * 1024 * 1024;
/// What direct input/output needs memory to be aligned to.
const ALIGNMENT: usize = 4096;
const WRITERS: usize = 2;

/// Wiping failed.
#[derive(Debug, thiserror::Error)]
pub enum WipeError {
    /// The device can not be opened or its size be read.
    #[error("cannot open {} to wipe it", path.display())]
    Open {
        /// The device.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A write failed.
    #[error("cannot wipe {} at byte {offset}", path.display())]
    Write {
        /// The device.
        path: PathBuf,
        /// Where.
        offset: u64,
        #[source]
        source: io::Error,
    },
    /// The device did not confirm that all is written.
    #[error("cannot flush {} after wiping it", path.display())]
    Flush {
        /// The device.
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Writes zeros over all of the device. `report` is called with the bytes done and the bytes in all.
pub(crate) fn wipe(path: &Path, report: &mut dyn FnMut(u64, u64)) -> Result<(), WipeError> {
    let open = |source| WipeError::Open {
        path: path.to_owned(),
        source,
    };
    let direct = i32::try_from(rustix::fs::OFlags::DIRECT.bits()).expect("O_DIRECT is one low bit");
    let mut device = OpenOptions::new()
        .write(true)
        .custom_flags(direct)
        .open(path)
        .map_err(open)?;
    let size = device.seek(SeekFrom::End(0)).map_err(open)?;

    let zeros = Zeros::new();
    let write = |offset| write(&device, &zeros, offset, size);
    write_all(size, &write, report).map_err(|(offset, source)| WipeError::Write {
        path: path.to_owned(),
        offset,
        source,
    })?;
    device.sync_all().map_err(|source| WipeError::Flush {
        path: path.to_owned(),
        source,
    })
}

/// Has the writers write every chunk of `size` bytes; `write` takes a chunk's offset and says how long it was. The first error, with
/// its offset, stops all of them.
fn write_all(
    size: u64,
    write: &(impl Fn(u64) -> io::Result<u64> + Sync),
    report: &mut dyn FnMut(u64, u64),
) -> Result<(), (u64, io::Error)> {
    let next = AtomicU64::new(0);
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let offset = next.fetch_add(CHUNK as u64, Ordering::Relaxed);
                    if offset >= size {
                        return;
                    }
                    let written = write(offset);
                    let failed = written.is_err();
                    // a receiver that is gone has seen an error of the other writer
                    if sender.send((offset, written)).is_err() || failed {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut done = 0;
        // by value, so that an error drops it before the scope waits for the writers
        for (offset, written) in receiver {
            done += written.map_err(|source| (offset, source))?;
            report(done, size);
        }
        Ok(())
    })
}

fn write(device: &File, zeros: &Zeros, offset: u64, size: u64) -> io::Result<u64> {
    let chunk = zeros.chunk();
    let length = usize::try_from(size - offset).unwrap_or(CHUNK).min(CHUNK);
    device.write_all_at(chunk.get(..length).unwrap_or(chunk), offset)?;
    Ok(length as u64)
}

/// Aligned zeros.
struct Zeros(Vec<u8>);

impl Zeros {
    fn new() -> Self {
        Self(vec![0; CHUNK + ALIGNMENT])
    }

    fn chunk(&self) -> &[u8] {
        let start = self.0.as_ptr().align_offset(ALIGNMENT);
        self.0
            .get(start..start + CHUNK)
            .expect("there is one alignment more than a chunk")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes around the chunk: nothing, less, exactly, more, and a tail.
    #[test]
    fn every_byte_becomes_zero() {
        // Direct input/output does not work on every file system that holds temporary files; the target directory is on a disk.
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        for size in [0, 4096, CHUNK, CHUNK + 4096, 3 * CHUNK + 8192] {
            let path = directory.path().join("device");
            std::fs::write(&path, vec![0xff; size]).unwrap();
            let mut last = (0, 0);
            wipe(&path, &mut |done, total| last = (done, total)).unwrap();
            let wiped = std::fs::read(&path).unwrap();
            assert_eq!(wiped.len(), size);
            assert!(wiped.iter().all(|byte| *byte == 0), "{size}");
            if size > 0 {
                assert_eq!(last, (size as u64, size as u64));
            }
        }
    }

    /// A disk of a terabyte whose first chunk can not be written must not be written to its end before anybody hears of it.
    #[test]
    fn an_error_of_one_writer_stops_the_other() {
        let chunks = AtomicU64::new(0);
        let write = |offset| {
            chunks.fetch_add(1, Ordering::Relaxed);
            if offset == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
            Ok(CHUNK as u64)
        };
        let total = 5000;
        let (offset, error) = write_all(total * CHUNK as u64, &write, &mut |_, _| {}).unwrap_err();
        assert_eq!((offset, error.kind()), (0, io::ErrorKind::StorageFull));
        let chunks = chunks.into_inner();
        assert!(chunks < total / 2, "{chunks} of {total} chunks");
    }

    #[test]
    fn a_missing_device_is_named() {
        let error = wipe(Path::new("/no/such/device"), &mut |_, _| {}).unwrap_err();
        assert_eq!(error.to_string(), "cannot open /no/such/device to wipe it");
    }

    #[test]
    fn a_full_device_is_an_error_with_its_place() {
        // /dev/full: every write fails with "no space left", and seeking to its end gives 0, so write directly.
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = write(&full, &Zeros::new(), 0, 4096).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
