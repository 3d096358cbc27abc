//! Collects the checks of one appraisal. What was collected decides, and nothing else.
//!
//! Who looks at evidence beyond what a module of this crate appraises adds checks of its own: a failure refuses, and nothing
//! takes it back.

use std::error::Error;
use std::fmt;

use super::{Check, CheckName, Outcome, RefusalCode, Step, tree};

/// An earlier check failed and nothing after it could be believed. Only a failed check makes one.
#[derive(Debug)]
pub struct Stop(());

/// The checks of an appraisal, in the order in which they were made.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    checks: Vec<Check>,
    /// Of the first failure: the later ones are often its consequences.
    code: Option<RefusalCode>,
}

impl Findings {
    /// Nothing looked at yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every check, in order.
    #[must_use]
    pub fn checks(&self) -> &[Check] {
        &self.checks
    }

    /// What a peer would learn, if a check failed.
    #[must_use]
    pub const fn refusal_code(&self) -> Option<RefusalCode> {
        self.code
    }

    pub(crate) fn into_checks(self) -> Vec<Check> {
        self.checks
    }

    pub(crate) fn last_mut(&mut self) -> Option<&mut Check> {
        self.checks.last_mut()
    }

    pub(crate) fn skip(&mut self, step: Step, name: CheckName) {
        self.checks.push(Check::new(step, name, Outcome::Skipped));
    }

    /// A check that holds.
    pub fn pass(&mut self, step: Step, name: CheckName) {
        self.checks.push(Check::new(step, name, Outcome::Passed));
    }

    /// A failed check with all its words.
    pub(crate) fn fail(&mut self, code: RefusalCode, check: Check) -> Stop {
        debug_assert_eq!(check.outcome, Outcome::Failed);
        self.checks.push(check);
        self.code.get_or_insert(code);
        Stop(())
    }

    /// A check that failed or not, by its own outcome.
    pub(crate) fn push(&mut self, code: RefusalCode, check: Check) {
        if check.outcome == Outcome::Failed {
            self.code.get_or_insert(code);
        }
        self.checks.push(check);
    }

    /// The same, before the first check of `step`.
    pub(crate) fn push_ahead(&mut self, code: RefusalCode, step: Step, check: Check) {
        if check.outcome == Outcome::Failed {
            self.code.get_or_insert(code);
        }
        let place = self.checks.iter().position(|other| other.step == step);
        self.checks
            .insert(place.unwrap_or(self.checks.len()), check);
    }

    /// Adds the checks of another appraisal of the same evidence behind these. Its refusal is a refusal here.
    pub fn append(&mut self, other: Self) {
        self.checks.extend(other.checks);
        self.code = self.code.or(other.code);
    }

    /// A structure that could be read, or the reason why not.
    ///
    /// # Errors
    /// When it could not.
    pub fn parse<T, E: Error>(
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
    pub(crate) fn parse_again<T, E: Error>(
        &mut self,
        step: Step,
        name: CheckName,
        result: Result<T, E>,
    ) -> Result<T, Stop> {
        result.map_err(|error| {
            let code = match step {
                Step::EventLog => RefusalCode::Measurements,
                Step::Document
                | Step::Endorsements
                | Step::Report
                | Step::Platform
                | Step::Key
                | Step::Quote
                | Step::Measurements
                | Step::ClusterMark => RefusalCode::Malformed,
            };
            // a structure is well-formed or not: one line for both halves
            self.checks.retain(|check| check.name != name);
            self.fail(
                code,
                Check {
                    actual: Some(with_sources(&error).into()),
                    next_step: Some(
                        "the peer's software is broken, of another version, or not ours".into(),
                    ),
                    ..Check::new(step, name, Outcome::Failed)
                },
            )
        })
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one line of the verdict; a builder would hide which part is which"
    )]
    /// A check that must hold, with what to say if it does not: what must be, what is, and what to do about it.
    ///
    /// # Errors
    /// When it does not hold.
    pub fn demand(
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
        Err(self.fail(
            code,
            Check {
                expected: Some(expected.into()),
                actual: Some(actual.into()),
                next_step: Some(next_step.into()),
                ..Check::new(step, name, Outcome::Failed)
            },
        ))
    }

