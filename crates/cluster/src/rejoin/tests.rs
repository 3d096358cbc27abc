//! Tickets, and a model of a machine that reboots among honest, wrong and hostile join services while anybody offers it keys.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::recovery::Request;

/// A cluster by one byte: its secrets are made of it.
fn cluster(byte: u8) -> ClusterId {
    let secret = MeasurementSecret::from_slice(&[byte; 32]).unwrap();
    ClusterId::derive(&secret, &MeasurementSalt::from_slice(&[byte; 32]).unwrap())
}

fn ticket(cluster: u8, disk_key: u8) -> Ticket {
    Ticket {
        state_disk_key: vec![disk_key; 32],
        measurement_salt: vec![cluster; 32],
        measurement_secret: vec![cluster; 32],
        bootstrap_token: "abcdef.0123456789abcdef".to_owned(),
    }
}

fn offer(cluster: u8, disk_key: u8) -> Offer {
    let request = Request {
        state_disk_key: vec![disk_key; 32],
        measurement_salt: vec![cluster; 32],
        measurement_secret: vec![cluster; 32],
    };
    request.check().unwrap()
}

fn extend(pcr15: [u8; 32], cluster_id: &ClusterId) -> [u8; 32] {
    let mut data = pcr15.to_vec();
    data.extend_from_slice(&cluster_id.mark_digest());
    *attest::Digest::of(&data).as_bytes()
}

#[test]
fn a_ticket_is_for_the_cluster_that_its_giver_proved() {
    let proved = ProvedMark::of(&cluster(1));
    let checked = ticket(1, 7).check(proved).unwrap();
    assert_eq!(checked.cluster_id, cluster(1));
    assert!(format!("{checked:?}").contains("DiskKey(redacted)"));
    assert_eq!(
        ticket(2, 7).check(proved).unwrap_err(),
        TicketError::Cluster(AnotherCluster)
    );
}

#[test]
fn a_ticket_with_a_part_of_another_length_is_refused() {
    let proved = ProvedMark::of(&cluster(1));
    let parts: [fn(&mut Ticket) -> &mut Vec<u8>; 3] = [
        |ticket| &mut ticket.state_disk_key,
        |ticket| &mut ticket.measurement_salt,
        |ticket| &mut ticket.measurement_secret,
    ];
    for part in parts {
        for length in [0, 31, 33, 4096] {
            let mut wrong = ticket(1, 7);
            part(&mut wrong).resize(length, 1);
            assert!(matches!(wrong.check(proved), Err(TicketError::Secret(_))));
        }
    }
}

#[test]
fn a_token_comes_with_a_ticket_and_a_token_that_is_none_costs_no_disk() {
    let opened = |token: &str| {
        let given = Ticket {
            bootstrap_token: token.to_owned(),
            ..ticket(1, 7)
        };
        let Next::Ask(_, asking) = Locked::begin(&[0; 32]).unwrap().found(&[HONEST], OWN, 0) else {
            panic!("nobody to ask");
        };
        let checked = given.check(ProvedMark::of(&cluster(1))).unwrap();
        let awaiting = asking.received(checked).opened(());
        let rejoined = awaiting.read_back(&cluster(1).pcr15()).unwrap();
        rejoined
            .into_parts()
            .1
            .map(|token| token.expose_text().to_owned())
    };
    let good = "abcdef.0123456789abcdef";
    assert_eq!(opened(good).as_deref(), Some(good));
    for none in ["", "abcdef", "abcdef.0123456789abcdeF", "../../etc"] {
        assert_eq!(opened(none), None);
    }
}

#[test]
fn a_marked_machine_does_not_begin() {
    Locked::begin(&[0; 32]).unwrap();
    assert_eq!(
        Locked::begin(&cluster(1).pcr15()).unwrap_err(),
        AlreadyMarked
    );
}

#[test]
fn the_disk_stays_out_of_reach_under_a_foreign_mark() {
    let awaiting = || AwaitingMark {
        disk: (),
        cluster_id: cluster(1),
        token: None,
    };
    for wrong in [
        [0; 32],
        cluster(2).pcr15(),
        extend(cluster(1).pcr15(), &cluster(1)),
    ] {
        assert_eq!(awaiting().read_back(&wrong).unwrap_err(), ForeignMark);
    }
    let right = extend([0; 32], &cluster(1));
    let ((), None) = awaiting().read_back(&right).unwrap().into_parts() else {
        panic!("a token from nowhere");
    };
}

const OWN_CLUSTER: u8 = 1;
const OWN_KEY: u8 = 10;
const OWN: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 42, 1, 1));
const HONEST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 42, 1, 100));

