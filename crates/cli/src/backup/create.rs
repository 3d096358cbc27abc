//! Fetches a backup: asks control planes in turn, writes the file aside, checks it as it comes, and names it when it
//! was read back whole.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use attest::{ClusterIdDigest, ClusterMark, Policy};
use channel::{Client, Verifier};
use k8s::backup::Content;
use keys::backup::{Header, Opener};
use keys::{BackupKey, ClusterId};
use proto::backup::api_client::ApiClient;
use proto::backup::{CreateRequest, Piece};
use tonic::{Code, Streaming};

use super::{expect_cluster, unusable};
use crate::failure::Failure;
use crate::output::Terminal;
use crate::text::{chain, printable};
use crate::vendors::Vendors;
use crate::workspace;

/// How long a node may take to send the next piece.
const PIECE: Duration = Duration::from_secs(120);
/// Between two words about how much there is.
const TOLD: u64 = 16 << 20;
/// Largest message.
const MAX_PIECE: usize = 1 << 20;

/// One run.
pub(crate) struct Creation<'a> {
    pub policy: &'a Policy,
    pub cluster_id: &'a ClusterId,
    pub key: BackupKey,
    pub terminal: &'a Terminal,
}

/// Why one control plane gave no backup.
enum Ended {
    /// Another one may.
    Another(String),
    /// No other would.
    Final(Failure),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Final(failure)
    }
}

impl Creation<'_> {
    /// Asks the control planes at these addresses, and writes the first backup that comes whole to `path`, where nothing is yet.
    pub(crate) async fn run(&self, addresses: &[String], path: &Path) -> Result<Header, Failure> {
        if path.exists() {
            return Err(
                Failure::config(format!("{} is there already", path.display()))
                    .hint("a backup never replaces a file: name another with --output"),
            );
        }
        let mut reasons = Vec::new();
        for address in addresses {
            match self.fetch(address, path).await {
                Ok((aside, header)) => {
                    aside.name(path)?;
                    return Ok(header);
                }
                Err(Ended::Final(failure)) => return Err(failure),
                Err(Ended::Another(reason)) => {
                    self.terminal.debug(format_args!("{address}: {reason}"));
                    reasons.push(format!("{address}: {reason}"));
                }
            }
        }
        Err(Failure::cluster("no control plane made a backup")
            .detail(reasons.join("\n"))
            .hint("`constellation status` shows which nodes are Ready; --endpoint names one"))
    }

    async fn fetch(&self, address: &str, path: &Path) -> Result<(Aside, Header), Ended> {
        let mark = ClusterMark::Cluster(ClusterIdDigest::of(self.cluster_id.as_bytes()));
        let client = Client::admin(
            Verifier::new(Arc::new(self.policy.clone()), mark)
                .with_endorsements(Vendors::default()),
        );
        let connected = channel::tonic::connect(&client, address.to_owned()).await;
        let (channel, _peer) = connected.map_err(|error| match error.refusal() {
            // the key goes to nobody who did not prove himself; another machine may
            Some(refusal) => Ended::Another(format!("not verified:\n{refusal}")),
            None => Ended::Another(chain(&error)),
        })?;
        let request = CreateRequest {
            key: self.key.expose_bytes().to_vec(),
            cluster_id: self.cluster_id.as_bytes().to_vec(),
        };
        let mut api = ApiClient::new(channel).max_decoding_message_size(MAX_PIECE);
        let answer = api.create(request).await.map_err(|status| {
            let words = printable(status.message());
            if status.code() == Code::PermissionDenied {
                Ended::Final(
                    Failure::trust(format!("{address} refused: {words}"))
                        .hint("constellation-mastersecret.json is not that of this cluster"),
                )
            } else {
                Ended::Another(words)
            }
        })?;
        let (aside, file) = Aside::beside(path)?;
        self.write(answer.into_inner(), &aside.path, file).await?;
        let header = self.read_back(&aside.path).await?;
        Ok((aside, header))
    }

    fn key(&self) -> Result<BackupKey, Failure> {
        BackupKey::from_slice(self.key.expose_bytes())
            .map_err(|error| Failure::internal("the backup key").because(error))
    }

    /// Checks what comes, so that what is wrong ends early and shows whose fault it is.
    async fn write(
        &self,
        mut pieces: Streaming<Piece>,
        aside: &Path,
        mut file: File,
    ) -> Result<(), Ended> {
        let write_failed = |error| write_failed(aside, error);
        let (mut opener, mut content) = (Opener::new(self.key()?), Content::new());
        let mut length = 0_u64;
        loop {
            let piece = tokio::time::timeout(PIECE, pieces.message())
                .await
                .map_err(|_| Ended::Another("it stopped in the middle of the backup".to_owned()))?
                .map_err(|status| Ended::Another(printable(status.message())))?;
            let Some(Piece { data }) = piece else { break };
            let before = length;
            length += data.len() as u64;
            if length / TOLD != before / TOLD {
                self.terminal.progress(format_args!("{} MiB", length >> 20));
            }
            let mut parts = Vec::new();
            opener
                .push(&data, |part| parts.push(part))
                .map_err(|error| unusable(aside, error.into()))?;
            for part in parts {
                content
                    .push(&part)
                    .map_err(|error| unusable(aside, error.into()))?;
            }
            file.write_all(&data).map_err(write_failed)?;
        }
        let header = opener
            .finish()
            .map_err(|error| Ended::Another(format!("it sent no whole backup: {error}")))?;
        content
            .finish()
            .map_err(|error| unusable(aside, error.into()))?;
        expect_cluster(aside, &header, self.cluster_id)?;
        file.sync_all().map_err(write_failed)?;
        // it is read from the disk then, where the system can do that
        let _advice = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
        Ok(())
    }

    /// Checks all of what is on the disk.
    async fn read_back(&self, aside: &Path) -> Result<Header, Failure> {
        let (path, key) = (aside.to_owned(), self.key()?);
        let opened = tokio::task::spawn_blocking(move || k8s::backup::open(&path, key, None))
            .await
            .map_err(|error| Failure::internal("read the backup").because(error))?;
        let (header, _essentials) = opened.map_err(|error| {
            Failure::infrastructure(format!(
                "what was written to {} is not what is read back",
                aside.display()
            ))
            .because(error)
            .hint("name a file on another disk with --output")
        })?;
        expect_cluster(aside, &header, self.cluster_id)?;
        Ok(header)
    }
}

