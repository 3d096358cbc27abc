//! Peers that hold handshakes open, few and many.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use attest::{Binding, Evidence, Issue, IssueError, Variant};
use channel::tonic::Handshake;
use channel::{Attested, Client, Error, Limits, Proved, Server};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use testkit::{boot::Image, tee::SoftTpm};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};
use tokio_stream::StreamExt as _;

use crate::{admin, node};

/// Handshakes of a source that are kept for each that work is done for.
pub(crate) const QUEUE: usize = 4;

/// Serves one byte on every attested connection.
pub(crate) async fn serve(server: Server<channel::AsksNothing>) -> SocketAddr {
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

pub(crate) async fn open(from: &str, to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(SocketAddr::new(from.parse::<IpAddr>().unwrap(), 0))
        .unwrap();
    socket.connect(to).await.unwrap()
}

pub(crate) async fn attest(
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
        while held() > QUEUE * limits.handshakes_per_source {
            sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("the server holds {} connections", held()));
    assert!(held() > 0, "they had time left");
}

/// Silent connections have no slot, and the room that they have is given to whoever comes: many sources together keep nobody out.
#[tokio::test]
async fn silent_connections_of_many_sources_keep_nobody_out() {
    let limits = Limits {
        handshakes: 2,
        handshakes_per_source: 4,
        connections: 8,
        ..Limits::default()
    };
    let address = serve(node().with_limits(limits)).await;
    let mut silent = Vec::new();
    for source in 3..9 {
        for _ in 0..limits.handshakes_per_source {
            silent.push(open(&format!("127.0.0.{source}"), address).await);
        }
    }
    let honest = admin().with_deadline(Duration::from_secs(10));
    for _ in 0..3 {
        attest(&honest, "127.0.0.2", address)
            .await
            .expect("an honest peer among many silent sources");
    }
    let held = silent.iter().filter(|stream| !is_closed(stream)).count();
    assert!(held < limits.connections, "the server holds {held}");
    assert!(held > 0, "they had time left");
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

/// Whoever proves nothing may finish the exchange as often as it likes. Connections it then leaves open cost its own share.
#[tokio::test]
async fn finished_connections_of_one_source_leave_room_for_others() {
    let limits = Limits {
        connections: 4,
        connections_per_source: 2,
        ..Limits::default()
    };
    let address = serve(node().with_limits(limits)).await;
    let mut idle = Vec::new();
    for _ in 0..limits.connections_per_source {
        idle.push(attest(&admin(), "127.0.0.3", address).await.unwrap());
    }
    let served = async || {
        // the server ends it where only the verdict is due, which the client may see before or after it sent that
        match admin().connect(open("127.0.0.3", address).await).await {
            Ok(mut over) => over.read_exact(&mut [0]).await.is_ok(),
            Err(error) => {
                assert!(error.is_transient(), "{error:?}");
                false
            }
        }
    };
    for _ in 0..limits.connections {
        assert!(!served().await, "a connection over the bound was served");
    }
    attest(&admin(), "127.0.0.2", address)
        .await
        .expect("there is room for another source");
    idle.pop();
    // The server has to see the end of it first.
    timeout(Duration::from_secs(20), async { while !served().await {} })
        .await
        .expect("its place is free again");
}

/// A device that takes its time over the statements that are asked for while it is busy.
struct SlowDevice {
    device: SoftTpm,
    busy: AtomicBool,
    /// Statements that are being made.
    at_work: AtomicUsize,
    /// Ends when the test lets go of the other end.
    done: Mutex<mpsc::Receiver<()>>,
}

impl Issue for SlowDevice {
    fn variant(&self) -> Variant {
        self.device.variant()
    }

    fn issue(&self, binding: &Binding) -> Result<Evidence, IssueError> {
        if self.busy.load(Ordering::SeqCst) {
            self.at_work.fetch_add(1, Ordering::SeqCst);
            // An error says the same: the test is done with the slow ones.
            let _done = self.done.lock().unwrap().recv();
        }
        self.device.issue(binding)
    }
}

/// A statement is made to its end, also for a peer that is gone; so a source could fill every slot with work nobody wants.
#[tokio::test]
async fn a_source_whose_statements_are_being_made_does_not_get_others_begun() {
    let limits = Limits {
        handshakes: 8,
        handshakes_per_source: 2,
        ..Limits::default()
    };
    let (slow, done) = mpsc::channel();
    let device = Arc::new(SlowDevice {
        device: SoftTpm::boot(&Image::default()),
        busy: AtomicBool::new(true),
        at_work: AtomicUsize::new(0),
        done: Mutex::new(done),
    });
    let server = Server::node(Arc::clone(&device) as Arc<dyn Issue>).unwrap();
    let address = serve(server.with_limits(limits)).await;

    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..3 * limits.handshakes {
        let stream = open("127.0.0.3", address).await;
        flood.spawn(async move { admin().connect(stream).await.map(drop) });
    }
    timeout(Duration::from_secs(20), async {
        while flood.len() > QUEUE * limits.handshakes_per_source {
            flood.join_next().await.unwrap().unwrap().unwrap_err();
        }
        while device.at_work.load(Ordering::SeqCst) < limits.handshakes_per_source {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("what is over the bound ends at once");
    // Those that are left give up, and their statements go on.
    flood.shutdown().await;
    let impatient = admin().with_deadline(Duration::from_millis(200));
    for _ in 0..limits.handshakes {
        let again = impatient.connect(open("127.0.0.3", address).await).await;
        assert!(again.is_err(), "{again:?}");
    }

    device.busy.store(false, Ordering::SeqCst);
    let honest = admin().with_deadline(Duration::from_secs(20));
    attest(&honest, "127.0.0.2", address)
        .await
        .expect("a slot is free for another source");
    assert_eq!(
        device.at_work.load(Ordering::SeqCst),
        limits.handshakes_per_source
    );
    drop(slow);
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
        handshakes_per_source: 1,
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
    let mut silent = Vec::new();
    for _ in 0..=QUEUE {
        silent.push(open("127.0.0.1", address).await);
    }
    let seen = || [0, 1, 2, 3].map(|kind| counts[kind].load(Ordering::SeqCst));
    timeout(Duration::from_secs(10), async {
        while seen() != [7, 1, 1, 1] {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("seen {:?}", seen()));
    drop(incoming);
    timeout(Duration::from_secs(10), async {
        while seen() != [7, 1, 1, 5] {
            sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("seen {:?}", seen()));
}

/// Whoever attested may hold its connection and ask for nothing, and be busy with it: it ends all the same, and others get its place.
#[tokio::test]
async fn a_connection_ends_at_its_age_whatever_it_does() {
    let limits = Limits {
        connections: 1,
        age: Duration::from_millis(300),
        ..Limits::default()
    };
    let address = serve(node().with_limits(limits)).await;
    let mut busy = attest(&admin(), "127.0.0.3", address).await.unwrap();
    let ended = timeout(Duration::from_secs(10), async {
        while busy.write_all(b"ping").await.is_ok() && busy.flush().await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    let patient = admin();
    let next = attest(&patient, "127.0.0.2", address);
    let (ended, next) = tokio::join!(ended, next);
    ended.expect("it ends");
    next.expect("its place is free");
}
