//! Fetches a backup: asks control planes in turn, writes the file aside, checks it as it comes, and names it when it is whole.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
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
use crate::workspace::{remove, unfinished};

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
            let aside = unfinished(path);
            let ended = self.fetch(address, &aside).await;
            match ended {
                Ok(header) => {
                    name(&aside, path)?;
                    return Ok(header);
                }
                Err(ended) => {
                    remove(&aside)?;
                    match ended {
                        Ended::Final(failure) => return Err(failure),
                        Ended::Another(reason) => {
                            self.terminal.debug(format_args!("{address}: {reason}"));
                            reasons.push(format!("{address}: {reason}"));
                        }
                    }
                }
            }
        }
        Err(Failure::cluster("no control plane made a backup")
            .detail(reasons.join("\n"))
            .hint("`constellation status` shows which nodes are Ready; --endpoint names one"))
    }

    async fn fetch(&self, address: &str, aside: &Path) -> Result<Header, Ended> {
        let mark = ClusterMark::Cluster(ClusterIdDigest::of(self.cluster_id.as_bytes()));
        let client = Client::admin(Verifier::new(Arc::new(self.policy.clone()), mark));
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
        self.write(answer.into_inner(), aside).await
    }

    async fn write(&self, mut pieces: Streaming<Piece>, aside: &Path) -> Result<Header, Ended> {
        let write_failed = |error: std::io::Error| {
            Failure::infrastructure(format!("write {}", aside.display())).because(error)
        };
        remove(aside)?;
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(aside)
            .map_err(write_failed)?;
        let key = BackupKey::from_slice(self.key.expose_bytes())
            .map_err(|error| Failure::internal("the backup key").because(error))?;
        let (mut opener, mut content) = (Opener::new(key), Content::new());
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
        Ok(header)
    }
}

/// Gives a whole file its name, which nobody may have by now.
fn name(aside: &Path, path: &Path) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        Failure::infrastructure(format!("write {}", path.display())).because(error)
    };
    // in contrast to a rename a link never replaces anything
    let named = std::fs::hard_link(aside, path).map_err(failed);
    remove(aside)?;
    named?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(failed)
}
