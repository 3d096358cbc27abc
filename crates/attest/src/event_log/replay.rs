//! Where a log leads in one bank, beside what was quoted.

use std::collections::BTreeMap;
use std::fmt;

use thiserror::Error;

use super::explained::Explained;
use super::{Bank, BankDigest, Form, Register, Rtmr};
use crate::{PcrIndex, PcrValues};

/// One measurement in one bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured<'a> {
    /// The register that was extended.
    pub register: Register,
    /// `EV_*`, see [`super::event_type`]. Not covered by anything.
    pub kind: u32,
    /// What was extended.
    pub digest: BankDigest,
    /// What the writer says about it. Not covered by anything, unless the digest is over it.
    pub data: &'a [u8],
}

impl Measured<'_> {
    /// Whether the digest is over exactly these bytes.
    #[must_use]
    pub fn is_over(&self, bytes: &[u8]) -> bool {
        BankDigest::of(self.digest.bank(), &[bytes]) == Some(self.digest)
    }

    /// Whether the digest is over the data: then the data is what was measured.
    #[must_use]
    pub fn covers_data(&self) -> bool {
        self.is_over(self.data)
    }
}

/// Why a log has no such bank.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BankLogError {
    /// Its header does not announce it.
    #[error("the event log has no {0}")]
    NotInLog(Bank),
    /// A measurement without a digest of the bank: the register of the bank holds something that the log does not show.
    #[error("measurement {number} of the event log has no digest of {bank}")]
    Missing {
        /// The bank.
        bank: Bank,
        /// The measurement, from 0.
        number: usize,
    },
    /// The hash is not computed here.
    #[error("{0} is not computed by this release")]
    NotComputed(Bank),
}

/// A log's measurements in one bank, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BankLog<'a> {
    form: Form,
    bank: Bank,
    startup_locality: u8,
    events: Vec<Measured<'a>>,
}

impl<'a> BankLog<'a> {
    pub(super) const fn new(
        form: Form,
        bank: Bank,
        startup_locality: u8,
        events: Vec<Measured<'a>>,
    ) -> Self {
        Self {
            form,
            bank,
            startup_locality,
            events,
        }
    }

    /// The form of the log.
    #[must_use]
    pub const fn form(&self) -> Form {
        self.form
    }

    /// The bank.
    #[must_use]
    pub const fn bank(&self) -> Bank {
        self.bank
    }

    /// The measurements.
    #[must_use]
    pub fn events(&self) -> &[Measured<'a>] {
        &self.events
    }

    /// What each register holds after these events: PCR 0 to 23, or RTMR0 to 3. MRTD is not extended by events.
    #[must_use]
    pub fn replay(&self) -> BTreeMap<Register, BankDigest> {
        let mut values = self.at_reset();
        for event in &self.events {
            if let Some(value) = values.get_mut(&event.register)
                && let Some(extended) = value.extended_by(&event.digest)
            {
                *value = extended;
            }
        }
        values
    }

    fn at_reset(&self) -> BTreeMap<Register, BankDigest> {
        let zero = BankDigest::filled(self.bank, 0);
        match self.form {
            Form::Ccel => Rtmr::ALL
                .into_iter()
                .map(|rtmr| (Register::Rtmr(rtmr), zero))
                .collect(),
            Form::Legacy | Form::CryptoAgile => PcrIndex::all()
                .map(|index| {
                    let value = match index.number() {
                        0 => BankDigest::locality(self.bank, self.startup_locality),
                        // registers of a dynamic launch
                        17..=22 => BankDigest::filled(self.bank, 0xff),
                        _ => zero,
                    };
                    (Register::Pcr(index), value)
                })
                .collect(),
        }
    }

    /// Each quoted register beside where the log leads.
    #[must_use]
    pub fn compare(&self, quoted: &Quoted) -> Comparison {
        let replayed = self.replay();
        let registers = quoted.values.iter().map(|(register, value)| {
            let explanation = match replayed.get(register) {
                Some(replayed) if replayed == value => Explanation::Explained,
                Some(replayed) => Explanation::Differs {
                    quoted: *value,
                    replayed: *replayed,
                },
                None => Explanation::NotInLog { quoted: *value },
            };
            (*register, explanation)
        });
        Comparison {
            registers: registers.collect(),
        }
    }

