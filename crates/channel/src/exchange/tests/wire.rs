//! Whoever owns the network between two honest ends: cuts the connection anywhere, holds back, drops, swaps, repeats and changes
//! records. Model: the attacker of steps 1 to 8 who has no key.
//!
//! TLS records are in the clear as to where they begin and end, so the test's own relay sees what a host sees. Time stands still
//! where nothing happens: an end that waits for what never comes is at its deadline at once.

use std::{future::Future, io};

use tokio::{
    io::{ReadHalf, WriteHalf, split},
    sync::watch,
    time::timeout,
};

use super::*;

const HEADER: usize = 5;
/// What each end says once it is accepted; two records.
const SAID: [&[u8]; 2] = [b"the first half, ", b"and the second"];
/// How long the application of an end waits for the other's. gRPC has its keep-alives for this.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the network does to one record of one direction.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Nothing,
    /// So many bytes of it pass, then the connection is gone in both directions.
    Cut(usize),
    /// From it on nothing of this direction passes, and nobody hears that.
    Silence,
    Drop,
    /// The next one passes before it.
    Swap,
    Twice,
    /// Once more, after the next one.
    Again,
    /// One bit of its last byte.
    Flip,
}

/// Which record of which sender, and what becomes of it.
#[derive(Clone, Copy, Debug)]
struct Plan {
    from: Side,
    record: usize,
    fault: Fault,
}

/// Lengths of the records that a side sent, with their headers.
type Sent = Vec<usize>;

/// Client's and server's; or whether the record that was cut came out whole, if one was cut.
type Carried = Result<[Sent; 2], bool>;

async fn record(reader: &mut ReadHalf<DuplexStream>) -> io::Result<Vec<u8>> {
    let mut record = vec![0; HEADER];
    reader.read_exact(&mut record).await?;
    let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
    record.resize(HEADER + length, 0);
    reader.read_exact(&mut record[HEADER..]).await?;
    Ok(record)
}

/// Carries one direction until its sender closes it or the connection is cut.
async fn carry(
    mut reader: ReadHalf<DuplexStream>,
    mut writer: WriteHalf<DuplexStream>,
    side: Side,
    plan: Plan,
    cut: watch::Sender<Option<bool>>,
) -> Sent {
    let mut sent = Sent::new();
    let (mut late, mut silent) = (Vec::new(), false);
    while let Ok(mut bytes) = record(&mut reader).await {
        let fault = match plan {
            Plan {
                from,
                record,
                fault,
            } if from == side && record == sent.len() => fault,
            Plan { .. } => Fault::Nothing,
        };
        sent.push(bytes.len());
        let behind = std::mem::take(&mut late);
        match fault {
            Fault::Nothing | Fault::Cut(_) => {}
            Fault::Silence => silent = true,
            Fault::Drop => continue,
            Fault::Swap => {
                late = bytes;
                continue;
            }
            Fault::Twice => bytes = bytes.repeat(2),
            Fault::Again => late.clone_from(&bytes),
            Fault::Flip => *bytes.last_mut().unwrap() ^= 1,
        }
        if silent {
            continue;
        }
        let length = bytes.len();
        if let Fault::Cut(at) = fault {
            bytes.truncate(at);
        }
        bytes.extend(behind);
        // The receiver may have gone away because of what it got.
        let _carried = writer.write_all(&bytes).await;
        if let Fault::Cut(_) = fault {
            // What was cut is read before the connection is gone.
            let _flushed = writer.flush().await;
            task::yield_now().await;
            cut.send_replace(Some(bytes.len() == length));
            return sent;
        }
    }
    if silent {
        // Not even the end of the connection is heard.
        std::future::pending::<()>().await;
    }
    let _closed = writer.shutdown().await;
    sent
}

/// The network: both directions until both have ended, or one is cut.
async fn network(client: DuplexStream, server: DuplexStream, plan: Plan) -> Carried {
    let (from_client, to_client) = split(client);
    let (from_server, to_server) = split(server);
    let (cut, mut is_cut) = watch::channel(None);
    let both = async {
        let (client, server) = tokio::join!(
            carry(from_client, to_server, Side::Client, plan, cut.clone()),
            carry(from_server, to_client, Side::Server, plan, cut)
        );
        [client, server]
    };
    let sent = tokio::select! {
        _ = is_cut.wait_for(Option::is_some) => Default::default(),
        sent = both => sent,
    };
    let cut = *is_cut.borrow();
    cut.map_or(Ok(sent), Err)
}

