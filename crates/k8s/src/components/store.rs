//! A component's place on disk: the part that arrived, what it hashes to, and the step to a usable file.

use std::{
    fs,
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest;
use cluster::catalogue::{Component, Sha256};
use tokio::sync::mpsc;

use super::{InstallError, below, unpack};

/// Where one component goes.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) hash: Sha256,
    mode: u32,
    extract: bool,
    /// The file, or the directory an archive is unpacked into.
    path: PathBuf,
    /// Collects bytes until they are checked.
    part: PathBuf,
}

/// The bytes of a component that are there so far.
pub(super) struct Part {
    file: fs::File,
    context: digest::Context,
    length: u64,
}

impl Target {
    pub(super) fn new(root: &Path, component: &Component) -> Self {
        let path = below(root, &component.install_path);
        let directory = if component.extract {
            path.clone()
        } else {
            path.parent().unwrap_or(root).to_owned()
        };
        Self {
            name: component.name.clone(),
            hash: component.hash,
            mode: component.mode,
            extract: component.extract,
            part: directory.join(format!(".{}.part", component.name)),
            path,
        }
    }

    fn directory(&self) -> &Path {
        self.part.parent().unwrap_or_else(|| Path::new("/"))
    }

    /// Remembers which archive a directory was filled from.
    fn marker(&self) -> PathBuf {
        self.directory().join(format!(".{}.sha256", self.name))
    }

    pub(super) fn io(
        &self,
        operation: &'static str,
        path: &Path,
    ) -> impl Fn(io::Error) -> InstallError + use<> {
        let (name, path) = (self.name.clone(), path.to_owned());
        move |source| InstallError::Io {
            name: name.clone(),
            operation,
            path: path.clone(),
            source,
        }
    }

    /// Tells a full disk from other failures to write, and frees what the part took: etcd needs the space.
    pub(super) fn write_failed(&self, source: io::Error, written: u64) -> InstallError {
        if matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        ) {
            let _best_effort = fs::remove_file(&self.part);
            return InstallError::DiskFull {
                name: self.name.clone(),
                directory: self.directory().display().to_string(),
                written,
            };
        }
        self.io("write", &self.part)(source)
    }

    /// Whether the right file is in place. Mends the mode of a file with the right content.
    pub(super) async fn is_installed(&self) -> Result<bool, InstallError> {
        let this = self.clone();
        blocking(move || {
            if this.extract {
                return Ok(fs::read_to_string(this.marker())
                    .is_ok_and(|text| text.trim() == this.hash.to_string()));
            }
            match fs::File::open(&this.path) {
                Ok(mut file) => {
                    let (actual, _) = hash_rest(&mut file).map_err(this.io("read", &this.path))?;
                    if digest_of(&actual) != this.hash {
                        return Ok(false);
                    }
                    file.set_permissions(fs::Permissions::from_mode(this.mode))
                        .map_err(this.io("set the mode of", &this.path))?;
                    Ok(true)
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
                Err(error) => Err(this.io("open", &this.path)(error)),
            }
        })
        .await
    }

    /// Opens the part, with what is left there from an earlier try.
    pub(super) async fn open_part(&self) -> Result<Part, InstallError> {
        let this = self.clone();
        blocking(move || {
            fs::create_dir_all(this.directory()).map_err(this.io("create", this.directory()))?;
            let mut file = fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&this.part)
                .map_err(this.io("create", &this.part))?;
            file.set_permissions(fs::Permissions::from_mode(0o600))
                .map_err(this.io("set the mode of", &this.part))?;
            let (context, length) = hash_rest(&mut file).map_err(this.io("read", &this.part))?;
            Ok(Part {
                file,
                context,
                length,
            })
        })
        .await
    }

    /// Makes a checked part the component.
    pub(super) async fn finish(&self) -> Result<(), InstallError> {
        let this = self.clone();
        blocking(move || {
            if this.extract {
                let file = fs::File::open(&this.part).map_err(this.io("open", &this.part))?;
                unpack::unpack(file, &this.path, this.mode).map_err(|error| match error {
                    unpack::UnpackError::Io { source, .. }
                        if source.kind() == io::ErrorKind::StorageFull =>
                    {
                        this.write_failed(source, 0)
                    }
                    source => InstallError::Unpack {
                        name: this.name.clone(),
                        source,
                    },
                })?;
                fs::write(this.marker(), this.hash.to_string())
                    .map_err(this.io("write", &this.marker()))?;
                return fs::remove_file(&this.part).map_err(this.io("remove", &this.part));
            }
            fs::set_permissions(&this.part, fs::Permissions::from_mode(this.mode))
                .map_err(this.io("set the mode of", &this.part))?;
            fs::rename(&this.part, &this.path).map_err(this.io("rename to", &this.path))
        })
        .await
    }

    /// Removes what arrived: it is not what was asked for.
    pub(super) fn discard(&self) {
        let _best_effort = fs::remove_file(&self.part);
    }
}

impl Part {
    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn hash(&self) -> Sha256 {
        digest_of(&self.context)
    }

    /// Appends what comes until nothing more does, and tells how long it is then. On an error it takes nothing more.
    pub(super) async fn append_all(
        mut self,
        mut chunks: mpsc::Receiver<Vec<u8>>,
        target: &Target,
        wrote: impl Fn(u64) + Send + 'static,
    ) -> Result<Self, InstallError> {
        let target = target.clone();
        blocking(move || {
            while let Some(bytes) = chunks.blocking_recv() {
                self.file
                    .write_all(&bytes)
                    .map_err(|source| target.write_failed(source, self.length))?;
                self.context.update(&bytes);
                self.length += bytes.len() as u64;
                wrote(self.length);
            }
            Ok(self)
        })
        .await
    }

    /// Throws away what is there and begins again.
    pub(super) async fn restart(mut self, target: &Target) -> Result<Self, InstallError> {
        // not even to nothing: ext4 flushes a file that was cut when it is closed, and every download would wait for the disk
        if self.length == 0 {
            return Ok(self);
        }
        let target = target.clone();
        blocking(move || {
            self.file
                .set_len(0)
                .and_then(|()| self.file.rewind())
                .map_err(target.io("truncate", &target.part))?;
            self.context = digest::Context::new(&digest::SHA256);
            self.length = 0;
            Ok(self)
        })
        .await
    }
}

/// Hashes a file to its end and stays there.
fn hash_rest(file: &mut fs::File) -> io::Result<(digest::Context, u64)> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut buffer = vec![0; 1 << 18];
    let mut length = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((context, length)),
            Ok(count) => {
                context.update(&buffer[..count]);
                length += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn digest_of(context: &digest::Context) -> Sha256 {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.clone().finish().as_ref());
    Sha256::new(bytes)
}

/// Runs file work off the runtime's threads.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, InstallError> + Send + 'static,
) -> Result<T, InstallError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}
