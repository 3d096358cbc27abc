//! Verdicts as a tree for a terminal, a log, or a node's console.

use std::fmt::{self, Display, Formatter};

use super::{Check, CheckName, Difference, Outcome, Refusal, Step, Text, Verified};

impl Display for Verified {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "✓ accepted: {}", self.variant)?;
        if let Some(image) = &self.image {
            write!(f, ", image {image}")?;
        }
        checks(f, &self.checks)
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "✗ refused: {} ({}", self.code, self.variant)?;
        if let Some(image) = &self.image {
            write!(f, ", demanded image {image}")?;
        }
        f.write_str(")")?;
        checks(f, &self.checks)
    }
}

/// A check in a few words: the component first where one is known, since that is what a person changes.
pub(super) fn title(check: &Check) -> String {
    match (&check.component, &check.name) {
        (Some(component), CheckName::Pcr(_) | CheckName::ClusterMark) => {
            format!("{component} ({})", check.name)
        }
        (Some(_) | None, name) => name.to_string(),
    }
}

pub(super) fn checks(f: &mut Formatter<'_>, checks: &[Check]) -> fmt::Result {
    let mut steps: Vec<(Step, Vec<&Check>)> = Vec::new();
    for check in checks {
        match steps.last_mut() {
            Some((step, group)) if *step == check.step => group.push(check),
            Some(_) | None => steps.push((check.step, vec![check])),
        }
    }
    let last = steps.len().saturating_sub(1);
    for (position, (step, group)) in steps.iter().enumerate() {
        let (branch, stem) = branch(position == last);
        write!(f, "\n{branch}{} {step}", mark(worst(group)))?;
        // a step that went well is one line; its checks are in the JSON
        if worst(group) == Outcome::Passed || worst(group) == Outcome::Skipped {
            continue;
        }
        let shown: Vec<&&Check> = group
            .iter()
            .filter(|check| check.outcome != Outcome::Skipped)
            .collect();
        let last = shown.len().saturating_sub(1);
        for (position, check) in shown.iter().enumerate() {
            one(f, stem, position == last, check)?;
        }
    }
    Ok(())
}

fn one(f: &mut Formatter<'_>, indent: &str, is_last: bool, check: &Check) -> fmt::Result {
    let (branch, stem) = branch(is_last);
    write!(
        f,
        "\n{indent}{branch}{} {}",
        mark(check.outcome),
        title(check)
    )?;
    if check.outcome == Outcome::Passed {
        return Ok(());
    }
    if let Some(expected) = &check.expected {
        write!(f, "\n{indent}{stem}  expected {expected}")?;
    }
    if let Some(actual) = &check.actual {
        write!(f, "\n{indent}{stem}  found    {actual}")?;
    }
    for difference in &check.differences {
        differs(f, indent, stem, difference)?;
    }
    if let Some(next) = &check.next_step {
        write!(f, "\n{indent}{stem}  → {next}")?;
    }
    Ok(())
}

fn differs(
    f: &mut Formatter<'_>,
    indent: &str,
    stem: &str,
    difference: &Difference,
) -> fmt::Result {
    write!(f, "\n{indent}{stem}  • {}", difference.component)?;
    if let Some(note) = &difference.note {
        write!(f, ": {note}")?;
    }
    let expected = difference.expected.as_ref().map_or("nothing", Text::as_str);
    let actual = difference.actual.as_ref().map_or("nothing", Text::as_str);
    write!(
        f,
        "\n{indent}{stem}    expected {expected}\n{indent}{stem}    found    {actual}"
    )
}

fn branch(is_last: bool) -> (&'static str, &'static str) {
    if is_last {
        ("└─ ", "   ")
    } else {
        ("├─ ", "│  ")
    }
}

fn mark(outcome: Outcome) -> char {
    match outcome {
        Outcome::Passed => '✓',
        Outcome::Warning => '⚠',
        Outcome::Failed => '✗',
        Outcome::Skipped => '·',
    }
}

fn worst(group: &[&Check]) -> Outcome {
    let any = |outcome| group.iter().any(|check| check.outcome == outcome);
    if any(Outcome::Failed) {
        Outcome::Failed
    } else if any(Outcome::Warning) {
        Outcome::Warning
    } else if any(Outcome::Passed) {
        Outcome::Passed
    } else {
        Outcome::Skipped
    }
}
