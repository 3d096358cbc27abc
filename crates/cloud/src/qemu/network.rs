//! The network between the machines: a learning Ethernet switch in user space, over a Unix socket.
//!
//! QEMU's `-netdev stream` connects and sends each frame behind its length (u32, big endian). The switch learns source
//! addresses, sends a frame for a known address to its port and any other to all others, and drops what a port does not
//! take fast enough, as Ethernet does. It keeps nothing secret or apart: whatever crosses it counts as public, which is
//! why nodes speak WireGuard. A second socket streams everything that crosses it as a pcap file, for whoever looks.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use hyper::body::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, BufWriter};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{broadcast, mpsc};

use super::Mac;

/// Destination, source, type.
const MIN_FRAME: usize = 14;
/// QEMU's own bound (NET_BUFSIZE), for guests that hand over large segments.
const MAX_FRAME: usize = 4096 + 65536;
/// Frames that wait for a port.
const QUEUE: usize = 512;
/// Ports of a switch.
const MAX_PORTS: usize = 256;
/// Addresses remembered; the oldest knowledge is forgotten all at once when there are more.
const MAX_ADDRESSES: usize = 4096;

type PortId = u64;

/// The switch. Cheap to clone; all clones are one switch.
#[derive(Debug, Clone)]
pub struct Switch {
    state: Arc<Mutex<State>>,
    captured: broadcast::Sender<(SystemTime, Bytes)>,
}

#[derive(Debug, Default)]
struct State {
    next: PortId,
    ports: HashMap<PortId, mpsc::Sender<Bytes>>,
    addresses: HashMap<Mac, PortId>,
}

/// Why a port was closed.
#[derive(Debug, thiserror::Error)]
enum PortError {
    #[error("frame of {0} bytes")]
    Length(u32),
    #[error("transport")]
    Transport(#[from] std::io::Error),
}

impl Default for Switch {
    fn default() -> Self {
        Self {
            state: Arc::default(),
            captured: broadcast::channel(QUEUE).0,
        }
    }
}

impl Switch {
    /// A switch without ports.
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts machines until its future is dropped.
    pub async fn serve(self, listener: UnixListener) -> std::io::Result<Infallible> {
        let mut ports = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            while ports.try_join_next().is_some() {}
            if ports.len() >= MAX_PORTS {
                tracing::warn!(MAX_PORTS, "every port is taken: connection refused");
                continue;
            }
            let switch = self.clone();
            ports.spawn(async move { switch.port(stream).await });
        }
    }