/// What cannot be said is the other's loss, and seen there.
async fn say<S: AsyncWrite + Unpin>(stream: &mut S) {
    for said in SAID {
        let _said = timeout(PATIENCE, stream.write_all(said)).await;
        let _said = timeout(PATIENCE, stream.flush()).await;
    }
}

/// Until the session's end, or for a server until there is enough to answer.
async fn hear<S: AsyncRead + Unpin>(
    side: Side,
    stream: &mut S,
    heard: &mut Vec<u8>,
) -> io::Result<()> {
    let enough = SAID.concat().len();
    while stream.read_buf(heard).await? > 0 {
        if side == Side::Server && heard.len() >= enough {
            break;
        }
    }
    Ok(())
}

/// What an end has in the end.
#[derive(Debug)]
struct End<P> {
    peer: Result<Peer<P>, Error>,
    heard: Vec<u8>,
    /// The other said that this was all.
    ended: bool,
}

impl<P> End<P> {
    /// An end that is accepted talks; how long it took until then is bounded. As in a call, the server answers what it heard to the end, and
    /// the end of the session is the end of its answer.
    async fn of(side: Side, attested: impl Future<Output = Accepted<P>>) -> Self
    where
        P: Clone + Unpin,
    {
        let start = Instant::now();
        let attested = attested.await;
        let took = start.elapsed();
        assert!(took <= crate::DEADLINE + FAREWELL, "it took {took:?}");
        let mut heard = Vec::new();
        let (peer, ended) = match attested {
            Err(error) => (Err(error), false),
            Ok(mut attested) => {
                let peer = attested.peer().clone();
                if side == Side::Client {
                    say(&mut attested).await;
                }
                let ended = timeout(PATIENCE, hear(side, &mut attested, &mut heard)).await;
                let ended = matches!(ended, Ok(Ok(())));
                if ended && side == Side::Server {
                    say(&mut attested).await;
                    let _closed = attested.shutdown().await;
                }
                (Ok(peer), ended)
            }
        };
        Self { peer, heard, ended }
    }

    /// Nothing that was not said, nothing of a peer that was not let in, and no end but the one that was said.
    fn check<Q>(&self, other: &End<Q>, plan: Plan) {
        let all = SAID.concat();
        assert!(all.starts_with(&self.heard), "{plan:?}: {:?}", self.heard);
        assert!(self.heard.is_empty() || other.peer.is_ok(), "{plan:?}");
        assert!(!self.ended || self.heard == all, "{plan:?}: cut is no end");
        if let (Err(error), Fault::Cut(_) | Fault::Silence) = (&self.peer, plan.fault) {
            assert!(error.is_transient(), "{plan:?}: not tried again: {error:?}");
        }
    }

    /// Without a record of the peer's frames there is no peer, without one of what it said no end.
    fn check_missing(&self, plan: Plan, sent: &Sent) {
        let application = match plan.from {
            Side::Client => SAID.len(),
            // ... and the end of the session.
            Side::Server => SAID.len() + 1,
        };
        assert!(!self.ended, "{plan:?}");
        if plan.record < sent.len() - application {
            assert!(self.peer.is_err(), "{plan:?}");
        }
    }
}

/// The second record of a side means nothing in TLS 1.3: `ChangeCipherSpec`, for middleboxes.
const MEANINGLESS: usize = 1;
const CLEAN: Plan = Plan {
    from: Side::Client,
    record: 0,
    fault: Fault::Nothing,
};

async fn meet_over<D: crate::Demand>(
    client: &Client,
    server: &Server<D>,
    plan: Plan,
) -> (End<Proved>, End<D::Proof>, Option<Carried>)
where
    D::Proof: Unpin + std::fmt::Debug,
{
    let ((left, at_left), (right, at_right)) = (duplex(BUFFER), duplex(BUFFER));
    let network = tokio::spawn(network(at_left, at_right, plan));
    let ends = async {
        tokio::join!(
            End::of(Side::Client, client.connect(left)),
            End::of(Side::Server, server.accept(right))
        )
    };
    let bound = crate::DEADLINE + FAREWELL + PATIENCE;
    let (client, server) = timeout(bound, ends)
        .await
        .unwrap_or_else(|_| panic!("{plan:?}: an end never ends"));
    // Both ends have closed: what is still there is silence.
    let carried = timeout(PATIENCE, network).await;
    let carried = carried.ok().map(|carried| carried.expect("no panic"));
    (client, server, carried)
}

