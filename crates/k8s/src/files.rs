//! Files as values: rendered first, written later, and only when they differ.
//!
//! Lets everything that renders be a pure function, and makes writing idempotent. Knows nothing about what the files mean.

use std::{
    fmt, fs, io,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

/// Text that holds a key: never printed, zeroed on drop, leaves through [`SecretText::expose`] only.
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// Takes ownership of secret text.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// A second copy, for a second file with the same key.
    pub(crate) fn duplicate(&self) -> Self {
        Self(self.0.clone())
    }

    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

/// What a file holds.
#[derive(Debug)]
pub enum Contents {
    /// Anyone on the node may read it.
    Public(String),
    /// Keys; owner only.
    Secret(SecretText),
}

impl Contents {
    /// The text, treated as a secret whatever it is.
    pub(crate) fn into_secret(self) -> SecretText {
        match self {
            Self::Public(text) => SecretText::new(text),
            Self::Secret(text) => text,
        }
    }
}

/// A file to be written.
#[derive(Debug)]
pub struct File {
    /// Absolute path.
    pub path: PathBuf,
    /// What it holds.
    pub contents: Contents,
}

/// Why a file could not be written or read.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {path}", path = path.display())]
pub struct FileError {
    /// What was tried, such as `write`.
    pub operation: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// How it failed.
    #[source]
    pub source: io::Error,
}

/// Whether writing changed anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// The file is new or has new contents.
    Changed,
    /// It was already there, as it should be.
    Unchanged,
}

impl File {
    /// A file that anyone on the node may read (0644).
    pub fn public(path: impl Into<PathBuf>, text: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            contents: Contents::Public(text.into()),
        }
    }

    /// A file with a key in it (0600).
    pub fn secret(path: impl Into<PathBuf>, text: SecretText) -> Self {
        Self {
            path: path.into(),
            contents: Contents::Secret(text),
        }
    }

    /// The bytes of the file.
    pub fn bytes(&self) -> &[u8] {
        match &self.contents {
            Contents::Public(text) => text.as_bytes(),
            Contents::Secret(text) => text.expose().as_bytes(),
        }
    }

    /// The mode it is written with.
    pub const fn mode(&self) -> u32 {
        match self.contents {
            Contents::Public(_) => 0o644,
            Contents::Secret(_) => 0o600,
        }
    }

    /// Writes the file with its directories, unless it is there already with these contents and this mode.
    ///
    /// Readers see the old file or the new one, never a part: the bytes reach the disk before the name does.
    pub fn write(&self) -> Result<Written, FileError> {
        if self.is_current() {
            return Ok(Written::Unchanged);
        }
        self.stage()?.take_name()?;
        Ok(Written::Changed)
    }

    /// Writes the bytes beside the file, onto the disk.
    fn stage(&self) -> Result<Staged<'_>, FileError> {
        let fail = |operation| self.fail(operation);
        let directory = self.path.parent().unwrap_or_else(|| Path::new("/"));
        fs::create_dir_all(directory).map_err(fail("create directory of"))?;
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(".new");
        let temporary = PathBuf::from(temporary);
        // a leftover of a crash may have another mode
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(fail("replace")(error));
            }
            _ => {}
        }
        let write = || -> io::Result<()> {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(self.mode())
                .open(&temporary)?;
            // the umask may have taken bits away
            file.set_permissions(fs::Permissions::from_mode(self.mode()))?;
            file.write_all(self.bytes())?;
            file.sync_all()
        };
        write().map_err(fail("write"))?;
        Ok(Staged {
            file: self,
            temporary,
        })
    }

    fn fail(&self, operation: &'static str) -> impl FnOnce(io::Error) -> FileError {
        move |source| FileError {
            operation,
            path: self.path.clone(),
            source,
        }
    }

    fn is_current(&self) -> bool {
        let same_mode = fs::metadata(&self.path)
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o7777 == self.mode());
        same_mode
            && fs::read(&self.path)
                .is_ok_and(|bytes| Zeroizing::new(bytes).as_slice() == self.bytes())
    }
}

/// A file whose bytes are on the disk and whose name is still that of the file before it.
struct Staged<'a> {
    file: &'a File,
    temporary: PathBuf,
}

impl Staged<'_> {
    fn take_name(self) -> Result<(), FileError> {
        fs::rename(&self.temporary, &self.file.path).map_err(self.file.fail("write"))
    }
}

/// Replaces two files that belong together. The bytes of both reach the disk before the first name does, so that all that lies between
/// the old two and the new two is one renaming.
pub fn replace_both(first: &File, second: &File) -> Result<(), FileError> {
    let (first, second) = (first.stage()?, second.stage()?);
    first.take_name()?;
    second.take_name()
}

/// Writes `files`, telling whether any of them changed.
pub fn write_all<'a>(files: impl IntoIterator<Item = &'a File>) -> Result<Written, FileError> {
    let mut written = Written::Unchanged;
    for file in files {
        if file.write()? == Written::Changed {
            written = Written::Changed;
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_once_and_repairs_mode_and_contents() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/key");
        let file = File::secret(&path, SecretText::new("secret".into()));
        assert_eq!(file.write().unwrap(), Written::Changed);
        assert_eq!(file.write().unwrap(), Written::Unchanged);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o600
        );

        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        fs::write(dir.path().join("a/b/key.new"), "left over").unwrap();
        assert_eq!(file.write().unwrap(), Written::Changed);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o600
        );
        assert_eq!(fs::read_to_string(&path).unwrap(), "secret");
        assert!(!dir.path().join("a/b/key.new").exists());
    }

    #[test]
    fn an_error_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let error = File::public(dir.path().join("file/below"), "x")
            .write()
            .unwrap_err();
        assert!(error.to_string().ends_with("file/below"), "{error}");
    }

    #[test]
    fn secrets_do_not_print() {
        let file = File::secret("/k", SecretText::new("hunter2".into()));
        assert!(!format!("{file:?}").contains("hunter2"));
    }
}
