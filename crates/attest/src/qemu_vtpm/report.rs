//! Collects the checks of one appraisal; turns into a verdict at its end, by what was collected and nothing else.

use std::error::Error;

use crate::component::Component;
use crate::verdict::{Check, CheckName, Difference, Outcome, Refusal, RefusalCode, Step, Verified};
use crate::{Digest, Measurement, PcrIndex, PcrValues, Policy, Variant};

/// An earlier check failed and nothing after it could be believed.
pub(super) struct Stop;

pub(super) struct Report {
    variant: Variant,
    image: Option<String>,
    checks: Vec<Check>,
    /// Of the first failure: the later ones are often its consequences.
    code: Option<RefusalCode>,
}

impl Report {
    pub(super) fn new(variant: Variant, policy: &Policy) -> Self {
        Self {
            variant,
            image: policy.image_name().map(str::to_owned),
            checks: Vec::new(),
            code: None,
        }
    }

    pub(super) fn pass(&mut self, step: Step, name: CheckName) {
        self.checks.push(Check::new(step, name, Outcome::Passed));
    }

    /// A structure that could be read, or the reason why not.
    pub(super) fn parse<T, E: Error>(
        &mut self,
        step: Step,
        name: CheckName,
        result: Result<T, E>,
    ) -> Result<T, Stop> {
        let parsed = self.parse_again(step, name, result)?;
        self.pass(step, name);
        Ok(parsed)
    }

    /// The second half of a structure whose first half has passed the same check already.
    pub(super) fn parse_again<T, E: Error>(
        &mut self,
        step: Step,
        name: CheckName,
        result: Result<T, E>,
    ) -> Result<T, Stop> {
        result.map_err(|error| {
            let code = match step {
                Step::EventLog => RefusalCode::Measurements,
                Step::Document
                | Step::Key
                | Step::Quote
                | Step::Measurements
                | Step::ClusterMark => RefusalCode::Malformed,
            };
            // a structure is well-formed or not: one line for both halves
            self.checks.retain(|check| check.name != name);
            self.checks.push(Check {
                actual: Some(error.to_string().into()),
                next_step: Some(
                    "the peer's software is broken, of another version, or not ours".into(),
                ),
                ..Check::new(step, name, Outcome::Failed)
            });
            self.code.get_or_insert(code);
            Stop
        })
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one line of the report; a builder would hide which part is which"
    )]
    pub(super) fn demand(
        &mut self,
        step: Step,
        name: CheckName,
        code: RefusalCode,
        holds: bool,
        expected: &str,
        actual: &str,
        next_step: &str,
    ) -> Result<(), Stop> {
        if holds {
            self.pass(step, name);
            return Ok(());
        }
        self.checks.push(Check {
            expected: Some(expected.into()),
            actual: Some(actual.into()),
            next_step: Some(next_step.into()),
            ..Check::new(step, name, Outcome::Failed)
        });
        self.code.get_or_insert(code);
        Err(Stop)
    }

    pub(super) fn warn(
        &mut self,
        step: Step,
        name: CheckName,
        expected: &str,
        actual: &str,
        next_step: &str,
    ) {
        self.checks.push(Check {
            expected: Some(expected.into()),
            actual: Some(actual.into()),
            next_step: Some(next_step.into()),
            ..Check::new(step, name, Outcome::Warning)
        });
    }

    /// A PCR that is not what the policy expects.
    pub(super) fn pcr(
        &mut self,
        index: PcrIndex,
        measurement: &Measurement,
        actual: Digest,
        differences: Vec<Difference>,
    ) {
        let outcome = if measurement.warn_only {
            Outcome::Warning
        } else {
            Outcome::Failed
        };
        let mut names: Vec<&str> = differences
            .iter()
            .map(|difference| difference.component.as_str())
            .collect();
        if names.is_empty() {
            names.push(Component::measured_into(index));
        }
        names.dedup();
        let image = self
            .image
            .as_deref()
            .map_or_else(|| "the policy".to_owned(), |image| format!("image {image}"));
        let next = format!(
            "{} from {image}: boot that image, or accept the one that runs by its own measurements",
            if names.len() == 1 {
                "this part does not come"
            } else {
                "these parts do not come"
            },
        );
        self.checks.push(Check {
            component: Some(names.join(", ")),
            expected: Some(measurement.expected.to_string().into()),
            actual: Some(actual.to_string().into()),
            differences,
            next_step: Some(next.into()),
            ..Check::new(Step::Measurements, CheckName::Pcr(index), outcome)
        });
        if outcome == Outcome::Failed {
            self.code.get_or_insert(RefusalCode::Measurements);
        }
    }

    pub(super) fn mark(&mut self, holds: bool, expected: &str, actual: &str, next_step: &str) {
        let _stop = self.demand(
            Step::ClusterMark,
            CheckName::ClusterMark,
            RefusalCode::ClusterMark,
            holds,
            expected,
            actual,
            next_step,
        );
        if let Some(check) = self.checks.last_mut() {
            check.component = Some(Component::ClusterMark.to_string());
        }
    }

    /// Accepts, unless a check failed.
    pub(super) fn verdict(
        self,
        ak_id: Digest,
        measurements: PcrValues,
        reset_count: u32,
    ) -> Result<Verified, Refusal> {
        let has_failed = self
            .checks
            .iter()
            .any(|check| check.outcome == Outcome::Failed);
        if has_failed || self.code.is_some() {
            return Err(self.refusal());
        }
        Ok(Verified {
            variant: self.variant,
            ak_id,
            image: self.image,
            measurements,
            reset_count,
            checks: self.checks,
        })
    }

    pub(super) fn refusal(mut self) -> Refusal {
        self.skip_the_rest();
        Refusal {
            // every path here has set a code; without one the evidence is at best unreadable
            code: self.code.unwrap_or(RefusalCode::Malformed),
            variant: self.variant,
            image: self.image,
            checks: self.checks,
        }
    }

    /// Says of each step that was not reached that it was not.
    fn skip_the_rest(&mut self) {
        let skipped = [
            (Step::Key, CheckName::KeyFormat),
            (Step::Quote, CheckName::Signature),
            (Step::EventLog, CheckName::LogReplay),
            (Step::Measurements, CheckName::PolicyPcrs),
            (Step::ClusterMark, CheckName::ClusterMark),
        ];
        for (step, name) in skipped {
            if !self.checks.iter().any(|check| check.step >= step) {
                self.checks.push(Check::new(step, name, Outcome::Skipped));
            }
        }
    }
}
