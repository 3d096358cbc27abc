//! How long leaf certificates live, and from when on one is to be issued again.
//!
//! One value, a day on every node. It can be made shorter, which tests do, and never longer: nothing a host or a user says reaches it.
//! The rhythm of renewal follows from it. Decides by the times it is given; looks at no clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Leaf;

/// How long leaf certificates live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime(SignedDuration);

/// Between two looks at the certificates at the most: the clock can be set while one waits for the time of a renewal.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(60);
/// Between two looks at the least.
const LOOK_AT_MOST_EVERY: Duration = Duration::from_secs(1);
/// Nobody could use what lives shorter.
const LEAST: SignedDuration = SignedDuration::from_secs(10);
/// Clocks that are corrected by so much make no certificate one of another time.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// When a certificate begins, when it ends, and the number it was given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Validity<'a> {
    pub(super) not_before: i64,
    pub(super) not_after: i64,
    pub(super) serial: &'a [u8],
}

impl Lifetime {
    /// A day: what every node has.
    pub const DAY: Self = Self(SignedDuration::from_hours(24));

    /// A shorter life, such as minutes in a test, and at least seconds. What is longer than a day is a day.
    pub fn at_most_a_day(life: Duration) -> Self {
        let life = SignedDuration::try_from(life).unwrap_or(Self::DAY.0);
        Self(life.clamp(LEAST, Self::DAY.0))
    }

    /// The life of this leaf: at least twice what its readers take to notice a new one, since it is renewed after half of it.
    pub fn of(self, leaf: Leaf) -> SignedDuration {
        self.at_least_noticed(leaf.noticed_after())
    }

    /// The life of what kube-controller-manager signs for kubelets, and of a kubelet's first certificate. kube-proxy reads it as
    /// any client does.
    pub fn of_kubelets(self) -> SignedDuration {
        self.at_least_noticed(super::leaf::CLIENT_LOOKS_EVERY)
    }

    fn at_least_noticed(self, noticed_after: SignedDuration) -> SignedDuration {
        // with a fifth more, for the renewal itself and for the jitter
        let least = noticed_after + noticed_after + noticed_after * 2 / 5;
        self.0.max(least)
    }

    /// From when on a certificate of this leaf is to be issued again; now, if no clock that is right can have made it.
    ///
    /// Half its life before its end, and up to a tenth earlier by its serial number, which is random: control planes that began in
    /// one moment do not go on changing certificates in one moment.
    pub(super) fn due(self, leaf: Leaf, validity: &Validity<'_>, now: Timestamp) -> Timestamp {
        let life = self.of(leaf).as_secs();
        let of_another_time = now.as_second() < validity.not_before
            || validity.not_after > now.as_second() + life + TOLERANCE.as_secs();
        if of_another_time {
            return now;
        }
        let jitter =
            life / 10 * i64::from(validity.serial.last().copied().unwrap_or_default()) / 256;
        // what no timestamp can say ended long ago
        Timestamp::from_second(validity.not_after - life / 2 - jitter).unwrap_or(now)
    }

    /// How long to wait until the next look, if the first renewal is due at `due`.
    pub fn wait(due: Timestamp, now: Timestamp) -> Duration {
        let until = Duration::try_from(due.duration_since(now)).unwrap_or_default();
        until.clamp(LOOK_AT_MOST_EVERY, LOOK_AT_LEAST_EVERY)
    }

    /// The longest that a client of the API may go on with a certificate it has read.
    pub fn of_a_client(self) -> Duration {
        // more than ten of them fit into the half of its life that a certificate has when it is renewed
        Duration::try_from(self.0 / 24).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-22T06:00:00Z".parse().unwrap()
    }

    #[test]
    fn nothing_makes_a_leaf_live_longer_than_a_day() {
        let day = SignedDuration::from_hours(24);
        for life in [
            Duration::MAX,
            Duration::from_secs(1 << 40),
            Duration::from_secs(86_401),
        ] {
            assert_eq!(Lifetime::at_most_a_day(life), Lifetime::DAY);
        }
        for lifetime in [Lifetime::DAY, Lifetime::at_most_a_day(Duration::ZERO)] {
            for leaf in Leaf::ALL {
                assert!(lifetime.of(leaf) <= day, "{leaf:?}");
            }
            assert!(lifetime.of_kubelets() <= day);
        }
    }

    /// However short: who reads a certificate notices the new one while the old one lives, wherever in its rhythm he is.
    #[test]
    fn a_new_leaf_is_noticed_before_the_old_one_ends() {
        for seconds in [0, 1, 60, 90, 600, 3_600, 86_400] {
            let lifetime = Lifetime::at_most_a_day(Duration::from_secs(seconds));
            for leaf in Leaf::ALL {
                let end = now() + lifetime.of(leaf);
                for serial in [0, 128, 255] {
                    let validity = Validity {
                        not_before: now().as_second(),
                        not_after: end.as_second(),
                        serial: &[serial],
                    };
                    let due = lifetime.due(leaf, &validity, now());
                    assert!(due >= now(), "{leaf:?} {seconds}");
                    assert!(due + leaf.noticed_after() < end, "{leaf:?} {seconds}");
                }
            }
        }
    }

    #[test]
    fn renewals_of_one_moment_spread() {
        let end = now() + SignedDuration::from_hours(24);
        let due = |serial: u8| {
            let validity = Validity {
                not_before: now().as_second(),
                not_after: end.as_second(),
                serial: &[1, serial],
            };
            Lifetime::DAY.due(Leaf::ApiServer, &validity, now())
        };
        assert_eq!(due(0), now() + SignedDuration::from_hours(12));
        assert!(due(255) < now() + SignedDuration::from_hours(10));
        assert!(due(255) > now() + SignedDuration::from_mins(9 * 60 + 30));
    }

    /// A clock that is set while one waits is noticed within a minute.
    #[test]
    fn nobody_sleeps_through_a_clock_that_is_set() {
        let in_a_year = now() + SignedDuration::from_hours(365 * 24);
        assert_eq!(Lifetime::wait(in_a_year, now()), LOOK_AT_LEAST_EVERY);
        assert_eq!(Lifetime::wait(now(), in_a_year), LOOK_AT_MOST_EVERY);
        let soon = now() + SignedDuration::from_secs(7);
        assert_eq!(Lifetime::wait(soon, now()), Duration::from_secs(7));
    }
}
