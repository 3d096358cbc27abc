//! The files of a cluster in the user's directory: names as the original's, secrets readable by their owner only.

mod files;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use cluster::config::{self, Config};
use cluster::state::{self, State};
use keys::MasterSecretFile;
use rustix::fs::FlockOperation;

use crate::failure::Failure;
use files::read;

pub(crate) use files::{create, name, read_text, remove, replace, unfinished};

/// The directory, absolute.
#[derive(Debug, Clone)]
pub(crate) struct Workspace {
    root: PathBuf,
}

/// Nobody else changes the workspace while this lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _directory: OwnedFd,
}

impl Workspace {
    /// Opens a directory that exists.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let root = std::fs::canonicalize(path).map_err(|error| {
            Failure::config(format!("open the workspace {}", path.display())).because(error)
        })?;
        if !root.is_dir() {
            return Err(Failure::config(format!(
                "the workspace {} is not a directory",
                root.display()
            )));
        }
        Ok(Self { root })
    }

    /// Takes the workspace for a command that changes things.
    pub(crate) fn lock(&self) -> Result<Lock, Failure> {
        let file = File::open(&self.root).map_err(|error| {
            Failure::config(format!("open the workspace {}", self.root.display())).because(error)
        })?;
        let directory = OwnedFd::from(file);
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock {
                _directory: directory,
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(Failure::infrastructure(
                "another constellation command is at work in this workspace",
            )
            .hint("wait for it, or stop it")),
            Err(errno) => Err(Failure::infrastructure("lock the workspace").because(errno)),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn config_path(&self) -> PathBuf {
        self.file(config::FILE_NAME)
    }

    pub(crate) fn state_path(&self) -> PathBuf {
        self.file(state::FILE_NAME)
    }

    pub(crate) fn master_secret_path(&self) -> PathBuf {
        self.file("constellation-mastersecret.json")
    }

    pub(crate) fn kubeconfig_path(&self) -> PathBuf {
        self.file("constellation-admin.conf")
    }

    pub(crate) fn cluster_log_path(&self) -> PathBuf {
        self.file("constellation-cluster.log")
    }

    /// What an init that has begun must repeat to be recognised.
    pub(crate) fn init_record_path(&self) -> PathBuf {
        self.file("constellation-init.json")
    }

    /// Disks, logs and records of a local cluster.
    pub(crate) fn mini(&self) -> PathBuf {
        self.file("constellation-mini")
    }

    /// Makes the directory of a local cluster.
    pub(crate) fn make_mini(&self) -> Result<(), Failure> {
        let path = self.mini();
        let made = match std::fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))
            }
            made => made,
        };
        made.map_err(|error| {
            Failure::infrastructure(format!("make the directory {}", path.display())).because(error)
        })
    }

    /// A directory for the sockets of a new local cluster: a socket's path has at most 107 bytes, which a workspace
    /// deep in a home directory exceeds. Depends on the environment; an existing cluster has its own in its record.
    pub(crate) fn new_run_directory(&self) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        let digest = digest::digest(&digest::SHA256, self.root.as_os_str().as_bytes());
        let name = hex::encode(digest.as_ref().get(..8).unwrap_or_default());
        let user = rustix::process::getuid().as_raw();
        let base = std::env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute() && path.is_dir() && path.as_os_str().len() < 60);
        match base {
            Some(base) => base.join(format!("constellation-{name}")),
            None => PathBuf::from(format!("/tmp/constellation-{user}-{name}")),
        }
    }

    /// The config file, if there is one.
    pub(crate) fn config_if_any(&self) -> Result<Option<Config>, Failure> {
        let Some(text) = read_text(&self.config_path())? else {
            return Ok(None);
        };
        Config::parse(config::FILE_NAME, &text)
            .map(Some)
            .map_err(|problems| refused(&problems, config::FILE_NAME))
    }

    /// The config file.
    pub(crate) fn config(&self) -> Result<Config, Failure> {
        self.config_if_any()?.ok_or_else(|| {
            Failure::config(format!(
                "there is no {} in {}",
                config::FILE_NAME,
                self.root.display()
            ))
            .hint("`constellation config generate qemu` writes one; -C names another workspace")
        })
    }

    /// The text of the config file.
    pub(crate) fn config_text(&self) -> Result<Option<String>, Failure> {
        read_text(&self.config_path())
    }

    /// The state file; empty if there is none.
    pub(crate) fn state(&self) -> Result<State, Failure> {
        let Some(text) = read_text(&self.state_path())? else {
            return Ok(State::default());
        };
        State::parse(state::FILE_NAME, &text)
            .map_err(|problems| refused(&problems, state::FILE_NAME))
    }

    pub(crate) fn save_state(&self, state: &State) -> Result<(), Failure> {
        replace(&self.state_path(), state.expose_yaml().as_bytes(), 0o600)
    }

    /// The master secret, if there is one.
    pub(crate) fn master_secret_if_any(&self) -> Result<Option<MasterSecretFile>, Failure> {
        let path = self.master_secret_path();
        let Some(bytes) = read(&path)? else {
            return Ok(None);
        };
        MasterSecretFile::parse(&bytes)
            .map(Some)
            .map_err(|error| Failure::config(format!("read {}", path.display())).because(error))
    }

    /// The master secret; a new one if there is none.
    pub(crate) fn master_secret(&self) -> Result<MasterSecretFile, Failure> {
        if let Some(secret) = self.master_secret_if_any()? {
            return Ok(secret);
        }
        let secret = MasterSecretFile::generate()
            .map_err(|error| Failure::internal("make the master secret").because(error))?;
        create(
            &self.master_secret_path(),
            secret.expose_json().as_bytes(),
            0o600,
        )?;
        Ok(secret)
    }
}

