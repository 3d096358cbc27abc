//! From the package tree to the disk.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use attest::{ImageEntry, ImageMeasurements, Measurement};
use aws_lc_rs::digest::{SHA256, digest};
use image::{ImageInfo, ImageReference, fat, gpt, uki, verity};
use serde_json::json;

use super::tools::Tool;
use super::tree::{Tree, matches};
use super::{guard, initrd, lines, root};
use crate::step::step;

/// What a build leaves for users; the same bytes each time.
pub(super) const OUTPUTS: [&str; 5] = [
    "image.raw",
    "uki.efi",
    "measurements.json",
    "info.json",
    "manifest.json",
];

/// Everything in the image has this time: 2025-01-01.
const EPOCH: &str = "1735689600";
/// Fixed identifiers of the disk; those of the root partitions are made of the root hash.
const DISK_ID: gpt::Guid = gpt::Guid(*b"constellation-v1");
const ESP_ID: gpt::Guid = gpt::Guid(*b"constellation-ep");
const ROOT_UUID: &str = "636f6e73-7465-6c6c-6174-696f6e2d7274";
const VERITY_UUID: [u8; 16] = *b"constellation-vt";
const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));
const REFERENCE: &str = "-";
const STREAM: &str = "stable";

/// What a build is made of, besides the packages.
pub(crate) struct Inputs {
    /// `crates/image/mkosi`.
    pub(crate) directory: PathBuf,
    /// Directory of the static release programs.
    pub(crate) programs: PathBuf,
    /// Archive of the service images.
    pub(crate) services: PathBuf,
}

impl Inputs {
    pub(super) fn config(&self, name: &str) -> Result<String> {
        let path = self.directory.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    pub(super) fn program(&self, name: &str) -> Result<Rc<[u8]>> {
        let path = self.programs.join(name);
        Ok(std::fs::read(&path)
            .with_context(|| format!("cannot read {}", path.display()))?
            .into())
    }

    pub(super) fn os_release(&self) -> Vec<u8> {
        let version = VERSION;
        format!(
            "NAME=Constellation\nID=constellation\nID_LIKE=debian\nVERSION_ID={version}\nIMAGE_ID=constellation\n\
             IMAGE_VERSION={version}\nPRETTY_NAME=\"Constellation {version}\"\n"
        )
        .into_bytes()
    }
}

/// A digest over all that goes into a build: the configuration, the programs, the package tree, and this program.
pub(super) fn stamp(inputs: &Inputs, tree: &Path) -> Result<String> {
    let mut all = vec![
        std::env::current_exe()?,
        inputs.services.clone(),
        inputs.programs.join("constellation-node"),
    ];
    files_below(&inputs.directory, &mut all)?;
    all.push(tree.with_file_name("stamp"));
    all.sort();
    let mut text = String::new();
    for path in all {
        text += &format!(
            "{} {}\n",
            path.display(),
            hex_digest(&std::fs::read(&path)?)
        );
    }
    Ok(text)
}

fn files_below(directory: &Path, out: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files_below(&entry.path(), out)?;
        } else {
            out.push(entry.path());
        }
    }
    Ok(())
}

pub(super) fn hex_digest(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

/// Builds into `directory`.
pub(super) fn build(inputs: &Inputs, packages: &Path, directory: &Path) -> Result<()> {
    let manifest = manifest(&packages.with_file_name("tree.manifest"))?;
    write(&directory.join("manifest.json"), &manifest)?;
    let packages = step("read the package tree", || {
        let kept = |path: &str| matches("usr/share/dbus-1", path);
        Tree::from_tar(packages, |path| {
            kept(path)
                || !["usr/share/*", "var/cache/*"]
                    .iter()
                    .any(|skip| matches(skip, path))
        })
    })?;
    let root_tree = root::build(&packages, inputs)?;
    guard::root(&root_tree)?;
    let root = step("root file system", || {
        erofs(&root_tree, &packages, directory)
    })?;
    let salt: [u8; 32] = digest(&SHA256, b"constellation root file system")
        .as_ref()
        .try_into()?;
    let verity = verity::build(&root, VERITY_UUID, &salt);

    let initrd_tree = initrd::build(&packages, inputs)?;
    guard::initrd(&initrd_tree)?;
    let initrd = step("initrd", || compress(&initrd_tree.to_cpio()?, &packages))?;
    let kernel = packages
        .0
        .keys()
        .find(|path| matches("usr/lib/modules/*/vmlinuz", path));
    let kernel = kernel.context("no kernel in the package tree")?;
    let version = kernel.split('/').nth(3).unwrap_or_default();
    let command_line = command_line(&inputs.config("cmdline")?, &verity.root_hash);
    guard::command_line(&command_line)?;
    let stub = packages.content("usr/lib/systemd/boot/efi/linuxx64.efi.stub")?;
    // No `.osrel`: the stub would add a file made of it to the initrd, and PCR 9 would hold that instead of our bytes.
    let uki = uki::build(
        stub,
        &[
            (".cmdline", command_line.as_bytes()),
            (".uname", version.as_bytes()),
            (".initrd", &initrd),
            (".linux", packages.content(kernel)?),
        ],
    )?;
    let esp = fat::build(&uki)?;
    let (data_id, hash_id) = verity.root_hash.split_at(16);
    let part = |kind, id, name, bytes| gpt::Content {
        kind,
        id,
        name,
        bytes,
    };
    let disk = gpt::build(
        DISK_ID,
        &[
            part(gpt::ESP, ESP_ID, "esp", &esp),
            part(gpt::ROOT, gpt::Guid(data_id.try_into()?), "root", &root),
            part(
                gpt::ROOT_VERITY,
                gpt::Guid(hash_id.try_into()?),
                "root-verity",
                &verity.bytes,
            ),
        ],
    );
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    eprintln!(
        "root {:.1} MiB in {:.1} MiB, initrd {:.1} MiB in {:.1} MiB, UKI {:.1} MiB, disk {:.1} MiB",
        mib(root_tree.size()),
        mib(root.len()),
        mib(initrd_tree.size()),
        mib(initrd.len()),
        mib(uki.len()),
        mib(disk.len()),
    );
    write(&directory.join("uki.efi"), &uki)?;
    write(&directory.join("image.raw"), &disk)?;
    describe(&uki, directory)
}

/// Names and versions of the packages that were installed, of what mkosi wrote about them.
fn manifest(path: &Path) -> Result<Vec<u8>> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let all: serde_json::Value = serde_json::from_slice(&text)?;
    let packages = all["packages"]
        .as_array()
        .context("mkosi wrote no list of packages")?;
    let packages: Vec<_> = packages
        .iter()
        .map(|package| json!({ "name": package["name"], "version": package["version"] }))
        .collect();
    Ok(serde_json::to_vec_pretty(&json!({ "packages": packages }))?)
}

