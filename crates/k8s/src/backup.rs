//! A backup of a cluster: a snapshot of etcd, and what a new cluster needs to read it.
//!
//! etcd's data alone is worth nothing: secrets in it are encrypted with a key of the control planes, and certificates and service
//! account tokens are signed by authorities that only they have. So the backup has both, in one sealed file
//! (`keys::backup`), whose content is: 4 bytes length, the essentials as JSON, and etcd's snapshot with the SHA-256 that etcd itself
//! puts behind it. Starts no program: how etcd's data is made of a snapshot is rendered by [`Node::etcd_restore`].

use std::{
    fs, io,
    io::{Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use keys::{
    BackupKey, ClusterId,
    backup::{BackupError, Header, Opener, PART, Sealer},
};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use crate::{
    api::{ApiError, request},
    control_plane::{Node, Program},
    etcd::{Access, Client, EtcdError},
    files::FileError,
    identities,
};

mod content;
mod essentials;

pub use content::{Content, ContentError};
pub use essentials::{Essentials, EssentialsError};

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// etcd.
    #[error("the snapshot of etcd")]
    Etcd(#[from] EtcdError),
    /// What belongs to it.
    #[error("what belongs to the snapshot")]
    Essentials(#[from] EssentialsError),
    /// The file.
    #[error("sealing the backup")]
    Seal(#[from] BackupError),
    /// Whoever wanted it.
    #[error("nobody takes the backup any more")]
    NobodyThere,
}

/// Why a file can not be restored.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The file, or what is made of it.
    #[error(transparent)]
    File(#[from] FileError),
    /// What was done to it.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// What is in it.
    #[error("the content of the backup")]
    Content(#[from] ContentError),
}

/// Makes a backup and sends it to `sink` piece by piece, from this node's member of etcd, which is up to date with a majority before.
pub async fn create(
    node: &Node,
    key: &BackupKey,
    cluster_id: &ClusterId,
    begun: Timestamp,
    sink: &mpsc::Sender<Vec<u8>>,
) -> Result<(), CreateError> {
    let essentials = Essentials::of_node(node)?.to_content()?;
    let client = Client::new(
        Access::of(&node.paths().pki()),
        vec![node.etcd_own_client()],
    );
    let (mut member, _) = client.with_majority().await?;
    let status = member.status().await?;
    let header = Header {
        cluster_id: cluster_id.clone(),
        begun: begun.as_second(),
        revision: status.revision,
        etcd_version: status.version,
    };
    let send = async |piece: Vec<u8>| sink.send(piece).await.map_err(|_| CreateError::NobodyThere);
    let (mut sealer, head) = Sealer::begin(key, &header)?;
    send(head).await?;
    // never more than a part and what etcd sends at once
    let mut pending = Zeroizing::new(Vec::with_capacity(4 * PART));
    pending.extend_from_slice(&essentials);
    let mut snapshot = member.snapshot().await?;
    while let Some(bytes) = snapshot.next().await?.map(Zeroizing::new) {
        for chunk in bytes.chunks(PART) {
            pending.extend_from_slice(chunk);
            while pending.len() > PART {
                send(sealer.part(&pending[..PART])?).await?;
                let rest = pending.len() - PART;
                pending.copy_within(PART.., 0);
                pending.truncate(rest);
            }
        }
    }
    send(sealer.last(&pending)).await
}

/// Reads a whole backup and checks everything about it, and writes etcd's snapshot to `snapshot`, if it is given.
///
/// On an error nothing is left at `snapshot`. Blocks.
pub fn open(
    path: &Path,
    key: BackupKey,
    snapshot: Option<&Path>,
) -> Result<(Header, Essentials), OpenError> {
    let opened = read(path, key, snapshot);
    if let (Err(_), Some(path)) = (&opened, snapshot) {
        // the reason is in the error
        let _not_made = fs::remove_file(path);
    }
    opened
}

fn read(
    path: &Path,
    key: BackupKey,
    snapshot: Option<&Path>,
) -> Result<(Header, Essentials), OpenError> {
    let failed = |operation, path: &Path| {
        let path = path.to_owned();
        move |source| FileError {
            operation,
            path,
            source,
        }
    };
    let mut file = fs::File::open(path).map_err(failed("open", path))?;
    let mut out = match snapshot {
        Some(path) => {
            match fs::remove_file(path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("replace", path)(source).into());
                }
                _ => {}
            }
            let made = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path);
            Some(made.map_err(failed("create", path))?)
        }
        None => None,
    };
    let mut opener = Opener::new(key);
    let mut content = Content::new();
    let mut buffer = vec![0; PART];
    loop {
        let length = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(failed("read", path)(source).into()),
        };
        let mut parts = Vec::new();
        opener.push(&buffer[..length], |part| parts.push(part))?;
        for part in parts {
            let bytes = content.push(&part)?;
            if let (Some(out), Some(path)) = (&mut out, snapshot) {
                out.write_all(bytes).map_err(failed("write", path))?;
            }
        }
    }
    let header = opener.finish()?;
    let essentials = content.finish()?;
    if let (Some(out), Some(path)) = (out, snapshot) {
        out.sync_all().map_err(failed("write", path))?;
    }
    Ok((header, essentials))
}

impl Node {
    /// Makes etcd's data directory of a snapshot, at `into`, which must not be there: a new member of a new cluster of one.
    pub fn etcd_restore(&self, snapshot: &Path, into: &Path) -> Program {
        let name = &self.config.node_name;
        let (ip, port) = self.listen.etcd_peer;
        let peer = format!("https://{ip}:{port}");
        Program {
            binary: self.paths.etcd_binary.with_file_name("etcdctl"),
            args: vec![
                "snapshot".to_owned(),
                "restore".to_owned(),
                snapshot.display().to_string(),
                format!("--name={name}"),
                format!("--initial-cluster={name}={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster-token={}", self.config.cluster_name),
                format!("--data-dir={}", into.display()),
            ],
        }
    }

    /// Where [`Node::etcd_restore`] works, until what it made is whole and gets its name.
    pub fn etcd_restore_directory(&self) -> PathBuf {
        let mut path = self.paths.etcd_data.clone().into_os_string();
        path.push("-restored");
        path.into()
    }
}

/// Deletes the nodes of the old cluster from the data of the new one: their records, which make them peers and give them their disks'
/// keys, and their objects, whatever finalizers they have. To be called before the new cluster's first node is written there.
pub async fn forget_nodes(client: &kube::Client) -> Result<(), ApiError> {
    let all = DeleteParams::default();
    identities::api(client.clone())
        .delete_collection(&all, &identities::list_params())
        .await
        .map_err(request("delete the records of the old nodes"))?;
    let nodes = kube::Api::<k8s_openapi::api::core::v1::Node>::all(client.clone());
    let listed = nodes
        .list(&ListParams::default())
        .await
        .map_err(request("list the old nodes"))?;
    for name in listed.into_iter().filter_map(|node| node.metadata.name) {
        // what a finalizer waits for is to be done by nodes that are not there any more
        let free = Patch::Merge(json!({ "metadata": { "finalizers": null } }));
        let patched = nodes.patch(&name, &PatchParams::default(), &free).await;
        let deleted = match patched {
            Ok(_) => nodes.delete(&name, &all).await.map(drop),
            Err(error) => Err(error),
        };
        match deleted {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            done => done.map_err(request(format!("delete the old node {name}")))?,
        }
    }
    Ok(())
}
