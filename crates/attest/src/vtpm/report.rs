//! Collects the checks of one appraisal; turns into a verdict at its end, by what was collected and nothing else.

use std::ops::{Deref, DerefMut};

use crate::appraise::Question;
use crate::component::Component;
use crate::policy::Generation;
use crate::verdict::{
    Check, CheckName, Difference, Findings, Outcome, Refusal, RefusalCode, Step, Verified,
};
use crate::{Digest, Measurement, PcrIndex, PcrValues, Variant};

#[derive(Clone)]
pub(super) struct Report {
    variant: Variant,
    image: Option<String>,
    findings: Findings,
}

impl Deref for Report {
    type Target = Findings;

    fn deref(&self) -> &Findings {
        &self.findings
    }
}

impl DerefMut for Report {
    fn deref_mut(&mut self) -> &mut Findings {
        &mut self.findings
    }
}

impl Report {
    pub(super) fn new(question: &Question<'_>) -> Self {
        Self {
            variant: question.evidence.variant(),
            image: question.policy.image_name().map(str::to_owned),
            findings: Findings::new(),
        }
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
        let check = Check {
            component: Some(names.join(", ")),
            expected: Some(measurement.expected.to_string().into()),
            actual: Some(actual.to_string().into()),
            differences,
            next_step: Some(next.into()),
            ..Check::new(Step::Measurements, CheckName::Pcr(index), outcome)
        };
        self.findings.push(RefusalCode::Measurements, check);
    }

    /// A machine of the older generation: accepted before that one's end, with a warning. Says so ahead of what was measured.
    pub(super) fn generation(&mut self, newest: &Generation, older: &Generation, is_alive: bool) {
        let name = |generation: &Generation| {
            generation.image_name().map_or_else(
                || "an unnamed image".to_owned(),
                |image| format!("image {image}"),
            )
        };
        let end = older
            .expires()
            .map_or_else(|| "no time".to_owned(), |end| end.to_string());
        let (outcome, next) = if is_alive {
            self.image = older.image_name().map(str::to_owned);
            (Outcome::Warning, "upgrade the machine before that time")
        } else {
            (
                Outcome::Failed,
                "the older generation has ended: boot the newer image, or give the older one more time in the policy",
            )
        };
        let check = Check {
            expected: Some(name(newest).into()),
            actual: Some(format!("{}, accepted until {end}", name(older)).into()),
            next_step: Some(next.into()),
            ..Check::new(Step::Measurements, CheckName::Generation, outcome)
        };
        self.findings
            .push_ahead(RefusalCode::Measurements, Step::Measurements, check);
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
        if let Some(check) = self.findings.last_mut() {
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
            .checks()
            .iter()
            .any(|check| check.outcome == Outcome::Failed);
        if has_failed || self.refusal_code().is_some() {
            return Err(self.refusal());
        }
        Ok(Verified {
            variant: self.variant,
            ak_id,
            image: self.image,
            measurements,
            reset_count,
            checks: self.findings.into_checks(),
        })
    }

    pub(super) fn refusal(mut self) -> Refusal {
        self.skip_the_rest();
        Refusal {
            // every path here has set a code; without one the evidence is at best unreadable
            code: self.refusal_code().unwrap_or(RefusalCode::Malformed),
            variant: self.variant,
            image: self.image,
            checks: self.findings.into_checks(),
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
            let is_reached = self.checks().iter().any(|check| match step {
                // what the hardware measured is told long before any PCR is believed
                Step::Measurements => matches!(check.name, CheckName::Pcr(_)),
                Step::Document
                | Step::Endorsements
                | Step::Report
                | Step::Platform
                | Step::Key
                | Step::Quote
                | Step::EventLog
                | Step::ClusterMark => check.step == step,
            });
            if !is_reached {
                self.skip(step, name);
            }
        }
    }
}