    /// The log, if it leads to the quoted value of each of these registers.
    ///
    /// # Errors
    /// With the registers that were not quoted or hold something else.
    pub fn explain(
        self,
        quoted: &Quoted,
        registers: &[Register],
    ) -> Result<Explained<'a>, Unexplained> {
        let comparison = self.compare(quoted);
        let unexplained: Vec<(Register, Explanation)> = registers
            .iter()
            .map(|register| {
                let found = comparison.registers.get(register).copied();
                (*register, found.unwrap_or(Explanation::NotQuoted))
            })
            .filter(|(_, explanation)| *explanation != Explanation::Explained)
            .collect();
        if unexplained.is_empty() {
            return Ok(Explained::new(self, registers));
        }
        Err(Unexplained {
            registers: unexplained,
        })
    }
}

/// What a verified quote or report says the registers of one bank hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quoted {
    values: BTreeMap<Register, BankDigest>,
}

/// Values that are not those of one bank.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QuotedError {
    /// A value of another length than the bank's.
    #[error("{register} of {bank} has {length} bytes")]
    Length {
        /// The register.
        register: Register,
        /// The bank.
        bank: Bank,
        /// The value's length.
        length: usize,
    },
    /// A register with two values.
    #[error("{0} is given twice")]
    Twice(Register),
}

impl Quoted {
    /// PCRs of one bank.
    ///
    /// # Errors
    /// When a value is not as long as the bank's, or a PCR comes twice.
    pub fn pcrs<'v>(
        bank: Bank,
        pcrs: impl IntoIterator<Item = (PcrIndex, &'v [u8])>,
    ) -> Result<Self, QuotedError> {
        let mut values = BTreeMap::new();
        for (index, value) in pcrs {
            let register = Register::Pcr(index);
            let value = BankDigest::new(bank, value).map_err(|_| QuotedError::Length {
                register,
                bank,
                length: value.len(),
            })?;
            if values.insert(register, value).is_some() {
                return Err(QuotedError::Twice(register));
            }
        }
        Ok(Self { values })
    }

    /// The RTMRs of a TD report or quote.
    #[must_use]
    pub fn rtmrs(rtmrs: &[[u8; 48]; 4]) -> Self {
        let values = Rtmr::ALL
            .into_iter()
            .zip(rtmrs)
            .filter_map(|(rtmr, value)| {
                let value = BankDigest::new(Bank::Sha384, value).ok()?;
                Some((Register::Rtmr(rtmr), value))
            });
        Self {
            values: values.collect(),
        }
    }
}

impl From<&PcrValues> for Quoted {
    fn from(pcrs: &PcrValues) -> Self {
        let values = pcrs.iter().filter_map(|(index, value)| {
            let value = BankDigest::new(Bank::Sha256, value.as_bytes()).ok()?;
            Some((Register::Pcr(index), value))
        });
        Self {
            values: values.collect(),
        }
    }
}

/// A quoted register beside the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Explanation {
    /// The log leads to the quoted value.
    Explained,
    /// It leads elsewhere: something was measured that it does not show, or it was altered.
    Differs {
        /// What was quoted.
        quoted: BankDigest,
        /// Where the log leads.
        replayed: BankDigest,
    },
    /// Logs of this form say nothing about it.
    NotInLog {
        /// What was quoted.
        quoted: BankDigest,
    },
    /// It was asked for, and not quoted.
    NotQuoted,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Explained => f.write_str("explained"),
            Self::Differs { quoted, replayed } => {
                write!(f, "quoted {quoted}, the log leads to {replayed}")
            }
            Self::NotInLog { quoted } => write!(f, "quoted {quoted}, the log says nothing"),
            Self::NotQuoted => f.write_str("not quoted"),
        }
    }
}

/// Every quoted register beside the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    registers: BTreeMap<Register, Explanation>,
}

impl Comparison {
    /// Each quoted register with what the log says about it, in order.
    pub fn registers(&self) -> impl Iterator<Item = (Register, Explanation)> {
        self.registers
            .iter()
            .map(|(register, found)| (*register, *found))
    }

    /// The registers that the log does not lead to.
    pub fn unexplained(&self) -> impl Iterator<Item = Register> {
        self.registers()
            .filter(|(_, found)| *found != Explanation::Explained)
            .map(|(register, _)| register)
    }
}

/// A log that does not lead to the registers that were asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Unexplained {
    registers: Vec<(Register, Explanation)>,
}

impl Unexplained {
    /// The registers, and what is wrong with each.
    #[must_use]
    pub fn registers(&self) -> &[(Register, Explanation)] {
        &self.registers
    }
}

impl fmt::Display for Unexplained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the event log does not lead to the quoted registers")?;
        for (register, explanation) in &self.registers {
            write!(f, "; {register}: {explanation}")?;
        }
        Ok(())
    }
}
