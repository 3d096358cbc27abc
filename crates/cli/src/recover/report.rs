//! What became of each machine and behind each address, and what that means for the cluster.

use std::fmt;

use cluster::DiskUuid;
use serde::Serialize;

use crate::failure::Failure;

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Report {
    pub endpoints: Vec<Endpoint>,
    pub machines: Vec<Machine>,
    /// The control planes that there are, if anybody knows.
    pub expected: Option<usize>,
}

/// An address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Endpoint {
    pub address: String,
    #[serde(flatten)]
    pub ended: Ended,
    /// Machines behind it that are not what they must be, each as a tree of checks.
    pub refusals: Vec<String>,
}

/// What there was behind an address in the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "camelCase")]
pub(crate) enum Ended {
    /// Nobody who waits for a key.
    NothingWaits,
    /// A node of the cluster, by its evidence.
    Runs,
    /// Nothing that answers.
    Unreachable { reason: String },
}

/// A machine that waited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Machine {
    pub disk: DiskUuid,
    /// What the infrastructure calls it; nothing proves it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub address: String,
    /// By which the machine would be known again.
    pub attestation_key: String,
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Where another machine waits for the key of the same disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twin: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "camelCase")]
pub(crate) enum Outcome {
    /// Its key is on the way. Never in a report of a run that ended.
    Underway,
    /// It opened its disk, and bears the cluster's mark.
    Recovered,
    /// Somebody else gave it its key in the meantime.
    Meanwhile,
    /// It was given its key, and its answer did not arrive.
    Unconfirmed { reason: String },
    /// The key is not that of its disk.
    WrongKey { reason: String },
    /// It could not use its key.
    Failed { reason: String },
}

impl Machine {
    /// What people call it.
    pub(crate) fn title(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.address)
    }

    fn is_up(&self) -> bool {
        matches!(self.outcome, Outcome::Recovered | Outcome::Meanwhile)
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} (disk {}, {}): {}",
            self.title(),
            self.disk,
            self.address,
            self.outcome
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Underway => f.write_str("underway"),
            Self::Recovered => f.write_str("recovered"),
            Self::Meanwhile => f.write_str("recovered by somebody else in the meantime"),
            Self::Unconfirmed { reason } => write!(f, "key sent, not confirmed: {reason}"),
            Self::WrongKey { reason } | Self::Failed { reason } => write!(f, "REFUSED: {reason}"),
        }
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NothingWaits => {
                f.write_str("nothing waits there: it runs already, still boots, or is off")
            }
            Self::Runs => f.write_str("runs already"),
            Self::Unreachable { reason } => write!(f, "not reached: {reason}"),
        }
    }
}

impl Report {
    /// One line for each machine, and for each address that led to none.
    pub(crate) fn lines(&self) -> Vec<[String; 4]> {
        let dash = || "-".to_owned();
        let machines = self.machines.iter().map(|machine| {
            [
                machine.name.clone().unwrap_or_else(dash),
                machine.disk.to_string(),
                machine.address.clone(),
                machine.outcome.to_string(),
            ]
        });
        let twins = self.machines.iter().filter_map(|machine| {
            let address = machine.twin.clone()?;
            let said = "REFUSED: another machine got the key of this disk".to_owned();
            Some([dash(), machine.disk.to_string(), address, said])
        });
        let endpoints = self.endpoints.iter().flat_map(|endpoint| {
            let address = &endpoint.address;
            let line = |said| [dash(), dash(), address.clone(), said];
            let refused = endpoint
                .refusals
                .iter()
                .map(move |_| line("NOT TRUSTED, and was sent nothing".to_owned()));
            // a load balancer's, behind which everybody was found by another address
            let is_known = endpoint.ended == Ended::NothingWaits && self.is_complete();
            let led_to_none =
                endpoint.refusals.is_empty() && !self.is_of_a_machine(address) && !is_known;
            refused.chain(led_to_none.then(|| line(endpoint.ended.to_string())))
        });
        machines.chain(twins).chain(endpoints).collect()
    }

