//! One run: its seed, its events, what failed, and the shortest part of it that still fails.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::events::Event;
use crate::proofs::MACHINES;
use crate::random::Random;
use crate::world::{Seen, World};

/// Events of a run before the end begins.
const EVENTS: usize = 400;

pub(crate) struct Run {
    seed: u64,
    machines: usize,
    events: Vec<Event>,
}

impl Run {
    pub(crate) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let machines = 2 + random.below(MACHINES - 1);
        let length = 1 + random.below(EVENTS);
        let events = Event::some(&mut random, length);
        Self {
            seed,
            machines,
            events,
        }
    }

    /// What was seen in the run. Panics with all that is needed to repeat it, if it fails.
    pub(crate) fn report(self) -> Seen {
        let why = match self.outcome(&self.events) {
            Ok(seen) => return seen,
            Err(why) => why,
        };
        let shortest = self.shorten(&why);
        let trace: Vec<String> = shortest
            .iter()
            .map(|event| format!("    {event:?}"))
            .collect();
        panic!(
            "{why}\nrepeat it with CONSTELLATION_SEED={:#x} cargo test -p cluster --test lifecycle\n{} machines, {} events, of which these are enough:\n{}\n({})",
            self.seed,
            self.machines,
            self.events.len(),
            trace.join("\n"),
            self.outcome(&shortest).err().unwrap_or_default(),
        );
    }

    /// What is seen with these events, or goes wrong.
    fn outcome(&self, events: &[Event]) -> Result<Seen, String> {
        let machines = self.machines;
        let run = AssertUnwindSafe(|| {
            let mut world = World::new(machines);
            for event in events {
                world.apply(event);
                world.check();
            }
            // what happens in the end happens in every run
            let seen = std::mem::take(&mut world.seen);
            world.end();
            seen
        });
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let ended = catch_unwind(run);
        std::panic::set_hook(hook);
        let panic = match ended {
            Ok(seen) => return Ok(seen),
            Err(panic) => panic,
        };
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(text.unwrap_or_else(|| "a panic without words".to_owned()))
    }

    /// Leaves out halves, quarters, and so on to single events, as long as what is left fails in the same way.
    fn shorten(&self, why: &str) -> Vec<Event> {
        let fails = |events: &[Event]| {
            self.outcome(events)
                .is_err_and(|other| kind(&other) == kind(why))
        };
        let mut events = self.events.clone();
        let mut part = events.len().div_ceil(2);
        while part > 0 {
            let mut at = 0;
            while at < events.len() {
                let end = (at + part).min(events.len());
                let without: Vec<Event> = [&events[..at], &events[end..]].concat();
                if fails(&without) {
                    events = without;
                } else {
                    at = end;
                }
            }
            part /= 2;
        }
        events
    }
}

/// The first line without its numbers.
fn kind(why: &str) -> String {
    let line = why.lines().next().unwrap_or_default();
    line.chars()
        .filter(|letter| !letter.is_ascii_digit())
        .collect()
}

/// A number from the environment, decimal or with 0x.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    Some(parsed.unwrap_or_else(|_| panic!("{variable}={text} is not a number")))
}
