//! The log of a machine with 24 PCRs of SHA-256.

use super::{Bank, BankLog, BankLogError, Form, Log, Measured, Register};
use crate::tpm::ParseError;
use crate::{Digest, PcrIndex, PcrValues};

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The PCR that was extended.
    pub pcr: PcrIndex,
    /// `EV_*`.
    pub kind: u32,
    /// What was extended into the SHA-256 bank.
    pub digest: Digest,
    /// What the writer says about it. Not covered by anything.
    pub data: &'a [u8],
}

/// A crypto-agile log in its SHA-256 bank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog<'a> {
    startup_locality: u8,
    events: Vec<Event<'a>>,
}

impl<'a> EventLog<'a> {
    /// Parses a log.
    ///
    /// # Errors
    /// When it is longer than [`super::MAX_LOG`], cut off, not crypto-agile, without SHA-256, or breaks a bound.
    pub fn parse(log: &'a [u8]) -> Result<Self, ParseError> {
        let log = Log::parse(log)?;
        let without = |number: usize| ParseError::Unsupported {
            field: "digests without sha256",
            value: number as u64,
        };
        let bank = match (log.form(), log.bank(Bank::Sha256)) {
            (Form::CryptoAgile, Ok(bank)) => bank,
            (_, Err(BankLogError::Missing { number, .. })) => return Err(without(number)),
            (_, _) => return Err(without(0)),
        };
        Ok(Self {
            startup_locality: log.startup_locality(),
            events: Self::events_of(&bank),
        })
    }

    fn events_of(bank: &BankLog<'a>) -> Vec<Event<'a>> {
        let event = |event: &Measured<'a>| {
            let Register::Pcr(pcr) = event.register else {
                return None;
            };
            Some(Event {
                pcr,
                kind: event.kind,
                digest: Digest::from_bytes(*event.digest.as_bytes().first_chunk()?),
                data: event.data,
            })
        };
        bank.events().iter().filter_map(event).collect()
    }

    /// The measurements in order.
    #[must_use]
    pub fn events(&self) -> &[Event<'a>] {
        &self.events
    }

    /// The measurements of one PCR in order.
    pub fn of_pcr(&self, pcr: PcrIndex) -> impl Iterator<Item = &Event<'a>> {
        self.events.iter().filter(move |event| event.pcr == pcr)
    }

    /// What the PCRs hold after these events.
    #[must_use]
    pub fn replay(&self) -> PcrValues {
        let mut values = PcrValues::at_reset();
        if let Some(first) = PcrIndex::all().next() {
            let mut locality = [0; 32];
            if let Some(last) = locality.last_mut() {
                *last = self.startup_locality;
            }
            values.set(first, Digest::from_bytes(locality));
        }
        for event in &self.events {
            values.extend(event.pcr, &event.digest);
        }
        values
    }

    /// The PCRs a log of firmware and kernel accounts for whose value in `pcrs` these events do not lead to. Not 10
    /// (the kernel's IMA keeps its own list), not 15 (the cluster mark comes later, from us), not 16 to 23.
    #[must_use]
    pub fn unexplained(&self, pcrs: &PcrValues) -> Vec<PcrIndex> {
        let replayed = self.replay();
        PcrIndex::all()
            .filter(|index| !index.is_resettable() && !matches!(index.number(), 10 | 15))
            .filter(|index| replayed.get(*index) != pcrs.get(*index))
            .collect()
    }
}
