//! A disk with a LUKS2 header on which keys are tried by `cryptsetup`, and a `cryptsetup` that opens one, without the kernel's device
//! mapper.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

/// Is cryptsetup in everything but the mapping: a key is tried on the header as ever, and a file in the directory then says that a
/// device of this name is there. Exit codes and words are those of cryptsetup 2.6.
const WITHOUT_DEVICE_MAPPER: &str = r#"#!/bin/sh
directory=@directory@
case "$1 $*" in
*--test-passphrase*) ;;
open*)
    for name; do :; done
    if test -e "$directory/mapped-$name"; then
        echo "Device $name already exists." >&2
        exit 5
    fi
    "$directory/real" "$@" --test-passphrase || exit
    : > "$directory/mapped-$name"
    exit ;;
close*)
    if ! rm "$directory/mapped-$2"; then
        echo "Device $2 is not active." >&2
        exit 4
    fi
    exit ;;
esac
exec "$directory/real" "$@"
"#;

/// Makes a program that is to be mounted over cryptsetup, in a directory without spaces in its name.
///
/// # Errors
/// When there is no cryptsetup, or the directory can not be written.
pub fn without_device_mapper(directory: &Path) -> Result<PathBuf> {
    let real = ["/usr/sbin/cryptsetup", "/sbin/cryptsetup"];
    let real = real.into_iter().find(|path| Path::new(path).exists());
    let real = real.context("no cryptsetup (package cryptsetup-bin)")?;
    std::fs::copy(real, directory.join("real")).context("cannot copy cryptsetup")?;
    let program = directory.join("cryptsetup");
    let text = WITHOUT_DEVICE_MAPPER.replace("@directory@", &directory.display().to_string());
    std::fs::write(&program, text)
        .and_then(|()| std::fs::set_permissions(&program, Permissions::from_mode(0o755)))
        .context("cannot write the program")?;
    Ok(program)
}

/// The disk; clones are the same one.
#[derive(Clone)]
pub struct LuksDisk {
    directory: Arc<TempDir>,
    tried: Arc<AtomicU32>,
}

impl LuksDisk {
    /// Formats a file with a UUID and a key.
    ///
    /// # Errors
    /// When `cryptsetup` (package cryptsetup-bin) does not do it.
    pub fn format(uuid: &str, key: &[u8]) -> Result<Self> {
        let directory = TempDir::new().context("cannot make a directory")?;
        let disk = Self {
            directory: Arc::new(directory),
            tried: Arc::default(),
        };
        let path = disk.path();
        std::fs::File::create(&path)
            .and_then(|file| file.set_len(20 << 20))
            .context("cannot make the disk's file")?;
        let path = path.display().to_string();
        let code = cryptsetup(
            &[
                "luksFormat",
                "--batch-mode",
                "--type=luks2",
                "--uuid",
                uuid,
                "--key-file=-",
                "--pbkdf=pbkdf2",
                "--pbkdf-force-iterations=1000",
                &path,
            ],
            key,
        )?;
        ensure!(code == 0, "cryptsetup luksFormat ended with {code}");
        Ok(disk)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    /// Whether a key opens it.
    ///
    /// # Errors
    /// When `cryptsetup` says neither yes nor no.
    pub fn opens_with(&self, key: &[u8]) -> Result<bool> {
        self.tried.fetch_add(1, Ordering::Relaxed);
        let path = self.path().display().to_string();
        let arguments = [
            "open",
            "--type=luks2",
            "--test-passphrase",
            "--key-file=-",
            &path,
        ];
        match cryptsetup(&arguments, key)? {
            0 => Ok(true),
            2 => Ok(false),
            code => bail!("cryptsetup open ended with {code}"),
        }
    }

    /// How many keys were tried on it.
    #[must_use]
    pub fn tried(&self) -> u32 {
        self.tried.load(Ordering::Relaxed)
    }
}

fn cryptsetup(arguments: &[&str], key: &[u8]) -> Result<i32> {
    let mut child = Command::new("cryptsetup")
        .args(arguments)
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("cryptsetup is needed (package cryptsetup-bin)")?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(key).context("cannot give it the key")?;
    drop(stdin);
    let status = child.wait().context("cannot wait for cryptsetup")?;
    status.code().context("cryptsetup was killed")
}
