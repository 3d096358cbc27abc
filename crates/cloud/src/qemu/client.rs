//! The node's side of the metadata server: implements [`Metadata`] over HTTP/1.1.
//!
//! The server belongs to the untrusted host: answers are bounded in time and size, of the expected form, and checked.
//! Does not retry; its callers do.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cluster::metadata::{Endpoint, INSTANCES_MAX, MetadataError};
use cluster::{InstanceMetadata, Metadata};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{CLUSTER_MAC_PREFIX, METADATA_URL, Mac};

const DEADLINE: Duration = Duration::from_secs(10);
const MAX_ANSWER: usize = 1 << 20;

/// Why the metadata server can not be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// The directory of network interfaces can not be read.
    #[error("list the network interfaces in {path}")]
    Interfaces {
        /// The directory.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No interface has a MAC address of the cluster's network.
    #[error("no network interface has a MAC address that begins with 52:54:00:42")]
    NoInterface,
    /// Not `http://host:port`.
    #[error("{0:?} is not a metadata address of the form http://host:port")]
    Url(String),
}

/// The NIC on the network between the machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterInterface {
    /// Name in the kernel, `enp0s3`.
    pub name: String,
    /// Its MAC address.
    pub mac: Mac,
}

impl ClusterInterface {
    /// Finds it by its MAC address below `/sys/class/net`.
    pub fn find() -> Result<Self, SetUpError> {
        Self::find_in(Path::new("/sys/class/net"))
    }

    fn find_in(directory: &Path) -> Result<Self, SetUpError> {
        let failed = |source| SetUpError::Interfaces {
            path: directory.display().to_string(),
            source,
        };
        let mut found = None;
        for entry in std::fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // an interface may go away between the two reads
            let Ok(address) = std::fs::read_to_string(entry.path().join("address")) else {
                continue;
            };
            let Some(mac) = Mac::parse(address.trim()) else {
                continue;
            };
            if mac.0.starts_with(&CLUSTER_MAC_PREFIX) {
                let name = entry.file_name().to_string_lossy().into_owned();
                // a stable choice, should the host give two
                if found.as_ref().is_none_or(|other: &Self| name < other.name) {
                    found = Some(Self { name, mac });
                }
            }
        }
        found.ok_or(SetUpError::NoInterface)
    }
}

/// Asks the metadata server of the host.
#[derive(Debug, Clone)]
pub struct QemuMetadata {
    authority: String,
    mac: Mac,
}

impl QemuMetadata {
    /// For this machine: the fixed address, the MAC address of the cluster's NIC.
    pub fn of_this_machine() -> Result<Self, SetUpError> {
        Self::new(METADATA_URL, ClusterInterface::find()?.mac)
    }

    /// For a server at `url` (`http://host:port`) and a machine known by `mac`.
    pub fn new(url: &str, mac: Mac) -> Result<Self, SetUpError> {
        let uri: Uri = url.parse().map_err(|_| SetUpError::Url(url.to_owned()))?;
        match (uri.scheme_str(), uri.authority(), uri.path()) {
            (Some("http"), Some(authority), "/" | "") => Ok(Self {
                authority: authority.to_string(),
                mac,
            }),
            _ => Err(SetUpError::Url(url.to_owned())),
        }
    }

    async fn fetch(&self, what: &'static str, path: &str) -> Result<Bytes, MetadataError> {
        let failed = |source| MetadataError::Fetch { what, source };
        match tokio::time::timeout(DEADLINE, self.exchange(what, path)).await {
            Ok(answer) => answer,
            Err(elapsed) => Err(failed(Arc::new(elapsed))),
        }
    }