    /// Streams a capture to everyone who connects, until its future is dropped.
    pub async fn serve_captures(self, listener: UnixListener) -> std::io::Result<Infallible> {
        let mut captures = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await?;
            while captures.try_join_next().is_some() {}
            let frames = self.captured.subscribe();
            captures.spawn(async move {
                // an error here is the reader going away
                if let Err(error) = capture(stream, frames).await {
                    tracing::debug!(%error, "capture ended");
                }
            });
        }
    }

    async fn port(&self, stream: UnixStream) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let id = self.plug(sender);
        tracing::info!(port = id, "machine connected");
        let (read, write) = stream.into_split();
        let outcome = tokio::select! {
            outcome = self.receive(id, BufReader::with_capacity(MAX_FRAME, read)) => outcome,
            outcome = transmit(receiver, BufWriter::new(write)) => outcome,
        };
        self.unplug(id);
        match outcome {
            Ok(()) => tracing::info!(port = id, "machine disconnected"),
            Err(error) => tracing::warn!(
                port = id,
                error = &error as &dyn std::error::Error,
                "port closed"
            ),
        }
    }

    async fn receive(
        &self,
        id: PortId,
        mut stream: impl AsyncReadExt + Unpin,
    ) -> Result<(), PortError> {
        loop {
            let length = match stream.read_u32().await {
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let size = usize::try_from(length).unwrap_or(usize::MAX);
            if !(MIN_FRAME..=MAX_FRAME).contains(&size) {
                return Err(PortError::Length(length));
            }
            let mut frame = vec![0; size];
            stream.read_exact(&mut frame).await?;
            self.forward(id, Bytes::from(frame));
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // nothing under the lock can leave the tables half changed
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plug(&self, sender: mpsc::Sender<Bytes>) -> PortId {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.ports.insert(id, sender);
        id
    }

    fn unplug(&self, id: PortId) {
        let mut state = self.state();
        state.ports.remove(&id);
        state.addresses.retain(|_, port| *port != id);
    }

    fn forward(&self, from: PortId, frame: Bytes) {
        let (Some(destination), Some(source)) = (mac(&frame, 0), mac(&frame, 6)) else {
            return;
        };
        if self.captured.receiver_count() > 0 {
            // an error means that the last reader left just now
            self.captured.send((SystemTime::now(), frame.clone())).ok();
        }
        let mut state = self.state();
        if !is_group(source) {
            if state.addresses.len() >= MAX_ADDRESSES && !state.addresses.contains_key(&source) {
                state.addresses.clear();
            }
            state.addresses.insert(source, from);
        }
        match state.addresses.get(&destination) {
            Some(to) if !is_group(destination) => {
                if *to != from
                    && let Some(port) = state.ports.get(to)
                {
                    deliver(port, frame);
                }
            }
            _ => {
                for (_, port) in state.ports.iter().filter(|(id, _)| **id != from) {
                    deliver(port, frame.clone());
                }
            }
        }
    }
}

fn deliver(port: &mpsc::Sender<Bytes>, frame: Bytes) {
    // a full queue drops the frame: a slow machine must not hold up the others
    if port.try_send(frame).is_err() {
        tracing::trace!("frame dropped");
    }
}

fn mac(frame: &[u8], at: usize) -> Option<Mac> {
    frame.get(at..at + 6)?.try_into().ok().map(Mac)
}

/// Broadcast and multicast.
fn is_group(mac: Mac) -> bool {
    mac.0[0] & 1 == 1
}

async fn transmit(
    mut frames: mpsc::Receiver<Bytes>,
    mut stream: impl AsyncWriteExt + Unpin,
) -> Result<(), PortError> {
    while let Some(frame) = frames.recv().await {
        let length = u32::try_from(frame.len()).map_err(|_| PortError::Length(u32::MAX))?;
        stream.write_u32(length).await?;
        stream.write_all(&frame).await?;
        if frames.is_empty() {
            stream.flush().await?;
        }
    }
    Ok(())
}

/// The classic pcap format with microseconds, link type Ethernet.
async fn capture(
    stream: UnixStream,
    mut frames: broadcast::Receiver<(SystemTime, Bytes)>,
) -> std::io::Result<()> {
    let (mut gone, write) = stream.into_split();
    let mut out = BufWriter::new(write);
    let mut header = Vec::with_capacity(24);
    header.extend_from_slice(&0xa1b2_c3d4_u32.to_le_bytes());
    header.extend_from_slice(&2_u16.to_le_bytes());
    header.extend_from_slice(&4_u16.to_le_bytes());
    header.extend_from_slice(&[0; 8]);
    header.extend_from_slice(&262_144_u32.to_le_bytes());
    header.extend_from_slice(&1_u32.to_le_bytes());
    out.write_all(&header).await?;
    out.flush().await?;
    let mut byte = [0];
    loop {
        let (time, frame) = tokio::select! {
            next = frames.recv() => match next {
                Ok(next) => next,
                Err(broadcast::error::RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "the capture's reader is slow: frames left out");
                    continue;
                }
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            },
            // the reader never sends: this is how its end is noticed on a quiet network
            _ = gone.read(&mut byte) => return Ok(()),
        };
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let length = u32::try_from(frame.len()).map_err(std::io::Error::other)?;
        // the format's seconds wrap in 2106
        out.write_u32_le(u32::try_from(since.as_secs()).unwrap_or(u32::MAX))
            .await?;
        out.write_u32_le(since.subsec_micros()).await?;
        out.write_u32_le(length).await?;
        out.write_u32_le(length).await?;
        out.write_all(&frame).await?;
        out.flush().await?;
    }
}

#[cfg(test)]
mod tests;