/// Who answers on an address.
#[derive(Debug, Clone, Copy)]
enum Service {
    Silent,
    /// Proves this mark and gives this ticket: `(mark, ticket's cluster, disk key)`. A member of another cluster on the same
    /// image proves its own mark; nobody proves a mark that his PCR 15 does not hold.
    Gives(u8, u8, u8),
    Garbage,
}

fn services() -> impl Strategy<Value = Service> {
    prop_oneof![
        Just(Service::Silent),
        Just(Service::Garbage),
        Just(Service::Gives(OWN_CLUSTER, OWN_CLUSTER, OWN_KEY)),
        (1..4u8, 1..4u8, 9..12u8).prop_map(|(mark, ticket, key)| Service::Gives(mark, ticket, key)),
    ]
}

#[derive(Debug, Clone)]
enum Event {
    /// The metadata service names these.
    List(Vec<u8>),
    /// An address has another service from now on.
    Becomes(u8, Service),
    /// Somebody offers keys: `(cluster, disk key)`. Who has the own disk's key has the cluster's secrets as well.
    Offer(u8, u8),
    /// The machine goes so many steps.
    Run(u8),
    /// It stops, and boots again.
    Reboot,
    /// The program is started again without a boot.
    StartedAgain,
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => prop::collection::vec(0..8u8, 0..6).prop_map(Event::List),
        2 => (0..8u8, services()).prop_map(|(at, service)| Event::Becomes(at, service)),
        2 => (2..4u8, 9..12u8).prop_filter_map("nobody else has the own key", |(cluster, key)|
            (key != OWN_KEY).then_some(Event::Offer(cluster, key))),
        1 => (9..12u8).prop_map(|key| Event::Offer(OWN_CLUSTER, key)),
        4 => (1..12u8).prop_map(Event::Run),
        1 => Just(Event::Reboot),
        1 => Just(Event::StartedAgain),
    ]
}

/// Where the program is. The disk is a proof that it was opened with its own key.
#[derive(Debug)]
enum At {
    Next(Next),
    AwaitingMark(AwaitingMark<OwnDisk>),
    Rejoined,
    Stopped,
}

#[derive(Debug)]
struct OwnDisk;

struct Model {
    at: At,
    pcr15: [u8; 32],
    opens: u32,
    extends: u32,
    list: Vec<IpAddr>,
    services: BTreeMap<IpAddr, Service>,
    /// Whose key opened the disk in this boot: the mark that the join service proved, or the cluster of the offer.
    giver: Option<u8>,
}

fn address(last: u8) -> IpAddr {
    IpAddr::from([10, 42, 1, last])
}

impl Model {
    fn new() -> Self {
        let mut model = Self {
            at: At::Stopped,
            pcr15: [0; 32],
            opens: 0,
            extends: 0,
            list: Vec::new(),
            services: BTreeMap::new(),
            giver: None,
        };
        model.begin();
        model
    }

