use std::time::Duration;

use tokio::time::timeout;

use super::*;

fn source(address: &str) -> Source {
    address.parse::<SocketAddr>().unwrap().into()
}

#[test]
fn sources_are_addresses_or_networks_of_64_bits() {
    assert_eq!(source("10.0.0.1:1"), source("[::ffff:10.0.0.1]:2"));
    assert_ne!(source("10.0.0.1:1"), source("10.0.0.2:1"));
    assert_eq!(
        source("[2001:db8:0:1::1]:1"),
        source("[2001:db8:0:1:ffff::9]:1")
    );
    assert_ne!(source("[2001:db8:0:1::1]:1"), source("[2001:db8:0:2::1]:1"));
    assert_ne!(source("[::a00:1:0:0:0:0]:1"), source("10.0.0.1:1"));
}

fn admission(
    unfinished: &Unfinished,
    source: Source,
    bound: usize,
    slots: &Arc<Semaphore>,
) -> Admission {
    let place = unfinished.enter(source, bound).unwrap();
    let seats = Seats {
        finished: Finished::default(),
        source,
        bound: 1,
    };
    Admission::new(place, Arc::clone(slots), seats)
}

fn is_evicted(place: &Place) -> bool {
    // Taken by nobody but the listener: none of these says hello after it was evicted.
    place.turn.taken.load(Ordering::Relaxed)
        && !lock(&place.unfinished.by_source)
            .values()
            .flat_map(|of| &of.turns)
            .any(|turn| Arc::ptr_eq(turn, &place.turn))
}

#[test]
fn the_oldest_silent_handshake_of_a_full_source_makes_room() {
    let unfinished = Unfinished::default();
    let (flood, honest) = (source("10.0.0.1:1"), source("10.0.0.2:1"));
    let enter = |from| unfinished.enter(from, 1);
    let says_hello = |place: &Place| place.turn.taken.store(true, Ordering::Relaxed);

    let first = enter(honest).unwrap();
    let spoke: Vec<Place> = (1..QUEUE).map(|_| enter(flood).unwrap()).collect();
    spoke.iter().for_each(says_hello);
    let silent = enter(flood).unwrap();
    let next = enter(flood).expect("in the place of the silent one");
    assert!(is_evicted(&silent) && !spoke.iter().any(is_evicted) && !is_evicted(&first));
    says_hello(&next);
    assert!(enter(flood).is_none(), "all of them have said hello");
    assert!(!spoke.iter().any(is_evicted) && !is_evicted(&next));
    assert!(enter(honest).is_some(), "another source has its own bound");

    // The one that was evicted is not counted a second time when it is gone.
    drop(silent);
    assert!(enter(flood).is_none());
    drop(spoke);
    let last = enter(flood).expect("a place is free");
    drop((first, next, last));
    assert!(lock(&unfinished.by_source).is_empty());
}

/// Whoever comes again and again is no sooner served than who came once.
#[tokio::test]
async fn hellos_of_one_source_are_served_in_their_order_and_only_so_many_at_once() {
    let unfinished = Unfinished::default();
    let slots = Arc::new(Semaphore::new(8));
    let from = source("10.0.0.1:1");
    let enter = |from| admission(&unfinished, from, 1, &slots);
    let (served, patient, again) = (enter(from), enter(from), enter(from));
    served.spoke().await;
    let (mut second, mut third) = (Box::pin(patient.spoke()), Box::pin(again.spoke()));
    assert!(timeout(Duration::ZERO, &mut second).await.is_err());
    assert!(timeout(Duration::ZERO, &mut third).await.is_err());
    let other = enter(source("10.0.0.2:1"));
    other.spoke().await;
    drop(served);
    assert!(timeout(Duration::ZERO, &mut third).await.is_err());
    timeout(Duration::ZERO, &mut second)
        .await
        .expect("it was first");
    assert!(timeout(Duration::ZERO, &mut third).await.is_err());
    drop(second);
    drop(patient);
    third.await;
}

#[tokio::test]
async fn a_handshake_that_was_evicted_begins_no_work() {
    let unfinished = Unfinished::default();
    let slots = Arc::new(Semaphore::new(2));
    let from = source("10.0.0.1:1");
    let enter = || admission(&unfinished, from, 1, &slots);
    let evicted = enter();
    let stays = enter();
    unfinished.make_room();
    evicted.evicted().await;
    let spoke = tokio::select! {
        biased;
        () = evicted.spoke() => true,
        () = stays.spoke() => false,
    };
    assert!(!spoke);
}