/// The file before it has its name. Removed when it is dropped, so that an interrupted command leaves nothing either.
struct Aside {
    path: PathBuf,
    keep: bool,
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.keep {
            // what ended the command counts more
            let _left = std::fs::remove_file(&self.path);
        }
    }
}

impl Aside {
    /// A new file under a name that nobody else chose: what a killed command left is in nobody's way.
    fn beside(path: &Path) -> Result<(Self, File), Failure> {
        let random = uuid::Uuid::new_v4().simple();
        let path = path.with_file_name(format!("constellation-backup-{random}.unfinished"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| write_failed(&path, error))?;
        Ok((Self { path, keep: false }, file))
    }

    /// Gives the file, which is whole, its name, which nobody may have by now.
    fn name(mut self, path: &Path) -> Result<(), Failure> {
        self.keep = true;
        workspace::name(&self.path, path).map_err(|error| {
            Failure::infrastructure(format!("name the backup {}", path.display()))
                .because(error)
                .hint(format!(
                    "it is whole and checked, in {}: give it another name",
                    self.path.display()
                ))
        })?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let synced = File::open(directory).and_then(|directory| directory.sync_all());
        match synced {
            // network file systems have nothing to do here
            Err(error) if error.kind() != ErrorKind::InvalidInput => {
                Err(Failure::infrastructure(format!(
                    "{} is there and whole, but its name may not survive a loss of power",
                    path.display()
                ))
                .because(error))
            }
            _ => Ok(()),
        }
    }
}

fn write_failed(path: &Path, error: std::io::Error) -> Failure {
    Failure::infrastructure(format!("write {}", path.display())).because(error)
}
