//! What a quote must cover, and what it must say.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::{HashAlgorithm, PcrSelection, PcrValue, VerifiedQuote};
use crate::PcrIndex;
use crate::component::Component;
use crate::verdict::{Check, CheckName, Findings, Outcome, RefusalCode, Step, Stop};

/// More accepted values of one PCR than any roll-out has generations.
const MAX_ALTERNATIVES: usize = 64;

/// The PCRs a quote must select, of one bank and no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All 24, written in three bytes.
    All,
    /// At least these.
    Including(BTreeSet<PcrIndex>),
}

impl Selection {
    pub(super) fn is_met_by(&self, selection: &PcrSelection<'_>) -> bool {
        match self {
            Self::All => selection.is_all(),
            Self::Including(indices) => {
                !selection.is_beyond()
                    && selection.indices().next().is_some()
                    && indices.iter().all(|index| selection.contains(*index))
            }
        }
    }

    pub(super) fn describe(&self) -> String {
        match self {
            Self::All => "ffffff (PCR 0 to 23)".into(),
            Self::Including(indices) => {
                let numbers: Vec<String> = indices.iter().map(ToString::to_string).collect();
                format!("PCR {} among the selected", numbers.join(", "))
            }
        }
    }
}

/// What a machine must have booted: accepted values of PCRs of one bank. One that accepts every machine cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PcrRequirements {
    bank: HashAlgorithm,
    accepted: BTreeMap<PcrIndex, BTreeSet<PcrValue>>,
}

/// Why a set of accepted values decides nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PcrRequirementsError {
    /// A bank whose values can be made to measure.
    #[error("the {0} bank decides nothing: two inputs of one digest can be found")]
    WeakBank(HashAlgorithm),
    /// Nothing is demanded.
    #[error("no PCR has an accepted value, so every machine would be accepted")]
    Empty,
    /// A PCR that starts anew without a reboot.
    #[error("PCR {0} can be reset without a reboot and says nothing about how the machine booted")]
    Resettable(PcrIndex),
    /// An empty list, which must not mean any value.
    #[error("PCR {0} has no accepted value")]
    NoValue(PcrIndex),
    /// More values than any roll-out has.
    #[error("PCR {0} has more than {MAX_ALTERNATIVES} accepted values")]
    TooManyValues(PcrIndex),
    /// A value of another bank.
    #[error("an accepted value of PCR {0} is of the {1} bank")]
    OtherBank(PcrIndex, HashAlgorithm),
}

impl PcrRequirements {
    /// Takes accepted values by PCR.
    ///
    /// # Errors
    /// When the bank is SHA-1, no PCR is named, a PCR is one of 16 to 23, or has no accepted value or one of another bank.
    pub fn new(
        bank: HashAlgorithm,
        accepted: BTreeMap<PcrIndex, BTreeSet<PcrValue>>,
    ) -> Result<Self, PcrRequirementsError> {
        if !bank.is_collision_resistant() {
            return Err(PcrRequirementsError::WeakBank(bank));
        }
        if accepted.is_empty() {
            return Err(PcrRequirementsError::Empty);
        }
        for (index, values) in &accepted {
            if index.is_resettable() {
                return Err(PcrRequirementsError::Resettable(*index));
            }
            if values.is_empty() {
                return Err(PcrRequirementsError::NoValue(*index));
            }
            if values.len() > MAX_ALTERNATIVES {
                return Err(PcrRequirementsError::TooManyValues(*index));
            }
            if let Some(other) = values.iter().find(|value| value.bank() != bank) {
                return Err(PcrRequirementsError::OtherBank(*index, other.bank()));
            }
        }
        Ok(Self { bank, accepted })
    }

    /// The bank.
    #[must_use]
    pub const fn bank(&self) -> HashAlgorithm {
        self.bank
    }

    /// The PCRs a quote must select.
    #[must_use]
    pub fn selection(&self) -> Selection {
        Selection::Including(self.accepted.keys().copied().collect())
    }

    /// Compares every PCR that is named.
    ///
    /// # Errors
    /// When one has another value or was not quoted; all of them are in the findings.
    pub fn accept(
        &self,
        quote: VerifiedQuote,
        findings: &mut Findings,
    ) -> Result<AcceptedPcrs, Stop> {
        let mut stop = None;
        for (index, accepted) in &self.accepted {
            let actual = quote.get(*index).filter(|_| quote.bank() == self.bank);
            if actual.is_some_and(|value| accepted.contains(value)) {
                findings.pass(Step::Measurements, CheckName::Pcr(*index));
                continue;
            }
            let values: Vec<String> = accepted.iter().map(ToString::to_string).collect();
            let actual = actual.map_or_else(|| "not quoted".to_owned(), ToString::to_string);
            stop = Some(findings.fail(
                RefusalCode::Measurements,
                Check {
                    component: Some(Component::measured_into(*index).to_owned()),
                    expected: Some(values.join(" or ").into()),
                    actual: Some(actual.into()),
                    next_step: Some(
                        "boot an image that is accepted here, or accept the one that runs by its own measurements"
                            .into(),
                    ),
                    ..Check::new(
                        Step::Measurements,
                        CheckName::Pcr(*index),
                        Outcome::Failed,
                    )
                },
            ));
        }
        match stop {
            Some(stop) => Err(stop),
            None => Ok(AcceptedPcrs(quote)),
        }
    }
}

/// A quote whose PCRs have accepted values. Only [`PcrRequirements::accept`] makes one.
#[derive(Debug)]
pub struct AcceptedPcrs(VerifiedQuote);

impl AcceptedPcrs {
    /// The quote.
    #[must_use]
    pub const fn quote(&self) -> &VerifiedQuote {
        &self.0
    }
}