#[tokio::test]
async fn who_says_hello_waits_for_a_slot_and_who_does_not_has_none() {
    let unfinished = Unfinished::default();
    let slots = Arc::new(Semaphore::new(1));
    let enter = |from| admission(&unfinished, source(from), 8, &slots);
    let _silent = enter("10.0.0.1:1");
    let (first, second) = (enter("10.0.0.2:1"), enter("10.0.0.3:1"));
    first.spoke().await;
    let waiting = second.spoke();
    tokio::pin!(waiting);
    assert!(timeout(Duration::ZERO, &mut waiting).await.is_err());
    // work on another thread still counts
    let at_work = first.work();
    drop(first);
    assert!(timeout(Duration::ZERO, &mut waiting).await.is_err());
    drop(at_work);
    waiting.await;
}

#[test]
fn room_is_made_by_the_source_that_is_silent_most_often() {
    let unfinished = Unfinished::default();
    let enter = |from| unfinished.enter(source(from), 8).unwrap();
    let one = enter("10.0.0.1:1");
    let spoke: Vec<_> = (0..3).map(|_| enter("10.0.0.2:1")).collect();
    for place in &spoke {
        place.turn.taken.store(true, Ordering::Relaxed);
    }
    let (older, newer) = (enter("10.0.0.3:1"), enter("10.0.0.3:1"));
    unfinished.make_room();
    assert!(is_evicted(&older) && !is_evicted(&newer) && !is_evicted(&one));
    unfinished.make_room();
    unfinished.make_room();
    assert!(is_evicted(&newer) && is_evicted(&one));
    // nobody is left who has not said hello
    unfinished.make_room();
    assert!(!spoke.iter().any(is_evicted));
}

/// Who keeps its last word back keeps nobody from work, and its source no place; work that is still done for it counts.
#[tokio::test]
async fn a_handshake_that_rests_has_no_slot_and_no_place() {
    let unfinished = Unfinished::default();
    let slots = Arc::new(Semaphore::new(1));
    let from = source("10.0.0.1:1");
    let rests = admission(&unfinished, from, 1, &slots);
    rests.spoke().await;
    let next = admission(&unfinished, from, 1, &slots);
    let mut waiting = Box::pin(next.spoke());
    let at_work = rests.work();
    assert!(rests.rests());
    assert!(timeout(Duration::ZERO, &mut waiting).await.is_err());
    assert_eq!(lock(&unfinished.by_source)[&from].turns.len(), 2);
    drop(at_work);
    assert_eq!(lock(&unfinished.by_source)[&from].turns.len(), 1);
    timeout(Duration::ZERO, &mut waiting)
        .await
        .expect("the slot is free while the other one rests");
    assert!(rests.work().is_none() && rests.finish().is_some());
}

fn seat(finished: &Finished, from: &str, bound: usize) -> (Option<Seat>, Arc<Turn>) {
    let turn = Arc::<Turn>::default();
    (finished.enter(source(from), bound, &turn), turn)
}

async fn makes_room(turn: &Turn) -> bool {
    timeout(Duration::ZERO, turn.evicted.notified())
        .await
        .is_ok()
}

#[test]
fn finished_connections_count_until_they_are_dropped() {
    let finished = Finished::default();
    let enter = |from| seat(&finished, from, 2).0;
    let seats = [(); 2].map(|()| enter("10.0.0.1:1").unwrap().settle());
    assert!(seats.iter().all(Option::is_some));
    assert!(enter("10.0.0.1:1").is_none(), "no finished one makes room");
    assert!(enter("10.0.0.2:1").is_some());
    drop(seats);
    assert!(lock(&finished.by_source).is_empty());
}

#[tokio::test]
async fn the_oldest_that_rests_makes_room_where_its_source_has_all_its_seats() {
    let finished = Finished::default();
    let enter = || seat(&finished, "10.0.0.1:1", 2);
    let (older, at_older) = enter();
    let (newer, at_newer) = enter();
    let (next, at_next) = enter();
    let next = next.expect("in the place of the oldest");
    assert!(makes_room(&at_older).await && !makes_room(&at_newer).await);
    let older = older.unwrap().settle();
    assert!(older.is_none(), "it made room already");

    let newer = newer.unwrap().settle().expect("it has its seat");
    let (last, _) = enter();
    assert!(last.is_some() && makes_room(&at_next).await && !makes_room(&at_newer).await);
    drop((next, newer, last));
    assert!(lock(&finished.by_source).is_empty());
}

#[tokio::test]
async fn room_is_made_by_the_source_that_rests_most_often() {
    let finished = Finished::default();
    let (_one, at_one) = seat(&finished, "10.0.0.1:1", 8);
    let settled = seat(&finished, "10.0.0.2:1", 8).0.unwrap().settle();
    let (_older, at_older) = seat(&finished, "10.0.0.3:1", 8);
    let (_newer, at_newer) = seat(&finished, "10.0.0.3:1", 8);
    finished.make_room();
    assert!(makes_room(&at_older).await);
    assert!(!makes_room(&at_newer).await && !makes_room(&at_one).await);
    finished.make_room();
    finished.make_room();
    assert!(makes_room(&at_newer).await && makes_room(&at_one).await);
    // nobody is left who rests
    finished.make_room();
    drop(settled.expect("it is finished"));
}
