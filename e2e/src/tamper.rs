//! Copies of an image with one byte changed in a component that the boot measures, all of which still boot.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use image::{gpt, pe, uki_range, verity};

/// What is changed, as a host could: the disk is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The kernel's log level in the command line, one digit.
    CommandLine,
    /// A zero byte after the initrd's archive, which the kernel skips.
    Initrd,
    /// The first byte of the root file system, which erofs does not use; hash tree and root hash are made anew to fit.
    RootFileSystem,
}

impl Component {
    /// The name that a refusal gives it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CommandLine => "command line",
            Self::Initrd => "initrd",
            Self::RootFileSystem => "root file system",
        }
    }
}

/// Writes a copy of the image `from` to `to` with `component` changed.
///
/// # Errors
/// When the image is not one of this project, or a file cannot be read or written.
pub fn tamper(from: &Path, to: &Path, component: Component) -> Result<()> {
    let mut disk =
        std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
    let range = uki_range(from)?;
    let uki = usize::try_from(range.start)?..usize::try_from(range.end)?;
    match component {
        Component::CommandLine => {
            let place = find(&disk[uki.clone()], b"loglevel=4")
                .context("no loglevel=4 in the command line")?;
            disk[uki.start + place + b"loglevel=".len()] = b'5';
        }
        Component::Initrd => grow_initrd(&mut disk[uki])?,
        Component::RootFileSystem => change_root(&mut disk, uki)?,
    }
    std::fs::write(to, disk).with_context(|| format!("cannot write {}", to.display()))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}

/// Counts one byte of the section's padding, a zero, as content.
fn grow_initrd(uki: &mut [u8]) -> Result<()> {
    let parsed = pe::Pe::parse(uki)?;
    let section = parsed
        .sections()
        .iter()
        .find(|section| section.name == ".initrd")
        .context("no .initrd")?
        .clone();
    ensure!(
        section.virtual_size < section.raw_size,
        "the initrd fills its section to the last byte; nothing to grow into"
    );
    // a section header: name (8 bytes), virtual size, virtual address, ... (PE/COFF, "Section Table")
    let mut header = b".initrd\0".to_vec();
    header.extend(section.virtual_size.to_le_bytes());
    header.extend(section.virtual_address.to_le_bytes());
    let place = find(uki, &header).context("no section header of .initrd")?;
    uki[place + 8..place + 12].copy_from_slice(&(section.virtual_size + 1).to_le_bytes());
    Ok(())
}

