//! Whether a platform's firmware, TDX module and quoting enclave are of accepted levels. All findings are collected.

use std::fmt::{self, Display};

use super::authenticity::Statements;
use super::body::{TdReport, TeeTcbSvn};
use super::pck::PckExtensions;
use super::qe_report::QeReport;
use super::requirements::{Advisories, Requirements};
use super::status::TcbStatus;
use super::tcb_info::PlatformAssessment;
use super::{CheckName, Stop};
use crate::verdict::Findings;

/// An accepted level.
pub(super) struct Judged {
    pub(super) status: TcbStatus,
    pub(super) advisories: Vec<String>,
}

/// What Intel says of all parts together.
struct Assessment {
    platform: PlatformAssessment,
    quoting_enclave: TcbStatus,
}

impl Display for Assessment {
    /// The status of all, and how it came about.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            platform,
            quoting_enclave,
        } = self;
        let launch = &platform.launch;
        write!(
            f,
            "{}: platform {} (level of {}), TDX module {}, quoting enclave {quoting_enclave}",
            platform.status, launch.platform, launch.tcb_date, launch.module
        )?;
        match &platform.current {
            Some(current) if current != launch => write!(
                f,
                "; by now platform {} (level of {}), TDX module {}",
                current.platform, current.tcb_date, current.module
            ),
            _ => Ok(()),
        }
    }
}

pub(super) fn judge(
    report: &TdReport,
    qe: &QeReport<'_>,
    pck: &PckExtensions,
    statements: &Statements<'_>,
    requirements: &Requirements,
    findings: &mut Findings,
) -> Result<Judged, Stop> {
    let minimum = minimum_versions(report, qe, pck, statements, requirements, findings);
    let assessment = assess(report, qe, pck, statements).ok_or_else(|| {
        CheckName::TcbLevel.refuse(
            findings,
            [
                &"a TCB level of Intel's that firmware, TDX module and quoting enclave reach",
                &format_args!(
                    "components {}, PCE SVN {}, TEE TCB SVN {}, QE SVN {}: below all of them",
                    hex::encode(pck.component_svns),
                    pck.pce_svn,
                    TeeTcbSvns(report),
                    qe.isv_svn()
                ),
            ],
            "update the machine's firmware and TDX module",
        )
    })?;
    findings.pass(
        CheckName::TcbLevel.step(),
        crate::CheckName::Tdx(CheckName::TcbLevel),
    );
    let status = status(&assessment, requirements, findings);
    let advisories = advisories(&assessment, requirements, findings);
    minimum?;
    status?;
    advisories?;
    Ok(Judged {
        status: assessment.platform.status,
        advisories: assessment.platform.advisories,
    })
}

fn assess(
    report: &TdReport,
    qe: &QeReport<'_>,
    pck: &PckExtensions,
    statements: &Statements<'_>,
) -> Option<Assessment> {
    let qe_level = statements.qe_identity.level(qe)?;
    Some(Assessment {
        platform: statements.tcb_info.assess(pck, report, qe_level)?,
        quoting_enclave: qe_level.tcb_status,
    })
}

/// All that the report names, for a person.
struct TeeTcbSvns<'a>(&'a TdReport);

impl Display for TeeTcbSvns<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let launch = self.0.tee_tcb_svn;
        match &self.0.td_1_5 {
            Some(td_1_5) => write!(f, "{launch}, now {}", td_1_5.tee_tcb_svn_2),
            None => write!(f, "{launch}"),
        }
    }
}

fn status(
    assessment: &Assessment,
    requirements: &Requirements,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let is_accepted = requirements
        .statuses
        .iter()
        .any(|accepted| accepted.status() == assessment.platform.status);
    let accepted: Vec<_> = requirements
        .statuses
        .iter()
        .map(|accepted| accepted.status().as_str())
        .collect();
    let next_step = match assessment.platform.status {
        TcbStatus::Revoked => "do not trust this machine: Intel has revoked it",
        TcbStatus::TdRelaunchAdvised | TcbStatus::TdRelaunchAdvisedConfigurationNeeded => {
            "the machine was updated: stop and start the virtual machine"
        }
        TcbStatus::Unrecognized => "look for a newer release, which knows this status",
        TcbStatus::ConfigurationNeeded | TcbStatus::ConfigurationAndSwHardeningNeeded => {
            "configure the machine's firmware as the advisories say, or accept the status in the policy"
        }
        TcbStatus::UpToDate
        | TcbStatus::SwHardeningNeeded
        | TcbStatus::OutOfDate
        | TcbStatus::OutOfDateConfigurationNeeded => {
            "update the machine's firmware and TDX module, or accept the status in the policy"
        }
    };
    CheckName::TcbStatus.demand(
        findings,
        is_accepted,
        [&accepted.join(" or "), assessment],
        next_step,
    )
}

