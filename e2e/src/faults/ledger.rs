//! What a client may see, given what it was told: the judgement of the checker, without IO.
//!
//! A key holds an increasing number. A write that was acknowledged, and a number that somebody has read, are there for ever or under a
//! higher number; a write without an answer may be there or not, also later. Reads are ordered by when they begin: one that began before
//! an acknowledgement may still show what was there then.

use std::collections::BTreeMap;
use std::fmt;

/// What is known of all keys.
#[derive(Debug, Default)]
pub struct Ledger {
    keys: BTreeMap<String, Key>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Key {
    /// The highest number that was acknowledged or read.
    floor: u64,
    /// The highest number that was ever sent.
    sent: u64,
    acknowledged: u64,
}

/// A read that has begun.
#[derive(Debug)]
#[must_use = "a read that nobody judges shows nothing"]
pub struct Reading {
    key: String,
    floor: u64,
}

/// What no store that keeps its word can show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Violation {
    /// Something that was there is gone.
    Lost {
        /// Where.
        key: String,
        /// What was acknowledged or read before.
        was: u64,
        /// What is there now.
        is: Option<u64>,
    },
    /// Something is there that nobody wrote.
    Invented {
        /// Where.
        key: String,
        /// The highest number that was sent.
        sent: u64,
        /// What is there now.
        is: u64,
    },
}

impl Ledger {
    /// A number is on its way to a key.
    pub fn send(&mut self, key: &str, number: u64) {
        let entry = self.keys.entry(key.to_owned()).or_default();
        entry.sent = entry.sent.max(number);
    }

    /// The store has said that it has it.
    pub fn acknowledge(&mut self, key: &str, number: u64) {
        let entry = self.keys.entry(key.to_owned()).or_default();
        entry.floor = entry.floor.max(number);
        entry.acknowledged += 1;
    }

    /// A read of a key begins.
    pub fn begin_read(&self, key: &str) -> Reading {
        let floor = self.keys.get(key).map_or(0, |key| key.floor);
        Reading {
            key: key.to_owned(),
            floor,
        }
    }

    /// What a read showed.
    ///
    /// # Errors
    /// When it can not be.
    pub fn read(&mut self, reading: Reading, is: Option<u64>) -> Result<(), Violation> {
        let Reading { key, floor } = reading;
        if is.unwrap_or_default() < floor {
            let was = floor;
            return Err(Violation::Lost { key, was, is });
        }
        let Some(is) = is else { return Ok(()) };
        let entry = self.keys.entry(key.clone()).or_default();
        if is > entry.sent {
            let sent = entry.sent;
            return Err(Violation::Invented { key, sent, is });
        }
        entry.floor = entry.floor.max(is);
        Ok(())
    }

    /// Compares everything with everything that is there. Nothing may be on its way.
    pub fn compare(&mut self, there: &BTreeMap<String, u64>) -> Vec<Violation> {
        let ours: Vec<String> = self.keys.keys().cloned().collect();
        let foreign = there.keys().filter(|key| !self.keys.contains_key(*key));
        let all: Vec<String> = ours.iter().chain(foreign).cloned().collect();
        all.into_iter()
            .filter_map(|key| {
                let reading = self.begin_read(&key);
                self.read(reading, there.get(&key).copied()).err()
            })
            .collect()
    }

    /// How many writes were acknowledged.
    pub fn acknowledged(&self) -> u64 {
        self.keys.values().map(|key| key.acknowledged).sum()
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { key, was, is } => match is {
                Some(is) => write!(f, "{key} went back from {was} to {is}"),
                None => write!(f, "{key} is gone; it held {was}"),
            },
            Self::Invented { key, sent, is } => {
                write!(f, "{key} holds {is}, and the highest number sent is {sent}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(was: u64, is: Option<u64>) -> Violation {
        let key = "a".to_owned();
        Violation::Lost { key, was, is }
    }

    fn written(numbers: impl IntoIterator<Item = u64>) -> Ledger {
        let mut ledger = Ledger::default();
        for number in numbers {
            ledger.send("a", number);
            ledger.acknowledge("a", number);
        }
        ledger
    }

    #[test]
    fn a_lost_write_is_reported() {
        let mut ledger = written([1, 2]);
        let reading = ledger.begin_read("a");
        assert_eq!(ledger.read(reading, Some(1)), Err(lost(2, Some(1))));
        let reading = ledger.begin_read("a");
        assert_eq!(ledger.read(reading, None), Err(lost(2, None)));
        assert_eq!(ledger.compare(&BTreeMap::new()), [lost(2, None)]);
    }

    #[test]
    fn a_write_without_an_answer_may_be_there_or_not_but_not_come_and_go() {
        let mut ledger = written([1]);
        ledger.send("a", 2);
        for is in [1, 1, 2, 2] {
            let reading = ledger.begin_read("a");
            assert_eq!(ledger.read(reading, Some(is)), Ok(()));
        }
        let reading = ledger.begin_read("a");
        assert_eq!(ledger.read(reading, Some(1)), Err(lost(2, Some(1))));
    }

    #[test]
    fn a_read_that_began_before_an_acknowledgement_may_show_what_was_there_then() {
        let mut ledger = written([1]);
        ledger.send("a", 2);
        let early = ledger.begin_read("a");
        ledger.acknowledge("a", 2);
        assert_eq!(ledger.read(early, Some(1)), Ok(()));
        let late = ledger.begin_read("a");
        assert_eq!(ledger.read(late, Some(1)), Err(lost(2, Some(1))));
    }

    #[test]
    fn what_nobody_wrote_is_reported() {
        let mut ledger = written([1]);
        let invented = |key: &str, sent, is| Violation::Invented {
            key: key.to_owned(),
            sent,
            is,
        };
        let reading = ledger.begin_read("a");
        assert_eq!(ledger.read(reading, Some(2)), Err(invented("a", 1, 2)));
        let there = [("a".to_owned(), 1), ("b".to_owned(), 1)].into();
        assert_eq!(ledger.compare(&there), [invented("b", 0, 1)]);
    }

    #[test]
    fn a_store_that_keeps_its_word_is_not_accused() {
        let mut ledger = written([1, 2, 3]);
        ledger.send("b", 1);
        assert_eq!(ledger.compare(&[("a".to_owned(), 3)].into()), []);
        assert_eq!(
            ledger.compare(&[("a".to_owned(), 3), ("b".to_owned(), 1)].into()),
            []
        );
        assert_eq!(ledger.acknowledged(), 3);
    }
}
