//! Step 5: what was booted, by the registers of a document that was appraised.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{Appraised, CheckName, Kind, pcr};
use crate::policy::{Generation, Measurement, PcrMeasurements};
use crate::verdict::{Check, CheckName as Name, Findings, Outcome, RefusalCode, Step, Stop};
use crate::{Component, Digest384, PcrIndex};

/// The registers of a document hold what was demanded. Only [`Appraised::demand_pcrs`] makes one.
#[derive(Debug)]
pub struct Measured(());

/// At least one register that must hold its value, and it is not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedPcrs(BTreeMap<u8, Measurement<Digest384>>);

/// A policy that would accept whatever was booted, or one for other machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ExpectedPcrsError {
    /// No register at all.
    #[error("no PCR must have a value")]
    Nothing,
    /// Only registers without content.
    #[error("every PCR that must have a value must be zero, which says that nothing was measured")]
    OnlyZero,
    /// A policy whose values no document can hold.
    #[error("the policy has no PCRs of the SHA-384 bank, and the documents of AWS state no other")]
    OtherBank,
}

impl ExpectedPcrs {
    /// Registers that must hold their values.
    ///
    /// # Errors
    /// When nothing is expected, or every value is zero.
    pub fn new(values: BTreeMap<u8, Digest384>) -> Result<Self, ExpectedPcrsError> {
        Self::of(
            values
                .into_iter()
                .map(|(index, value)| (index, Measurement::enforced(value))),
        )
    }

    fn of(
        values: impl Iterator<Item = (u8, Measurement<Digest384>)>,
    ) -> Result<Self, ExpectedPcrsError> {
        let values: BTreeMap<_, _> = values.collect();
        let mut enforced = values.values().filter(|value| !value.warn_only).peekable();
        if enforced.peek().is_none() {
            return Err(ExpectedPcrsError::Nothing);
        }
        if enforced.all(|value| value.expected == Digest384::ZERO) {
            return Err(ExpectedPcrsError::OnlyZero);
        }
        Ok(Self(values))
    }
}

/// The values of a policy for machines with a NitroTPM.
impl TryFrom<&Generation> for ExpectedPcrs {
    type Error = ExpectedPcrsError;

    fn try_from(generation: &Generation) -> Result<Self, ExpectedPcrsError> {
        match generation.pcr_measurements() {
            PcrMeasurements::Sha384(pcrs) => {
                Self::of(pcrs.iter().map(|(index, value)| (index.number(), *value)))
            }
            PcrMeasurements::None | PcrMeasurements::Sha256(_) => Err(ExpectedPcrsError::OtherBank),
        }
    }
}

impl Appraised {
    /// Step 5: the registers hold the demanded values. All that differ are told.
    ///
    /// # Errors
    /// When one that must hold its value differs or is not in the document.
    pub fn demand_pcrs(
        &self,
        expected: &ExpectedPcrs,
        findings: &mut Findings,
    ) -> Result<Measured, Stop> {
        let mut outcome = Ok(Measured(()));
        for (
            index,
            Measurement {
                expected,
                warn_only,
            },
        ) in &expected.0
        {
            let name = Name::Aws(CheckName::Pcr(*index));
            let actual = pcr(&self.pcrs, *index);
            if actual == Some(*expected) {
                findings.pass(Step::Measurements, name);
                continue;
            }
            let mut check = Check {
                component: self.component(*index),
                expected: Some(expected.to_string().into()),
                actual: Some(
                    actual
                        .map_or_else(|| "not in the document".to_owned(), |it| it.to_string())
                        .into(),
                ),
                ..Check::new(Step::Measurements, name, Outcome::Failed)
            };
            if *warn_only {
                check.outcome = Outcome::Warning;
                check.next_step = Some("the policy only warns of this PCR".into());
                findings.push(RefusalCode::Measurements, check);
            } else {
                check.next_step = Some(
                    "the machine did not boot what is accepted: compare its image with the one the policy is for"
                        .into(),
                );
                outcome = Err(findings.fail(RefusalCode::Measurements, check));
            }
        }
        outcome
    }

    /// What is measured into a register: of an instance what a PC measures, while an enclave has an order of its own.
    fn component(&self, index: u8) -> Option<String> {
        let index = PcrIndex::new(index.into()).ok()?;
        match self.kind {
            Kind::NitroTpm => Some(Component::measured_into(index).to_owned()),
            Kind::Enclave => None,
        }
    }
}
