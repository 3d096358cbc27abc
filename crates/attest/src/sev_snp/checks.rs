//! Makes checks of this module. Words are put together only for a check that did not pass: most appraisals print none.

use std::error::Error;
use std::fmt::Display;

use super::check::CheckName;
use crate::verdict::{self, Check, Findings, Outcome, RefusalCode, Step, Stop};

/// The checks of one step, all of which are made before it is known whether the appraisal goes on.
pub(super) struct Checks<'a> {
    findings: &'a mut Findings,
    step: Step,
    stop: Option<Stop>,
}

impl<'a> Checks<'a> {
    pub(super) const fn new(findings: &'a mut Findings, step: Step) -> Self {
        Self {
            findings,
            step,
            stop: None,
        }
    }

    /// Goes on only if all checks so far passed or warned.
    pub(super) fn all_hold(self) -> Result<(), Stop> {
        self.stop.map_or(Ok(()), Err)
    }

    pub(super) fn pass(&mut self, name: CheckName) {
        self.findings.pass(self.step, verdict::CheckName::Snp(name));
    }

    pub(super) fn demand(
        &mut self,
        name: CheckName,
        code: RefusalCode,
        holds: bool,
        words: [&dyn Display; 2],
        next_step: &str,
    ) {
        if holds {
            self.pass(name);
        } else {
            self.fail(name, code, words, next_step);
        }
    }

    pub(super) fn warn(&mut self, name: CheckName, words: [&dyn Display; 2], next_step: &str) {
        let check = self.check(name, Outcome::Warning, words, next_step);
        self.findings.push(RefusalCode::Platform, check);
    }

    pub(super) fn fail(
        &mut self,
        name: CheckName,
        code: RefusalCode,
        words: [&dyn Display; 2],
        next_step: &str,
    ) {
        let check = self.check(name, Outcome::Failed, words, next_step);
        let stop = self.findings.fail(code, check);
        self.stop.get_or_insert(stop);
    }

    fn check(
        &self,
        name: CheckName,
        outcome: Outcome,
        words: [&dyn Display; 2],
        next_step: &str,
    ) -> Check {
        check(self.step, name, outcome, words, next_step)
    }
}

fn check(
    step: Step,
    name: CheckName,
    outcome: Outcome,
    [expected, actual]: [&dyn Display; 2],
    next_step: &str,
) -> Check {
    Check {
        expected: Some(expected.to_string().into()),
        actual: Some(actual.to_string().into()),
        next_step: Some(next_step.into()),
        ..Check::new(step, verdict::CheckName::Snp(name), outcome)
    }
}

/// Something that is not what AMD vouches for: nothing after it could be believed.
pub(super) fn not_authentic(
    findings: &mut Findings,
    step: Step,
    name: CheckName,
    words: [&dyn Display; 2],
    next_step: &str,
) -> Stop {
    let check = check(step, name, Outcome::Failed, words, next_step);
    findings.fail(RefusalCode::NotAuthentic, check)
}

/// A structure that could be read, or the reason why not.
pub(super) fn parse<T, E: Error>(
    findings: &mut Findings,
    step: Step,
    name: CheckName,
    result: Result<T, E>,
) -> Result<T, Stop> {
    findings.parse(step, verdict::CheckName::Snp(name), result)
}

/// An error with what caused it, on one line.
pub(super) fn chain_of(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
