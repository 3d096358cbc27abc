//! The measurements of registers that were quoted and are led to: what may be read as what happened.

use super::{Bank, BankLog, Form, Measured, Register, Rtmr, event_type};

/// What an event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<T> {
    /// The digest is over these words: they are what was measured.
    Measured(T),
    /// The digest is over something else. Whoever handed the log over can have written this.
    Claimed(T),
}

impl<T> Said<T> {
    /// The words, if they were measured.
    pub const fn measured(&self) -> Option<&T> {
        match self {
            Self::Measured(words) => Some(words),
            Self::Claimed(_) => None,
        }
    }

    /// The words, true or not: for a person to read.
    pub const fn words(&self) -> &T {
        match self {
            Self::Measured(words) | Self::Claimed(words) => words,
        }
    }
}

/// A log that leads to the quoted values of some registers. Only [`BankLog::explain`] makes one.
#[derive(Debug)]
pub struct Explained<'a> {
    log: BankLog<'a>,
    registers: Vec<Register>,
}

impl<'a> Explained<'a> {
    pub(super) fn new(log: BankLog<'a>, registers: &[Register]) -> Self {
        Self {
            log,
            registers: registers.to_vec(),
        }
    }

    /// The bank.
    #[must_use]
    pub const fn bank(&self) -> Bank {
        self.log.bank()
    }

    /// The measurements of the explained registers, in order. Those of others are left out: nothing vouches for them.
    pub fn events(&self) -> impl Iterator<Item = &Measured<'a>> {
        self.log
            .events()
            .iter()
            .filter(|event| self.registers.contains(&event.register))
    }

    /// The measurements of one register; an error value with the register if it is not explained.
    pub(super) fn of(
        &self,
        register: Register,
    ) -> Result<impl Iterator<Item = &Measured<'a>>, Register> {
        if !self.registers.contains(&register) {
            return Err(register);
        }
        Ok(self
            .events()
            .filter(move |event| event.register == register))
    }

    pub(super) const fn is_of_td(&self) -> bool {
        match self.log.form() {
            Form::Ccel => true,
            Form::Legacy | Form::CryptoAgile => false,
        }
    }

    /// Where a measurement of this PCR goes on this machine (UEFI 38.4.1).
    pub(super) fn register(&self, pcr: u8) -> Register {
        if !self.is_of_td() {
            return Register::pcr(pcr.into()).unwrap_or(Register::Mrtd);
        }
        match pcr {
            0 => Register::Mrtd,
            1 | 7 => Register::Rtmr(Rtmr::Rtmr0),
            2..=6 => Register::Rtmr(Rtmr::Rtmr1),
            8..=15 => Register::Rtmr(Rtmr::Rtmr2),
            _ => Register::Rtmr(Rtmr::Rtmr3),
        }
    }
}

/// Whether an event is a text of firmware's, measured as it stands.
pub(super) fn is_action(event: &Measured<'_>, text: &[u8]) -> bool {
    event.kind == event_type::EFI_ACTION && event.data == text && event.covers_data()
}