/// Every fault at every record that was `sent`.
fn plans(sent: &[Sent; 2], cuts: impl Fn(usize) -> Vec<usize>) -> Vec<Plan> {
    let others = [
        Fault::Silence,
        Fault::Drop,
        Fault::Swap,
        Fault::Twice,
        Fault::Again,
        Fault::Flip,
    ];
    let mut plans = Vec::new();
    for (from, sent) in [Side::Client, Side::Server].into_iter().zip(sent) {
        for (record, length) in sent.iter().copied().enumerate() {
            let cuts = cuts(length).into_iter().map(Fault::Cut);
            plans.extend(cuts.chain(others).map(|fault| Plan {
                from,
                record,
                fault,
            }));
        }
    }
    plans
}

/// Every byte; of records that are long, and none of whose bytes is of use before the last one is there, every eighth between the ends.
fn everywhere(length: usize) -> Vec<usize> {
    let near = |at: &usize| length < 600 || *at < 64 || at + 64 > length || at.is_multiple_of(8);
    (0..=length).filter(near).collect()
}

fn at_the_ends(length: usize) -> Vec<usize> {
    vec![0, 1, HEADER, length - 1, length]
}

/// Two honest ends, and the network's whole repertoire between them; returns how many of its faults did no harm.
async fn over_every_network<D: crate::Demand>(
    client: &Client,
    server: &Server<D>,
    proved: impl Fn(&End<Proved>, &End<D::Proof>),
) -> usize
where
    D::Proof: Unpin + std::fmt::Debug,
{
    let (left, right, carried) = meet_over(client, server, CLEAN).await;
    assert!(left.ended && right.ended, "{left:?} {right:?}");
    proved(&left, &right);
    let sent = carried.expect("nothing is silent").expect("nothing is cut");

    let mut harmless = 0;
    for plan in plans(&sent, everywhere) {
        let (left, right, carried) = meet_over(client, server, plan).await;
        left.check(&right, plan);
        right.check(&left, plan);
        proved(&left, &right);
        let whole = match plan.fault {
            Fault::Nothing | Fault::Twice | Fault::Again => true,
            Fault::Cut(_) => carried == Some(Err(true)),
            Fault::Silence | Fault::Drop | Fault::Swap | Fault::Flip => false,
        };
        let [of_client, of_server] = &sent;
        match plan.from {
            _ if whole || plan.record == MEANINGLESS => {}
            Side::Client => right.check_missing(plan, of_client),
            Side::Server => left.check_missing(plan, of_server),
        }
        harmless += usize::from(left.ended && right.ended);
    }
    harmless
}

fn proves(end: &End<Proved>, machine: &SoftTpm) {
    if let Ok(peer) = &end.peer {
        assert_eq!(peer.verified().measurements(), &machine.pcrs());
    }
}

#[tokio::test(start_paused = true)]
async fn a_join_over_a_network_that_cuts_drops_swaps_repeats_and_changes_records() {
    let (new, old) = (machine(), member());
    let (client, server) = (joining(Arc::clone(&new)), join_service(Arc::clone(&old)));
    let harmless = over_every_network(&client, &server, |client, server| {
        proves(client, &old);
        proves(server, &new);
    })
    .await;
    assert!(harmless > 0, "the end of a session twice does no harm");
}

#[tokio::test(start_paused = true)]
async fn an_init_over_a_network_that_cuts_drops_swaps_repeats_and_changes_records() {
    let machine = machine();
    let (client, server) = (admin(), node(Arc::clone(&machine)));
    let harmless = over_every_network(&client, &server, |client, _| proves(client, &machine)).await;
    assert!(harmless > 0, "the end of a session twice does no harm");
}

/// What is refused over a good network is refused over a bad one, by both ends, and nothing is said.
#[tokio::test(start_paused = true)]
async fn no_network_gets_a_refused_machine_accepted() {
    let other = Arc::new(SoftTpm::boot(&Image {
        linux: b"another kernel".to_vec(),
        ..Image::default()
    }));
    let marked = Arc::new(SoftTpm::boot(&Image {
        linux: b"another kernel".to_vec(),
        ..Image::default()
    }));
    marked.join(&CLUSTER);
    for (node, service) in [(Arc::clone(&other), member()), (machine(), marked)] {
        let (client, server) = (joining(node), join_service(service));
        let (_, _, carried) = meet_over(&client, &server, CLEAN).await;
        let sent = carried.expect("nothing is silent").expect("nothing is cut");
        for plan in plans(&sent, at_the_ends) {
            let (left, right, _) = meet_over(&client, &server, plan).await;
            assert!(left.peer.is_err(), "{plan:?}: {left:?}");
            assert!(right.peer.is_err(), "{plan:?}: {right:?}");
        }
    }
}
