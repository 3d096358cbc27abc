//! QEMU's machine protocol: just what running a cluster and looking at its network needs.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

const DEADLINE: Duration = Duration::from_secs(10);
const MAX_LINE: u64 = 1 << 20;

/// A command was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// No machine listens there.
    #[error("connect to the machine's control socket {0}")]
    Connect(String, #[source] std::io::Error),
    /// The connection broke.
    #[error("talk to the machine's control socket")]
    Transport(#[source] std::io::Error),
    /// The machine did not answer in time.
    #[error("the machine does not answer on its control socket")]
    Timeout,
    /// An answer that is not QMP.
    #[error("the machine's answer is not QMP")]
    Answer(#[source] serde_json::Error),
    /// QEMU refused.
    #[error("the machine refused {command}: {description}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's words.
        description: String,
    },
}

/// A connection to a machine's control socket.
#[derive(Debug)]
pub struct Qmp {
    read: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Qmp {
    /// Connects and negotiates.
    pub async fn connect(socket: &Path) -> Result<Self, QmpError> {
        let stream = UnixStream::connect(socket)
            .await
            .map_err(|source| QmpError::Connect(socket.display().to_string(), source))?;
        let (read, write) = stream.into_split();
        let mut qmp = Self {
            read: BufReader::new(read),
            write,
        };
        tokio::time::timeout(DEADLINE, qmp.line())
            .await
            .map_err(|_| QmpError::Timeout)??;
        qmp.execute("qmp_capabilities", json!({})).await?;
        Ok(qmp)
    }

    /// Runs one command and returns its answer. Events in between are skipped.
    pub async fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        tokio::time::timeout(DEADLINE, self.exchange(command, arguments))
            .await
            .map_err(|_| QmpError::Timeout)?
    }

    async fn exchange(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        let mut request = json!({ "execute": command, "arguments": arguments }).to_string();
        request.push('\n');
        self.write
            .write_all(request.as_bytes())
            .await
            .map_err(QmpError::Transport)?;
        loop {
            let mut answer = self.line().await?;
            if let Some(error) = answer.get("error") {
                let description = error
                    .get("desc")
                    .and_then(Value::as_str)
                    .unwrap_or("no reason given")
                    .to_owned();
                return Err(QmpError::Refused {
                    command: command.to_owned(),
                    description,
                });
            }
            if let Some(value) = answer.get_mut("return") {
                return Ok(value.take());
            }
        }
    }

    async fn line(&mut self) -> Result<Value, QmpError> {
        let mut line = Vec::new();
        (&mut self.read)
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .await
            .map_err(QmpError::Transport)?;
        if line.is_empty() {
            return Err(QmpError::Transport(
                std::io::ErrorKind::UnexpectedEof.into(),
            ));
        }
        serde_json::from_slice(&line).map_err(QmpError::Answer)
    }

    /// Whether the machine runs: QEMU's word, `running`, `paused`, `shutdown`, ...
    pub async fn status(&mut self) -> Result<String, QmpError> {
        let answer = self.execute("query-status", json!({})).await?;
        Ok(answer
            .get("status")
            .and_then(Value::as_str)
            .unwrap_or("unknown")
            .to_owned())
    }

    /// Lets a machine go on that is paused, such as after a full disk of the host.
    pub async fn resume(&mut self) -> Result<(), QmpError> {
        self.execute("cont", json!({})).await.map(drop)
    }

    /// Presses the power button.
    pub async fn power_down(&mut self) -> Result<(), QmpError> {
        self.execute("system_powerdown", json!({})).await.map(drop)
    }

    /// Resets the machine, as its button would.
    pub async fn reset(&mut self) -> Result<(), QmpError> {
        self.execute("system_reset", json!({})).await.map(drop)
    }

    /// Writes every frame of the NIC on the network between the machines to a pcap file, until [`Qmp::stop_capture`].
    pub async fn capture(&mut self, file: &Path) -> Result<(), QmpError> {
        let arguments = json!({ "qom-type": "filter-dump", "id": "capture", "netdev": "cluster", "file": file });
        self.execute("object-add", arguments).await.map(drop)
    }

    /// Ends a capture; the file is complete afterwards.
    pub async fn stop_capture(&mut self) -> Result<(), QmpError> {
        self.execute("object-del", json!({ "id": "capture" }))
            .await
            .map(drop)
    }
}