/// Makes the run directory, or makes sure that the one there is ours: in /tmp anybody could have made it.
pub(crate) fn make_run_directory(path: &Path) -> Result<(), Failure> {
    let failed = |error| {
        Failure::infrastructure(format!("make the directory {}", path.display()))
            .because(error)
            .hint("`constellation mini down`, then `up`, begins anew with another one")
    };
    match std::fs::DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let metadata = std::fs::symlink_metadata(path).map_err(failed)?;
    let ours = metadata.uid() == rustix::process::getuid().as_raw();
    if metadata.is_dir() && ours && metadata.permissions().mode().trailing_zeros() >= 6 {
        return Ok(());
    }
    Err(
        Failure::infrastructure(format!("{} is there and is not ours alone", path.display()))
            .hint("remove it if you made it, or set XDG_RUNTIME_DIR to a directory of your own"),
    )
}

fn refused(problems: &config::Problems, file: &str) -> Failure {
    let count = problems.list().len();
    let noun = if count == 1 { "problem" } else { "problems" };
    Failure::config(format!("{count} {noun} in {file}")).detail(problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    fn workspace() -> (tempfile::TempDir, Workspace) {
        let directory = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(directory.path()).unwrap();
        (directory, workspace)
    }

    #[test]
    fn the_master_secret_is_made_once_and_private() {
        let (_directory, workspace) = workspace();
        let first = workspace.master_secret().unwrap().expose_json();
        let mode = std::fs::metadata(workspace.master_secret_path())
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(workspace.master_secret().unwrap().expose_json(), first);
        let error = create(&workspace.master_secret_path(), b"x", 0o600).unwrap_err();
        assert_eq!(error.kind(), Kind::Infrastructure);
    }

    #[test]
    fn one_command_at_a_time() {
        let (_directory, workspace) = workspace();
        let lock = workspace.lock().unwrap();
        assert_eq!(workspace.lock().unwrap_err().kind(), Kind::Infrastructure);
        drop(lock);
        assert!(workspace.lock().is_ok());
    }

    #[test]
    fn sockets_fit() {
        let (_directory, workspace) = workspace();
        let longest = workspace.new_run_directory().join("control-plane-199.tpm");
        assert!(longest.as_os_str().len() < 108, "{}", longest.display());
    }

    #[test]
    fn the_directories_of_a_cluster_are_its_users_alone() {
        let (directory, workspace) = workspace();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        std::fs::create_dir(workspace.mini()).unwrap();
        workspace.make_mini().unwrap();
        assert_eq!(mode(&workspace.mini()), 0o700);
        let run = directory.path().join("run");
        make_run_directory(&run).unwrap();
        make_run_directory(&run).unwrap();
        assert_eq!(mode(&run), 0o700);
        std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o750)).unwrap();
        make_run_directory(&run).unwrap_err();
    }
}
