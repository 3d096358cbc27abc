//! Backups of a cluster, as this program sees them: fetched over the attested channel and checked as they come, looked into, and taken
//! to the machine that a new cluster begins on.
//!
//! The key comes from the master secret. It goes to a node that has proved to run what the config accepts and to bear the cluster's mark.

mod create;
mod upload;

use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use cluster::config::Config;
use cluster::network::{AddressPlan, DEFAULT_POD_CIDR};
use k8s::backup::{Essentials, OpenError};
use keys::backup::{BackupError, Header};
use keys::{BackupKey, ClusterId};

use crate::failure::Failure;
use crate::workspace::Workspace;

pub(crate) use create::Creation;
pub(crate) use upload::{Uploaded, upload};

/// A backup that a cluster can be made of. Everything about it was checked.
#[derive(Debug)]
pub(crate) struct Restore {
    pub path: PathBuf,
    pub header: Header,
    /// Of the file, by which the node knows it.
    pub sha256: [u8; 32],
}

/// The key of the backups of the clusters with this workspace's master secret.
pub(crate) fn key(workspace: &Workspace) -> Result<BackupKey, Failure> {
    let path = workspace.master_secret_path();
    let secret = workspace.master_secret_if_any()?.ok_or_else(|| {
        Failure::config(format!("there is no {}", path.display()))
            .hint("backups are sealed with a key that comes from it, and from nothing else: take it from where it was kept")
    })?;
    Ok(BackupKey::derive(&secret.master_secret, &secret.salt))
}

/// The moment at which a backup was begun, as its node's clock had it.
pub(crate) fn begun(header: &Header) -> String {
    jiff::Timestamp::from_second(header.begun)
        .map_or_else(|_| "an unknown time".to_owned(), |time| time.to_string())
}

/// Reads a backup whole, and checks all of it.
pub(crate) fn open(workspace: &Workspace, path: &Path) -> Result<(Header, Essentials), Failure> {
    k8s::backup::open(path, key(workspace)?, None).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, error: OpenError) -> Failure {
    let failure = match &error {
        OpenError::File(_) => Failure::config(format!("read {}", path.display())),
        OpenError::Backup(_) | OpenError::Content(_) => {
            Failure::trust(format!("{} can not be used", path.display()))
        }
    };
    let failure = match &error {
        OpenError::Backup(BackupError::WrongKey) => failure.hint(
            "constellation-mastersecret.json in this workspace must be that of the cluster the backup was made of",
        ),
        OpenError::Backup(BackupError::Cut) => {
            failure.hint("copy it again from where it is whole")
        }
        OpenError::Backup(_) | OpenError::Content(_) | OpenError::File(_) => failure,
    };
    failure.because(error)
}

impl Restore {
    /// Checks that a cluster with this config can be made of a backup. Changes nothing.
    pub(crate) fn check(
        workspace: &Workspace,
        config: &Config,
        path: &Path,
    ) -> Result<Self, Failure> {
        let (header, essentials) = open(workspace, path)?;
        let networks = AddressPlan::new(DEFAULT_POD_CIDR, config.service_cidr)
            .map_err(|error| Failure::config("the networks of the config").because(error))?;
        if networks != essentials.networks {
            return Err(Failure::config(format!(
                "the backup's cluster has the services {} and the pods {}; a cluster made of it must have the same",
                essentials.networks.services(),
                essentials.networks.pods()
            ))
            .hint("set serviceCIDR in constellation-conf.yaml"));
        }
        if config.kubernetes_version < essentials.version {
            return Err(Failure::config(format!(
                "the backup's cluster ran Kubernetes {}; the config asks for {}, which may not be able to read its objects",
                essentials.version, config.kubernetes_version
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            header,
            sha256: sha256(path)?,
        })
    }
}

fn sha256(path: &Path) -> Result<[u8; 32], Failure> {
    use std::io::Read as _;
    let failed = |error| Failure::config(format!("read {}", path.display())).because(error);
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut hash = Context::new(&SHA256);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = file.read(&mut buffer).map_err(failed)?;
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        hash.update(bytes);
    }
    let mut sha256 = [0; 32];
    sha256.copy_from_slice(hash.finish().as_ref());
    Ok(sha256)
}

/// Refuses a backup of another cluster than the one of the workspace.
fn expect_cluster(path: &Path, header: &Header, cluster_id: &ClusterId) -> Result<(), Failure> {
    header.expect_cluster(cluster_id).map_err(|error| {
        Failure::trust(format!("{} is another cluster's", path.display())).because(error)
    })
}