fn advisories(
    assessment: &Assessment,
    requirements: &Requirements,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let is_refused = |id: &String| requirements.refused_advisories.contains(id);
    let is_open = |id: &String| match &requirements.advisories {
        Advisories::Any => false,
        Advisories::Tolerated(tolerated) => !tolerated.contains(id),
    };
    let ids = |is_meant: &dyn Fn(&String) -> bool| -> Vec<&str> {
        let meant = assessment
            .platform
            .advisories
            .iter()
            .filter(|id| is_meant(id));
        meant.map(String::as_str).collect()
    };
    let refused = ids(&is_refused);
    let open = ids(&|id| is_open(id) || is_refused(id));
    // beside a level that is up to date they are for information, unless the policy refuses them: nothing more can be done
    // about the machine
    let is_up_to_date = assessment.platform.status == TcbStatus::UpToDate;
    if is_up_to_date && refused.is_empty() && !open.is_empty() {
        CheckName::Advisories.warn(
            findings,
            [
                &"no advisory that the policy does not tolerate",
                &open.join(" "),
            ],
            "read the advisories",
        );
        return Ok(());
    }
    let failing = if is_up_to_date { refused } else { open };
    CheckName::Advisories.demand(
        findings,
        failing.is_empty(),
        [
            &"no advisory that the policy refuses or does not tolerate",
            &failing.join(" "),
        ],
        "read the advisories, update the machine, or tolerate them in the policy",
    )
}

fn minimum_versions(
    report: &TdReport,
    qe: &QeReport<'_>,
    pck: &PckExtensions,
    statements: &Statements<'_>,
    requirements: &Requirements,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let number = statements
        .tcb_info
        .tcb_evaluation_data_number
        .min(statements.qe_identity.tcb_evaluation_data_number);
    let results = [
        at_least(
            CheckName::EvaluationNumber,
            requirements.minimum_evaluation_number,
            number,
            "fetch newer TCB info and QE identity",
            findings,
        ),
        at_least(
            CheckName::MinimumQeSvn,
            requirements.minimum_qe_svn.into(),
            qe.isv_svn().into(),
            "update the quoting enclave of the machine",
            findings,
        ),
        at_least(
            CheckName::MinimumPceSvn,
            requirements.minimum_pce_svn.into(),
            pck.pce_svn.into(),
            "update the provisioning certification enclave of the machine",
            findings,
        ),
        CheckName::MinimumTeeTcbSvn.demand(
            findings,
            is_at_least(report.tee_tcb_svn, requirements.minimum_tee_tcb_svn)
                && report.td_1_5.as_ref().is_none_or(|it| {
                    is_at_least(it.tee_tcb_svn_2, requirements.minimum_tee_tcb_svn)
                }),
            [
                &format_args!(
                    "no byte below {} (the first: of a module of the same version)",
                    requirements.minimum_tee_tcb_svn
                ),
                &TeeTcbSvns(report),
            ],
            "update the machine's TDX module",
        ),
    ];
    results.into_iter().collect()
}

fn at_least(
    name: CheckName,
    minimum: u32,
    actual: u32,
    next_step: &str,
    findings: &mut Findings,
) -> Result<(), Stop> {
    name.demand(
        findings,
        actual >= minimum,
        [&format_args!("at least {minimum}"), &actual],
        next_step,
    )
}

/// Each major version of the TDX module counts its SVNs anew.
fn is_at_least(actual: TeeTcbSvn, minimum: TeeTcbSvn) -> bool {
    let judged_elsewhere = usize::from(actual.module_version() > minimum.module_version());
    actual
        .0
        .iter()
        .zip(&minimum.0)
        .skip(judged_elsewhere)
        .all(|(actual, minimum)| actual >= minimum)
}