    fn begin(&mut self) {
        self.at = match Locked::begin(&self.pcr15) {
            Ok(locked) => At::Next(Next::Wait(Duration::ZERO, locked)),
            Err(AlreadyMarked) => At::Stopped,
        };
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::List(list) => self.list = list.into_iter().map(address).collect(),
            Event::Becomes(at, service) => {
                self.services.insert(address(at), service);
            }
            Event::Run(steps) => {
                (0..steps).for_each(|step| self.step(u16::from(step).wrapping_mul(4099)))
            }
            Event::Offer(cluster, key) => self.offer(cluster, key),
            Event::Reboot => {
                (self.pcr15, self.giver) = ([0; 32], None);
                (self.opens, self.extends) = (0, 0);
                self.begin();
            }
            Event::StartedAgain => self.begin(),
        }
    }

    fn step(&mut self, jitter: u16) {
        self.at = match std::mem::replace(&mut self.at, At::Stopped) {
            At::Next(Next::Wait(_, locked)) => At::Next(locked.found(&self.list, OWN, jitter)),
            At::Next(Next::Ask(at, asking)) => {
                assert_ne!(at, OWN, "the machine asked itself");
                self.ask(at, asking, jitter)
            }
            At::AwaitingMark(awaiting) => {
                let giver = self.giver.map(cluster);
                assert_eq!(giver.as_ref(), Some(awaiting.cluster_id()));
                self.pcr15 = extend(self.pcr15, awaiting.cluster_id());
                self.extends += 1;
                assert_eq!(self.extends, 1, "marked twice in one boot");
                let (OwnDisk, _) = awaiting.read_back(&self.pcr15).unwrap().into_parts();
                At::Rejoined
            }
            end => end,
        };
    }

    fn ask(&mut self, at: IpAddr, asking: Asking, jitter: u16) -> At {
        let service = self.services.get(&at).copied().unwrap_or(Service::Silent);
        let (mark, given) = match service {
            Service::Silent => return At::Next(asking.refused(jitter)),
            Service::Garbage => (
                OWN_CLUSTER,
                Ticket {
                    measurement_salt: Vec::new(),
                    ..ticket(1, 1)
                },
            ),
            Service::Gives(mark, cluster, key) => (mark, ticket(cluster, key)),
        };
        let Ok(checked) = given.check(ProvedMark::of(&cluster(mark))) else {
            return At::Next(asking.refused(jitter));
        };
        match self.open(asking.received(checked), mark) {
            Ok(awaiting) => At::AwaitingMark(awaiting),
            Err(asking) => At::Next(asking.refused(jitter)),
        }
    }

    /// A machine that has its key, or has stopped, takes no offer.
    fn offer(&mut self, cluster: u8, key: u8) {
        self.at = match std::mem::replace(&mut self.at, At::Stopped) {
            At::Next(next) => {
                let was = format!("{next:?}");
                match self.open(next.offered(offer(cluster, key)), cluster) {
                    Ok(awaiting) => At::AwaitingMark(awaiting),
                    Err(next) => {
                        assert_eq!(format!("{next:?}"), was, "a wrong key cost something");
                        At::Next(next)
                    }
                }
            }
            end => end,
        };
    }

    fn open<S>(&mut self, opening: Opening<S>, giver: u8) -> Result<AwaitingMark<OwnDisk>, S> {
        if opening.key().expose_bytes() != &[OWN_KEY; 32] {
            return Err(opening.not_opened());
        }
        // a program that is started again before the mark finds the disk open
        self.opens += 1;
        self.giver = Some(giver);
        Ok(opening.opened(OwnDisk))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Crashes, restarts, lying metadata, services of any kind and offers from anybody: one mark in a boot, only of the cluster that
    /// was proved or whose key was given, the disk only ever opened by its own key; and once an honest service is named, or the
    /// administrator comes, the next boot ends.
    #[test]
    fn a_rebooted_machine_comes_back_marked_once_or_not_at_all(
        events in prop::collection::vec(events(), 0..60),
        others in prop::collection::vec(0..8u8, 0..8),
        wrong in prop::collection::vec((2..4u8, 11..14u8), 0..8),
        recovered in any::<bool>(),
        when in 0..20u8,
    ) {
        let mut model = Model::new();
        for event in events {
            model.apply(event);
        }
        model.apply(Event::Reboot);
        if recovered {
            // nobody to ask, strangers at the door, and the right key twice: the second finds nobody who waits
            model.list.clear();
            model.apply(Event::Run(when));
            wrong.into_iter().for_each(|(cluster, key)| model.apply(Event::Offer(cluster, key)));
            model.apply(Event::Offer(OWN_CLUSTER, OWN_KEY));
            model.apply(Event::Offer(OWN_CLUSTER, OWN_KEY));
            model.apply(Event::Run(1));
        } else {
            model.services.insert(HONEST, Service::Gives(OWN_CLUSTER, OWN_CLUSTER, OWN_KEY));
            model.list = others.into_iter().map(address).chain([HONEST]).collect();
            model.apply(Event::Run(2 * 10));
        }
        prop_assert!(matches!(model.at, At::Rejoined));
        prop_assert_eq!(model.opens, 1);
        prop_assert_eq!(model.extends, 1);
    }

    /// A key that is offered while a join service is asked, and the ticket that comes in the meantime: one of them opens the disk.
    #[test]
    fn of_two_keys_at_once_one_opens_the_disk(
        first_is_offer in any::<bool>(),
        right_offer in any::<bool>(),
        right_ticket in any::<bool>(),
    ) {
        let locked = Locked::begin(&[0; 32]).unwrap();
        let mut next = locked.found(&[HONEST], OWN, 0);
        let key = |right| if right { OWN_KEY } else { 11 };
        let mut opened = 0;
        for is_offer in [first_is_offer, !first_is_offer] {
            let right = if is_offer { right_offer } else { right_ticket };
            let at = if is_offer {
                let opening = next.offered(offer(OWN_CLUSTER, key(right)));
                if right { Ok(opening.opened(OwnDisk)) } else { Err(opening.not_opened()) }
            } else {
                let Next::Ask(_, asking) = next else { panic!("the ask goes on under an offer") };
                let ticket = ticket(OWN_CLUSTER, key(right)).check(ProvedMark::of(&cluster(OWN_CLUSTER)));
                let opening = asking.received(ticket.unwrap());
                if right { Ok(opening.opened(OwnDisk)) } else { Err(opening.not_opened().refused(0)) }
            };
            match at {
                // the other one has nothing left to be given to
                Ok(AwaitingMark { .. }) => {
                    opened += 1;
                    break;
                }
                Err(before) => next = before,
            }
        }
        prop_assert_eq!(opened, u32::from(right_offer || right_ticket));
    }
}