    /// A check that passed because nothing was demanded of it: its line becomes a warning that says so. Without such a line
    /// it is one of its own.
    pub fn qualify(
        &mut self,
        step: Step,
        name: CheckName,
        expected: &str,
        actual: &str,
        next_step: &str,
    ) {
        self.checks
            .retain(|check| check.name != name || check.outcome != Outcome::Passed);
        self.warn(step, name, expected, actual, next_step);
    }

    /// A check that need not hold, but whoever reads the verdict must know of.
    pub fn warn(
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
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            None => f.write_str("✓ accepted")?,
            Some(code) => write!(f, "✗ refused: {code}")?,
        }
        tree::checks(f, &self.checks)
    }
}

/// An error with what caused it: a person reads one line.
pub(crate) fn with_sources(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Step = Step::Quote;
    const NAME: CheckName = CheckName::Binding;

    fn outcomes(findings: &Findings) -> Vec<Outcome> {
        let checks = findings.checks().iter();
        checks.map(|check| check.outcome).collect()
    }

    #[test]
    fn a_check_that_passed_for_nothing_becomes_a_warning() {
        let mut findings = Findings::new();
        findings.pass(STEP, NAME);
        findings.pass(STEP, CheckName::Magic);
        findings.qualify(STEP, NAME, "a nonce", "nothing", "ask");
        assert_eq!(outcomes(&findings), [Outcome::Passed, Outcome::Warning]);
        assert_eq!(findings.refusal_code(), None);
    }

    #[test]
    fn a_refusal_stays_one_whatever_is_said_of_it() {
        let mut findings = Findings::new();
        let refused = findings.demand(
            STEP,
            NAME,
            RefusalCode::WrongBinding,
            false,
            "this",
            "that",
            "refuse",
        );
        assert!(refused.is_err());
        findings.qualify(STEP, NAME, "a nonce", "nothing", "ask");
        findings.warn(STEP, NAME, "a nonce", "nothing", "ask");
        findings.pass(STEP, NAME);
        assert_eq!(findings.refusal_code(), Some(RefusalCode::WrongBinding));
        assert_eq!(outcomes(&findings)[0], Outcome::Failed);
    }

    #[test]
    fn a_structure_that_failed_later_has_one_line() {
        let mut findings = Findings::new();
        findings.pass(STEP, CheckName::Magic);
        findings.pass(STEP, NAME);
        let failed = findings.parse_again(STEP, NAME, Err::<(), _>(fmt::Error));
        assert!(failed.is_err());
        let names: Vec<_> = findings.checks().iter().map(|check| check.name).collect();
        assert_eq!(names, [CheckName::Magic, NAME]);
        assert_eq!(outcomes(&findings), [Outcome::Passed, Outcome::Failed]);
    }

    #[test]
    fn a_check_that_comes_ahead_stands_before_its_step_and_refuses_if_it_failed() {
        let check = |outcome| Check::new(STEP, CheckName::KeyAttributes, outcome);
        for (outcome, code) in [
            (Outcome::Failed, Some(RefusalCode::Measurements)),
            (Outcome::Warning, None),
        ] {
            let mut findings = Findings::new();
            findings.pass(Step::Document, CheckName::Magic);
            findings.pass(STEP, NAME);
            findings.pass(STEP, NAME);
            findings.push_ahead(RefusalCode::Measurements, STEP, check(outcome));
            assert_eq!(findings.refusal_code(), code);
            let names: Vec<_> = findings.checks().iter().map(|check| check.name).collect();
            assert_eq!(
                names,
                [CheckName::Magic, CheckName::KeyAttributes, NAME, NAME]
            );
        }
    }

    #[test]
    fn what_is_said_of_one_check_leaves_the_others() {
        let mut findings = Findings::new();
        findings.pass(STEP, CheckName::Magic);
        findings.warn(STEP, NAME, "this", "that", "look");
        findings.pass(STEP, NAME);
        findings.qualify(STEP, NAME, "a nonce", "nothing", "ask");
        assert_eq!(
            outcomes(&findings),
            [Outcome::Passed, Outcome::Warning, Outcome::Warning]
        );
    }

    #[test]
    fn an_error_is_told_with_what_caused_it() {
        #[derive(Debug, thiserror::Error)]
        #[error("outside")]
        struct Outside(#[source] Middle);
        #[derive(Debug, thiserror::Error)]
        #[error("middle")]
        struct Middle(#[source] fmt::Error);
        let cause = fmt::Error.to_string();
        assert_eq!(
            with_sources(&Outside(Middle(fmt::Error))),
            format!("outside: middle: {cause}")
        );
    }
}
