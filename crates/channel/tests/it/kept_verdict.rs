//! Peers that do all of an exchange but its last word.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use channel::{Error, Limits};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::oneshot,
    task::JoinSet,
    time::timeout,
};

use crate::{
    admin,
    flood::{QUEUE, attest, open, serve},
    node,
};

/// The administrator's end of a connection. Passes on everything but the verdict.
struct Keeper {
    stream: TcpStream,
    /// Encrypted records that were passed on: the end of the TLS handshake, then the hello.
    records: usize,
    /// Is told when there is a verdict.
    kept: Option<oneshot::Sender<()>>,
}

/// The first byte of an encrypted record (RFC 8446, 5.2).
const APPLICATION_DATA: u8 = 23;

impl AsyncRead for Keeper {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Keeper {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        record: &[u8],
    ) -> Poll<io::Result<usize>> {
        let encrypted = record.first() == Some(&APPLICATION_DATA);
        if encrypted && self.records == 2 {
            if let Some(kept) = self.kept.take() {
                kept.send(()).unwrap();
            }
            // until the server lets go of the connection
            let mut rest = [0; 64];
            loop {
                let mut rest = ReadBuf::new(&mut rest);
                let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut rest));
                if read.is_err() || rest.filled().is_empty() {
                    return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
                }
            }
        }
        let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
        assert_eq!(record.len(), 5 + length, "rustls writes whole records");
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, record))?;
        assert_eq!(written, record.len(), "a socket takes a small record");
        self.records += usize::from(encrypted);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Once only the peer's verdict is due, the work for it is over: it counts among the finished of its source, and nobody waits for it.
#[tokio::test]
async fn who_keeps_its_verdict_back_keeps_no_slot() {
    let limits = Limits {
        handshakes: 1,
        handshakes_per_source: 1,
        connections_per_source: QUEUE + 2,
        ..Limits::default()
    };
    let address = serve(node().with_limits(limits)).await;
    let mut keepers = JoinSet::new();
    let mut keep = async || {
        let (sender, kept) = oneshot::channel();
        let keeper = Keeper {
            stream: open("127.0.0.3", address).await,
            records: 0,
            kept: Some(sender),
        };
        keepers.spawn(async move { admin().connect(keeper).await.map(drop) });
        timeout(Duration::from_secs(20), kept)
            .await
            .expect("nobody holds the slot")
            .unwrap();
    };
    for _ in 0..limits.connections_per_source {
        keep().await;
    }
    for from in ["127.0.0.2", "127.0.0.3"] {
        let honest = admin().with_deadline(Duration::from_secs(20));
        attest(&honest, from, address)
            .await
            .expect("an honest peer among those that keep their verdicts back");
    }
    // the oldest makes room for whoever comes, so all of them together are never more than their source's share
    keep().await;
    keep().await;
    for _ in 0..2 {
        let ended = timeout(Duration::from_secs(20), keepers.join_next()).await;
        let ended = ended.expect("its seat is another's").unwrap().unwrap();
        assert!(matches!(ended, Err(Error::Frame(_))), "{ended:?}");
    }
    while keepers.try_join_next().is_some() {}
    assert!(keepers.len() >= QUEUE, "they had time left");
}
