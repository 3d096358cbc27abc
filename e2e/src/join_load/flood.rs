//! Connections that never become attested: half say nothing, half say something that is no TLS.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

/// Longer than a handshake may take: by then the service has ended what it did not end before.
const HELD: Duration = Duration::from_secs(40);
/// So many silent connections as their shares allow are more than a listener keeps.
const SOURCES: u8 = 200;
const GARBAGE: &[u8] = b"GET / HTTP/1.1\r\nhost: join\r\n\r\n";

/// Opens a connection every `period` and keeps each open until the service closes it; counts in `opened`. Has no end.
///
/// They come from [`SOURCES`] addresses of each kind: whoever floods has more than one.
pub async fn flood(address: SocketAddr, period: Duration, opened: &AtomicU32) {
    let mut clock = interval(period);
    let mut open = JoinSet::new();
    for number in (1..=SOURCES).cycle() {
        for silent in [true, false] {
            clock.tick().await;
            let source = Ipv4Addr::new(127, 2, u8::from(silent), number);
            open.spawn(hold(address, source, silent));
            opened.fetch_add(1, Ordering::Relaxed);
        }
        while open.try_join_next().is_some() {}
    }
}

async fn hold(address: SocketAddr, source: Ipv4Addr, silent: bool) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    let mut stream = socket.connect(address).await?;
    if !silent {
        stream.write_all(GARBAGE).await?;
    }
    let mut answer = Vec::new();
    let _closed = timeout(HELD, stream.read_to_end(&mut answer)).await?;
    Ok(())
}