/// Another root file system that verifies: data, hash tree, root hash and the partitions' names all fit.
fn change_root(disk: &mut [u8], uki: std::ops::Range<usize>) -> Result<()> {
    let partitions = gpt::parse(disk, disk.len() as u64)?;
    let place = |kind: gpt::Guid| -> Result<_> {
        let partition = partitions
            .iter()
            .find(|partition| partition.kind == kind)
            .context("partition missing")?;
        let start = usize::try_from(partition.offset)?;
        Ok((start..start + usize::try_from(partition.len)?, partition.id))
    };
    let (root, root_id) = place(gpt::ROOT)?;
    let (tree, tree_id) = place(gpt::ROOT_VERITY)?;

    // the superblock of the hash tree (cryptsetup, "DMVerity"): uuid at 16, data blocks at 72, salt size at 80, salt at 88
    let superblock = &disk[tree.start..tree.start + 512];
    let uuid: [u8; 16] = superblock[16..32].try_into()?;
    let blocks = usize::try_from(u64::from_le_bytes(superblock[72..80].try_into()?))?;
    let salt: [u8; 32] = superblock[88..120].try_into()?;
    let data = root.start..root.start + blocks * verity::BLOCK;

    let before = verity::build(&disk[data.clone()], uuid, &salt);
    disk[root.start] ^= 1;
    let after = verity::build(&disk[data], uuid, &salt);
    ensure!(
        before.bytes.len() == after.bytes.len(),
        "a hash tree of another size"
    );
    disk[tree.start..tree.start + after.bytes.len()].copy_from_slice(&after.bytes);

    let (old, new) = (hex::encode(before.root_hash), hex::encode(after.root_hash));
    let word = find(&disk[uki.clone()], old.as_bytes())
        .context("the command line has another root hash than the tree")?;
    disk[uki.start + word..uki.start + word + new.len()].copy_from_slice(new.as_bytes());

    // the partitions are found by halves of the root hash
    let (first, second) = after.root_hash.split_at(16);
    let contents: Vec<(gpt::Guid, gpt::Guid, std::ops::Range<usize>)> = partitions
        .iter()
        .map(|partition| {
            let start = usize::try_from(partition.offset)?;
            let id = match partition.id {
                id if id == root_id => gpt::Guid(first.try_into()?),
                id if id == tree_id => gpt::Guid(second.try_into()?),
                id => id,
            };
            Ok((
                partition.kind,
                id,
                start..start + usize::try_from(partition.len)?,
            ))
        })
        .collect::<Result<_>>()?;
    let contents: Vec<gpt::Content<'_>> = contents
        .iter()
        .map(|(kind, id, range)| gpt::Content {
            kind: *kind,
            id: *id,
            name: "",
            bytes: &disk[range.clone()],
        })
        .collect();
    let rebuilt = gpt::build(gpt::Guid([0x42; 16]), &contents);
    ensure!(rebuilt.len() == disk.len(), "a disk of another size");
    disk.copy_from_slice(&rebuilt);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A disk of this project's shape: its command line names the root hash of its root file system.
    fn disk() -> Vec<u8> {
        let root = vec![7; 4 * verity::BLOCK];
        let tree = verity::build(&root, [1; 16], &[2; 32]);
        let uki = format!("roothash={} loglevel=4", hex::encode(tree.root_hash));
        let (first, second) = tree.root_hash.split_at(16);
        gpt::build(
            gpt::Guid([9; 16]),
            &[
                part(gpt::ESP, [3; 16], uki.as_bytes()),
                part(gpt::ROOT, first.try_into().unwrap(), &root),
                part(gpt::ROOT_VERITY, second.try_into().unwrap(), &tree.bytes),
            ],
        )
    }

    fn part(kind: gpt::Guid, id: [u8; 16], bytes: &[u8]) -> gpt::Content<'_> {
        let id = gpt::Guid(id);
        gpt::Content {
            kind,
            id,
            name: "",
            bytes,
        }
    }

    fn partition(disk: &[u8], index: usize) -> (gpt::Guid, std::ops::Range<usize>) {
        let table = &disk[..34 * gpt::SECTOR];
        let found = &gpt::parse(table, disk.len() as u64).unwrap()[index];
        let start = usize::try_from(found.offset).unwrap();
        (found.id, start..start + usize::try_from(found.len).unwrap())
    }

    #[test]
    fn another_root_file_system_fits_its_tree_its_hash_and_its_names() {
        let before = disk();
        let mut after = before.clone();
        let (_, uki) = partition(&after, 0);
        change_root(&mut after, uki.clone()).unwrap();

        let (root_id, root) = partition(&after, 1);
        let (tree_id, tree) = partition(&after, 2);
        let changed = before[root.clone()]
            .iter()
            .zip(&after[root.clone()])
            .filter(|(a, b)| a != b)
            .count();
        assert_eq!(changed, 1);
        // a partition is padded
        let data = &after[root.start..root.start + 4 * verity::BLOCK];
        let expected = verity::build(data, [1; 16], &[2; 32]);
        assert_eq!(
            after[tree.start..tree.start + expected.bytes.len()],
            expected.bytes
        );
        let hash = hex::encode(expected.root_hash);
        assert!(find(&after[uki], hash.as_bytes()).is_some());
        assert_eq!([root_id.0, tree_id.0].concat(), expected.root_hash);
    }
}
