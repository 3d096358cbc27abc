//! Which instances are accepted.

use std::collections::BTreeSet;
use std::fmt::Display;

use thiserror::Error;

use super::{CheckName, InstanceInfo};
use crate::verdict::{self, Findings, RefusalCode, Step, Stop};

/// Values one of which must be there. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted<T>(BTreeSet<T>);

/// A list that would accept nothing, or be read as anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the list of accepted values is empty")]
pub struct NothingAccepted;

impl<T: Ord> Accepted<T> {
    /// At least one value.
    ///
    /// # Errors
    /// When there is none.
    pub fn new(values: impl IntoIterator<Item = T>) -> Result<Self, NothingAccepted> {
        let values: BTreeSet<T> = values.into_iter().collect();
        if values.is_empty() {
            Err(NothingAccepted)
        } else {
            Ok(Self(values))
        }
    }
}

impl<T: Display> Accepted<T> {
    fn describe(&self) -> String {
        let values: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        values.join(" or ")
    }
}

/// What an instance must be. That it is of the production environment is always demanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRequirements {
    projects: Demand<String>,
    project_numbers: Demand<u64>,
    zones: Demand<String>,
    instances: Demand<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Demand<T> {
    OneOf(Accepted<T>),
    Open,
}

impl InstanceRequirements {
    /// Instances of these projects, by id. A project's id is never given to another project.
    #[must_use]
    pub fn of_projects(projects: Accepted<String>) -> Self {
        Self {
            projects: Demand::OneOf(projects),
            ..Self::of_any_tenant()
        }
    }

    /// Instances of anybody: what boots is decided by the measurements alone, and who runs it is not.
    #[must_use]
    pub const fn of_any_tenant() -> Self {
        Self {
            projects: Demand::Open,
            project_numbers: Demand::Open,
            zones: Demand::Open,
            instances: Demand::Open,
        }
    }

    /// Demands a project by number too.
    #[must_use]
    pub fn numbered(self, numbers: Accepted<u64>) -> Self {
        Self {
            project_numbers: Demand::OneOf(numbers),
            ..self
        }
    }

    /// Demands a zone.
    #[must_use]
    pub fn in_zones(self, zones: Accepted<String>) -> Self {
        Self {
            zones: Demand::OneOf(zones),
            ..self
        }
    }

    /// Demands instances by their ids.
    #[must_use]
    pub fn instances(self, ids: Accepted<u64>) -> Self {
        Self {
            instances: Demand::OneOf(ids),
            ..self
        }
    }

    /// Makes all checks before it stops.
    pub(super) fn demand(&self, info: &InstanceInfo, findings: &mut Findings) -> Result<(), Stop> {
        let production = findings.demand(
            Step::Platform,
            verdict::CheckName::Gcp(CheckName::Production),
            RefusalCode::Platform,
            info.is_production,
            "production",
            "another environment, or nothing said",
            "refuse this machine: people at Google can reach into it",
        );
        let project = self.project(info, findings);
        let zone = demand(
            findings,
            CheckName::Zone,
            holds(&self.zones, &info.zone),
            &words(&self.zones),
            &info.zone,
        );
        let instance = demand(
            findings,
            CheckName::Instance,
            holds(&self.instances, &info.instance_id),
            &words(&self.instances),
            &format!("{} ({})", info.instance_id, info.instance_name),
        );
        production?;
        project?;
        zone?;
        instance
    }

    fn project(&self, info: &InstanceInfo, findings: &mut Findings) -> Result<(), Stop> {
        let is_open = matches!(
            (&self.projects, &self.project_numbers),
            (Demand::Open, Demand::Open)
        );
        let actual = format!("{} (number {})", info.project_id, info.project_number);
        if is_open {
            findings.warn(
                Step::Platform,
                verdict::CheckName::Gcp(CheckName::Project),
                "a project of yours",
                &actual,
                "instances of any project are accepted: name yours, unless anybody may run this",
            );
            return Ok(());
        }
        demand(
            findings,
            CheckName::Project,
            holds(&self.projects, &info.project_id)
                && holds(&self.project_numbers, &info.project_number),
            &format!(
                "{} (number {})",
                words(&self.projects),
                words(&self.project_numbers)
            ),
            &actual,
        )
    }
}

fn holds<T: Ord>(demand: &Demand<T>, value: &T) -> bool {
    match demand {
        Demand::OneOf(accepted) => accepted.0.contains(value),
        Demand::Open => true,
    }
}

fn words<T: Display>(demand: &Demand<T>) -> String {
    match demand {
        Demand::OneOf(accepted) => accepted.describe(),
        Demand::Open => "any".into(),
    }
}

fn demand(
    findings: &mut Findings,
    name: CheckName,
    holds: bool,
    expected: &str,
    actual: &str,
) -> Result<(), Stop> {
    findings.demand(
        Step::Platform,
        verdict::CheckName::Gcp(name),
        RefusalCode::Platform,
        holds,
        expected,
        actual,
        "the machine is another instance than is expected here: refuse it, or accept where it runs",
    )
}
