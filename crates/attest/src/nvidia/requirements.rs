//! What a GPU must have measured and run.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use super::{CheckName, Report};
use crate::verdict::{Check, CheckName as Name, Findings, Outcome, RefusalCode, Step, Stop};

/// A SHA-384 digest.
pub type Sha384 = [u8; 48];

/// Which measurements and versions are accepted. NVIDIA publishes the values for each driver and each VBIOS as reference integrity manifests.
///
/// A measurement that is not named is not looked at: registers that hold what differs from device to device have no reference value.
#[derive(Clone, Debug)]
pub struct Requirements {
    measurements: BTreeMap<u8, BTreeSet<Sha384>>,
    drivers: BTreeSet<String>,
    vbioses: BTreeSet<String>,
}

/// Requirements that would accept any device.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RequirementsError {
    /// No measurement at all.
    #[error("no measurement is named, so any firmware would pass")]
    NoMeasurements,
    /// A measurement without a value.
    #[error("measurement {index} has no accepted value, so no firmware would pass")]
    NoValue {
        /// The measurement.
        index: u8,
    },
    /// No version of the driver.
    #[error("no version of the driver is accepted")]
    NoDriver,
    /// No version of the VBIOS.
    #[error("no version of the VBIOS is accepted")]
    NoVbios,
}

impl Requirements {
    /// Accepted values by index, and accepted versions of driver and VBIOS.
    ///
    /// # Errors
    ///
    /// If one of the three is empty, or a measurement has no value.
    pub fn new(
        measurements: BTreeMap<u8, BTreeSet<Sha384>>,
        drivers: BTreeSet<String>,
        vbioses: BTreeSet<String>,
    ) -> Result<Self, RequirementsError> {
        if measurements.is_empty() {
            return Err(RequirementsError::NoMeasurements);
        }
        if let Some((index, _)) = measurements.iter().find(|(_, values)| values.is_empty()) {
            return Err(RequirementsError::NoValue { index: *index });
        }
        if drivers.is_empty() {
            return Err(RequirementsError::NoDriver);
        }
        if vbioses.is_empty() {
            return Err(RequirementsError::NoVbios);
        }
        Ok(Self {
            measurements,
            drivers,
            vbioses,
        })
    }

    /// Every difference becomes a check; all of them are looked at before the answer.
    pub(super) fn check(&self, report: &Report, findings: &mut Findings) -> Result<(), Stop> {
        let mut outcome = Ok(());
        let mut collect = |result: Result<(), Stop>| {
            if outcome.is_ok() {
                outcome = result;
            }
        };
        let (driver, vbios) = (report.driver(), report.vbios());
        for (name, what, accepted, actual) in [
            (CheckName::Driver, "driver", &self.drivers, driver),
            (CheckName::Vbios, "VBIOS", &self.vbioses, vbios.as_deref()),
        ] {
            collect(findings.demand(
                Step::Platform,
                Name::Nvidia(name),
                RefusalCode::Platform,
                actual.is_some_and(|version| accepted.contains(version)),
                &list(accepted.iter().cloned()),
                actual.unwrap_or("not in the report"),
                &format!("install an accepted {what}, or accept this one"),
            ));
        }
        for (index, accepted) in &self.measurements {
            let actual = report.measurement(*index);
            let holds = accepted
                .iter()
                .any(|value| actual == Some(value.as_slice()));
            let name = Name::Nvidia(CheckName::Measurement(*index));
            if holds {
                findings.pass(Step::Measurements, name);
                continue;
            }
            collect(Err(findings.fail(
                RefusalCode::Measurements,
                Check {
                    expected: Some(list(accepted.iter().map(hex::encode)).into()),
                    actual: Some(
                        actual
                            .map_or_else(|| "not in the report".into(), hex::encode)
                            .into(),
                    ),
                    next_step: Some(
                        "compare driver and VBIOS with the reference values they were taken from"
                            .into(),
                    ),
                    ..Check::new(Step::Measurements, name, Outcome::Failed)
                },
            )));
        }
        outcome
    }
}

fn list(values: impl Iterator<Item = String>) -> String {
    values.collect::<Vec<_>>().join(" or ")
}