/// `measurements.json` and `info.json`.
fn describe(uki: &[u8], directory: &Path) -> Result<()> {
    let prediction = image::predict(uki)?;
    let measurements = prediction
        .pcrs
        .iter()
        .map(|(&pcr, &value)| (pcr, Measurement::enforced(value)))
        .collect();
    let measurements = ImageMeasurements {
        version: VERSION.to_owned(),
        reference: REFERENCE.to_owned(),
        stream: STREAM.to_owned(),
        list: vec![ImageEntry {
            csp: "qemu".to_owned(),
            attestation_variant: "qemu-vtpm".to_owned(),
            measurements,
            components: prediction.components,
        }],
    };
    write(
        &directory.join(image::Image::MEASUREMENTS),
        serde_json::to_string_pretty(&measurements)?.as_bytes(),
    )?;
    let info = ImageInfo {
        reference: REFERENCE.to_owned(),
        stream: STREAM.to_owned(),
        version: VERSION.to_owned(),
        list: vec![ImageReference {
            csp: "qemu".to_owned(),
            attestation_variant: "qemu-vtpm".to_owned(),
            reference: image::Image::DISK.to_owned(),
        }],
    };
    write(
        &directory.join(image::Image::INFO),
        serde_json::to_string_pretty(&info)?.as_bytes(),
    )
}

/// The root hash, then the words of the configuration with single spaces.
fn command_line(config: &str, root_hash: &[u8; 32]) -> String {
    let mut words = vec![format!("roothash={}", hex::encode(root_hash))];
    words.extend(
        lines(config)
            .flat_map(str::split_whitespace)
            .map(str::to_owned),
    );
    words.join(" ")
}

/// Makes an erofs of the tree, padded to whole blocks.
fn erofs(tree: &Tree, packages: &Tree, directory: &Path) -> Result<Vec<u8>> {
    let (staging, image) = (directory.join("root"), directory.join("root.erofs"));
    if staging.exists() {
        std::fs::remove_dir_all(&staging)?;
    }
    tree.write(&staging)?;
    Tool::new(packages, "usr/bin/mkfs.erofs")?.run(|command| {
        command.args([
            "--quiet",
            "--all-root",
            "-x-1",
            "-zlz4hc",
            "-T",
            EPOCH,
            "-U",
            ROOT_UUID,
        ]);
        command.arg(&image).arg(&staging)
    })?;
    std::fs::remove_dir_all(&staging)?;
    let mut bytes = std::fs::read(&image)?;
    std::fs::remove_file(&image)?;
    ensure!(
        bytes.len() > verity::BLOCK,
        "mkfs.erofs made an empty file system"
    );
    bytes.resize(bytes.len().next_multiple_of(verity::BLOCK), 0);
    Ok(bytes)
}

/// zstd, with a level whose window the kernel takes.
fn compress(archive: &[u8], packages: &Tree) -> Result<Vec<u8>> {
    use std::io::Write;
    let tool = Tool::new(packages, "usr/bin/zstd")?;
    let mut child = tool
        .command()
        .args(["-q", "-12", "-T1", "--no-check", "-c"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("cannot start zstd")?;
    let mut stdin = child.stdin.take().context("no pipe to zstd")?;
    let archive = archive.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&archive));
    let output = child.wait_with_output()?;
    writer
        .join()
        .map_err(|_| anyhow::anyhow!("the writer to zstd ended"))??;
    ensure!(output.status.success(), "zstd ended with {}", output.status);
    Ok(output.stdout)
}

/// Puts a new file in the old one's place: a machine that runs from the old image keeps it.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    std::fs::write(&new, bytes)
        .and_then(|()| std::fs::rename(&new, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_runs_from_the_old_image_keeps_it() {
        use std::io::{Read, Seek};
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.raw");
        write(&path, b"old").unwrap();
        let mut open = std::fs::File::open(&path).unwrap();
        write(&path, b"another").unwrap();
        let mut text = String::new();
        open.rewind().unwrap();
        open.read_to_string(&mut text).unwrap();
        assert_eq!(text, "old");
        assert_eq!(std::fs::read(&path).unwrap(), b"another");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
