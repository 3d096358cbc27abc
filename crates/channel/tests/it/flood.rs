//! Peers that hold handshakes open, few and many.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use channel::tonic::Handshake;
use channel::{Attested, Client, Error, Limits, Proved, Server};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};
use tokio_stream::StreamExt as _;

use crate::{admin, node};

/// Serves one byte on every attested connection.
async fn serve(server: Server<channel::AsksNothing>) -> SocketAddr {
    let listener = TcpSocket::new_v4().unwrap();
    listener.bind("0.0.0.0:0".parse().unwrap()).unwrap();
    let listener: TcpListener = listener.listen(1024).unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut incoming = channel::tonic::incoming(listener, server);
        while let Some(attested) = incoming.next().await {
            let mut attested = attested.unwrap();
            tokio::spawn(async move {
                attested.write_all(b"!").await.unwrap();
                attested.flush().await.unwrap();
                let _end = attested.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    SocketAddr::new("127.0.0.1".parse().unwrap(), port)
}

async fn open(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(SocketAddr::new(from.parse::<IpAddr>().unwrap(), 0))
        .unwrap();
    socket.connect(to).await.unwrap()
}

async fn attest(
    client: &Client,
    from: &str,
    to: SocketAddr,
) -> Result<Attested<TcpStream, Proved>, Error> {
    let mut attested = client.connect(open(from, to).await).await?;
    let mut byte = [0];
    attested.read_exact(&mut byte).await.unwrap();
    assert_eq!(&byte, b"!");
    Ok(attested)
}

/// Whether the server has let go of this connection.
fn is_closed(stream: &TcpStream) -> bool {
    let mut bytes = [0; 64];
    loop {
        match stream.try_read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }
}

#[tokio::test]
async fn a_slow_peer_does_not_hold_up_others() {
    let address = serve(node()).await;
    let slow = open("127.0.0.1", address).await;
    let mut dripping = open("127.0.0.1", address).await;
    dripping.write_all(&[0x16]).await.unwrap();
    let started = Instant::now();
    attest(&admin(), "127.0.0.1", address).await.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    assert!(
        !is_closed(&slow) && !is_closed(&dripping),
        "their deadline is not over"
    );
}

#[tokio::test]
async fn ten_thousand_connections_that_never_finish() {
    const FLOOD: usize = 10_000;
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    )
    .unwrap();
    let limits = Limits::default();
    let address = serve(node()).await;

    let flood = tokio::spawn(async move {
        let mut connections = Vec::with_capacity(FLOOD);
        for _ in 0..FLOOD {
            connections.push(open("127.0.0.1", address).await);
        }
        connections
    });
    // While it runs, from another address; and afterwards, from the same one as well.
    for _ in 0..3 {
        attest(&admin(), "127.0.0.2", address)
            .await
            .expect("an honest peer during the flood");
        sleep(Duration::from_millis(100)).await;
    }
    let connections = flood.await.unwrap();
    attest(&admin(), "127.0.0.1", address)
        .await
        .expect("an honest peer behind the same address");

    // What the server keeps of ten thousand is one source's share.
    let held = || {
        connections
            .iter()
            .filter(|connection| !is_closed(connection))
            .count()
    };
    timeout(Duration::from_secs(20), async {
        while held() > limits.handshakes_per_source {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("the server holds {} connections", held()));
    assert!(held() > 0, "they had time left");
}

/// Enough sources together fill every slot. Then there is nothing but to wait, and the wait ends with the deadline.
#[tokio::test]
async fn sources_that_fill_every_slot_are_waited_out() {
    const PATIENCE: Duration = Duration::from_secs(2);
    let limits = Limits {
        handshakes: 8,
        handshakes_per_source: 4,
        ..Limits::default()
    };
    let address = serve(node().with_deadline(PATIENCE).with_limits(limits)).await;
    let mut silent = Vec::new();
    for source in ["127.0.0.3", "127.0.0.4"] {
        for _ in 0..limits.handshakes_per_source {
            silent.push(open(source, address).await);
        }
    }
    sleep(Duration::from_millis(200)).await;
    let started = Instant::now();
    attest(&admin(), "127.0.0.2", address)
        .await
        .expect("admitted after the deadline of the others");
    let waited = started.elapsed();
    assert!(waited > PATIENCE / 2, "the slots were not full: {waited:?}");
    assert!(silent.iter().all(is_closed), "the deadline is over");
}

#[tokio::test]
async fn finished_connections_are_bounded_too() {
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let address = serve(node().with_limits(limits)).await;
    let first = attest(&admin(), "127.0.0.1", address).await.unwrap();
    let _second = attest(&admin(), "127.0.0.1", address).await.unwrap();
    let impatient = admin().with_deadline(Duration::from_secs(1));
    let third = attest(&impatient, "127.0.0.1", address).await;
    assert!(matches!(third, Err(Error::Deadline(_))), "{third:?}");
    drop(first);
    attest(&admin(), "127.0.0.1", address)
        .await
        .expect("a place is free");
}

/// Every handshake that begins has one end, also one that is given up for another.
#[tokio::test]
async fn an_observer_sees_every_handshake_begin_and_end() {
    let counts: Arc<[AtomicUsize; 4]> = Arc::default();
    let observer = {
        let counts = Arc::clone(&counts);
        move |_peer: SocketAddr, handshake: Handshake<'_>| {
            let kind = match handshake {
                Handshake::Begun => 0,
                Handshake::Attested => 1,
                Handshake::Failed(_) => 2,
                Handshake::GivenUp => 3,
            };
            counts[kind].fetch_add(1, Ordering::SeqCst);
        }
    };
    let limits = Limits {
        handshakes_per_source: 2,
        ..Limits::default()
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut incoming =
        channel::tonic::incoming_observed(listener, node().with_limits(limits), Arc::new(observer));

    drop(open("127.0.0.1", address).await);
    let client = admin();
    let (client, server) = tokio::join!(client.dial(address), incoming.next());
    drop((client.unwrap(), server));
    let _silent = [
        open("127.0.0.1", address).await,
        open("127.0.0.1", address).await,
        open("127.0.0.1", address).await,
    ];
    let seen = || [0, 1, 2, 3].map(|kind| counts[kind].load(Ordering::SeqCst));
    timeout(Duration::from_secs(10), async {
        while seen() != [5, 1, 1, 1] {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("seen {:?}", seen()));
    drop(incoming);
    timeout(Duration::from_secs(10), async {
        while seen() != [5, 1, 1, 3] {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("seen {:?}", seen()));
}