    pub(crate) fn is_of_a_machine(&self, address: &str) -> bool {
        self.machines
            .iter()
            .any(|machine| machine.address == address)
    }

    /// Control planes that have their disk, as far as this run saw.
    fn up(&self) -> usize {
        let machines = self
            .machines
            .iter()
            .filter(|machine| machine.is_up())
            .count();
        let running = self
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.ended == Ended::Runs)
            .count();
        machines + running
    }

    fn is_complete(&self) -> bool {
        self.expected.is_some_and(|expected| self.up() >= expected)
    }

    /// What it means for etcd, where it is known how many control planes there are and not all of them are up.
    pub(crate) fn majority(&self) -> Option<String> {
        let (expected, up) = (self.expected?, self.up());
        let needed = expected / 2 + 1;
        if up == 0 || up >= expected {
            return None;
        }
        Some(if up >= needed {
            format!(
                "{up} of {expected} control planes have their disk: etcd has its majority ({needed}), so the API will answer; \
                 the others get their key from a join service when they start, or from this command"
            )
        } else {
            format!(
                "{up} of {expected} control planes have their disk: etcd needs {needed} of them before the API answers; \
                 nothing is lost, it waits for the others"
            )
        })
    }

    /// Who was refused, or refused its key, if anybody.
    pub(crate) fn refused(&self) -> Option<Failure> {
        let trees: Vec<&str> = self
            .endpoints
            .iter()
            .flat_map(|endpoint| endpoint.refusals.iter().map(String::as_str))
            .collect();
        if !trees.is_empty() {
            return Some(Failure::trust(format!("{} machine(s) did not prove that they may be given a key", trees.len()))
                .detail(trees.join("\n"))
                .hint("such a machine was sent nothing; if the image was changed on purpose: `constellation config fetch-measurements`"));
        }
        if let Some(machine) = self.machines.iter().find(|machine| machine.twin.is_some()) {
            return Some(Failure::trust(format!("two machines wait for the key of the disk {}", machine.disk))
                .hint("a copy of the disk runs on a second machine, which was given nothing: find out which is the right one, and stop the other"));
        }
        let refused = |machine: &&Machine| {
            !machine.is_up() && !matches!(machine.outcome, Outcome::Unconfirmed { .. })
        };
        if let Some(machine) = self.machines.iter().find(refused) {
            return Some(Failure::cluster(format!("{machine}"))
                .hint("a key that does not open a disk is that of another cluster, or the disk is not this cluster's; `constellation mini logs` shows a console"));
        }
        None
    }

    /// Success if nobody was refused, and a majority is up or nobody waits.
    pub(crate) fn verdict(&self) -> Result<(), Failure> {
        if let Some(failure) = self.refused() {
            return Err(failure);
        }
        let unconfirmed = self.machines.iter().find(|machine| !machine.is_up());
        if let Some(machine) = unconfirmed {
            return Err(Failure::cluster(format!("{machine}"))
                .hint("run the command again: whoever has its disk is left alone"));
        }
        let unreachable = self
            .endpoints
            .iter()
            .find_map(|endpoint| match &endpoint.ended {
                Ended::Unreachable { reason } => Some((endpoint, reason)),
                Ended::NothingWaits | Ended::Runs => None,
            });
        match unreachable {
            Some((endpoint, reason)) if self.up() == 0 => Err(Failure::infrastructure(format!(
                "{} is not reached: {reason}",
                endpoint.address
            ))
            .hint("is the machine on, and does its port 9999 lead anywhere? --endpoint names another address")),
            _ => match self.expected {
                Some(expected) if self.up() > 0 && self.up() < expected / 2 + 1 => {
                    Err(Failure::cluster("too few control planes for etcd")
                        .hint("start the others and run the command again; --wait gives them longer"))
                }
                _ => Ok(()),
            },
        }
    }
}