    async fn exchange(&self, what: &'static str, path: &str) -> Result<Bytes, MetadataError> {
        let failed = |source: Arc<dyn std::error::Error + Send + Sync>| MetadataError::Fetch {
            what,
            source,
        };
        let stream = TcpStream::connect(&self.authority)
            .await
            .map_err(|e| failed(Arc::new(e)))?;
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(64 * 1024)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|e| failed(Arc::new(e)))?;
        let request = Request::get(path)
            .header(hyper::header::HOST, &self.authority)
            .header(hyper::header::CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(|e| failed(Arc::new(e)))?;
        // the connection is driven here and ends with this call: nothing of the host's outlives the answer
        let answer = async {
            let response = sender
                .send_request(request)
                .await
                .map_err(|e| failed(Arc::new(e)))?;
            if response.status() != StatusCode::OK {
                return Err(MetadataError::Refused {
                    what,
                    reason: format!("status {}", response.status().as_u16()),
                });
            }
            let body = Limited::new(response.into_body(), MAX_ANSWER)
                .collect()
                .await
                .map_err(|e| failed(Arc::from(e)))?;
            Ok(body.to_bytes())
        };
        tokio::pin!(answer);
        tokio::pin!(connection);
        tokio::select! {
            answer = &mut answer => answer,
            ended = &mut connection => {
                // the server closed after its answer, or failed
                ended.map_err(|e| failed(Arc::new(e)))?;
                answer.await
            }
        }
    }

    async fn json<T: serde::de::DeserializeOwned>(
        &self,
        what: &'static str,
        path: &str,
    ) -> Result<T, MetadataError> {
        let body = self.fetch(what, path).await?;
        serde_json::from_slice(&body).map_err(|error| MetadataError::Refused {
            what,
            reason: error.to_string(),
        })
    }
}

#[async_trait::async_trait]
impl Metadata for QemuMetadata {
    async fn this_instance(&self) -> Result<InstanceMetadata, MetadataError> {
        let what = "this machine";
        let instance: InstanceMetadata =
            self.json(what, &format!("/self?mac={}", self.mac)).await?;
        instance.check().map_err(|error| MetadataError::Refused {
            what,
            reason: error.to_string(),
        })?;
        Ok(instance)
    }

    async fn list(&self) -> Result<Vec<InstanceMetadata>, MetadataError> {
        let what = "the list of machines";
        let instances: Vec<InstanceMetadata> = self.json(what, "/peers").await?;
        if instances.len() > INSTANCES_MAX {
            return Err(MetadataError::Refused {
                what,
                reason: format!("{} machines", instances.len()),
            });
        }
        for instance in &instances {
            instance.check().map_err(|error| MetadataError::Refused {
                what,
                reason: error.to_string(),
            })?;
        }
        Ok(instances)
    }

    async fn init_secret_hash(&self) -> Result<String, MetadataError> {
        let what = "the hash of the init secret";
        let body = self.fetch(what, "/initsecrethash").await?;
        let text = std::str::from_utf8(&body).unwrap_or_default().trim();
        if !is_bcrypt(text) {
            return Err(MetadataError::Refused {
                what,
                reason: "not a bcrypt hash".to_owned(),
            });
        }
        Ok(text.to_owned())
    }

    async fn endpoint(&self) -> Result<Endpoint, MetadataError> {
        let what = "the cluster's endpoint";
        let endpoint: Endpoint = self.json(what, "/endpoint").await?;
        let is_name = !endpoint.host.is_empty()
            && endpoint.host.len() <= 253
            && endpoint
                .host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
        if endpoint.port == 0 || !(is_name || endpoint.host.parse::<IpAddr>().is_ok()) {
            return Err(MetadataError::Refused {
                what,
                reason: "neither an address nor a DNS name".to_owned(),
            });
        }
        Ok(endpoint)
    }
}

/// `$2b$`, a cost of at most 14 (a dearer one would keep the node busy for minutes), 53 characters of salt and hash.
fn is_bcrypt(text: &str) -> bool {
    let Some(rest) = ["$2a$", "$2b$", "$2y$"]
        .iter()
        .find_map(|prefix| text.strip_prefix(prefix))
    else {
        return false;
    };
    let Some((cost, hash)) = rest.split_once('$') else {
        return false;
    };
    cost.len() == 2
        && cost
            .parse::<u32>()
            .is_ok_and(|cost| (4..=14).contains(&cost))
        && hash.len() == 53
        && hash
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'/')
}

#[cfg(test)]
mod tests;
