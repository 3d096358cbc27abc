//! Whether a trust domain was made as a policy demands, and measured what it accepts. All findings are collected.

use std::fmt::{self, Display};

use super::attributes::TdAttributes;
use super::body::{Register, TdReport};
use super::requirements::{Accepted, Requirements, SeptVe, Td15Rule};
use super::{CheckName, Stop};
use crate::verdict::Findings;

/// x87 and SSE state: a processor without them runs nothing of ours, so a report without these bits was not made by a TDX module.
const XFAM_ALWAYS: u64 = 0b11;
/// Processor state that this release knows: x87 to AVX-512, PT, PKRU, CET, UINTR, LBR, AMX, APX (Intel SDM volume 1, 13.1).
const XFAM_KNOWN: u64 = 0x000e_dbe7;

pub(super) fn judge(
    report: &TdReport,
    requirements: &Requirements,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let mut results = vec![
        debug(report, findings),
        sept_ve(report, requirements, findings),
        attributes(report, requirements, findings),
        xfam(report, requirements, findings),
    ];
    results.push(service_td(report, requirements, findings));
    let module = "the machine runs another TDX module than the policy accepts";
    let given = "the host started the virtual machine with another value than the policy accepts";
    let identities = [
        (
            CheckName::MrSeam,
            &requirements.mr_seam,
            &report.mr_seam,
            module,
        ),
        (
            CheckName::MrSignerSeam,
            &requirements.mr_signer_seam,
            &report.mr_signer_seam,
            module,
        ),
        (
            CheckName::MrConfigId,
            &requirements.mr_config_id,
            &report.mr_config_id,
            given,
        ),
        (
            CheckName::MrOwner,
            &requirements.mr_owner,
            &report.mr_owner,
            given,
        ),
        (
            CheckName::MrOwnerConfig,
            &requirements.mr_owner_config,
            &report.mr_owner_config,
            given,
        ),
    ];
    for (name, accepted, actual, next_step) in identities {
        results.push(identity(name, accepted, actual, next_step, findings));
    }
    results.push(measurement(
        CheckName::Mrtd,
        &requirements.launch.mrtd,
        &report.mrtd,
        findings,
    ));
    for (index, (accepted, actual)) in
        (0..).zip(requirements.launch.rtmrs.iter().zip(&report.rtmrs))
    {
        results.push(measurement(
            CheckName::Rtmr(index),
            accepted,
            actual,
            findings,
        ));
    }
    results.into_iter().collect()
}

/// Nothing that a policy says makes this one acceptable: its host reads and changes it as it likes.
fn debug(report: &TdReport, findings: &mut Findings) -> Result<(), Stop> {
    let is_set = report.attributes.contains(TdAttributes::DEBUG);
    CheckName::Debug.demand(
        findings,
        !is_set,
        [
            &"DEBUG clear",
            &"DEBUG set: the host reads and changes the virtual machine",
        ],
        "start the virtual machine without debugging",
    )
}

fn sept_ve(
    report: &TdReport,
    requirements: &Requirements,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let words: [&dyn Display; 2] = [
        &"SEPT_VE_DISABLE set",
        &"SEPT_VE_DISABLE clear: the host provokes exceptions by taking pages away",
    ];
    let next_step = "start the virtual machine with SEPT_VE_DISABLE, or accept in the policy that what runs first in it guards itself";
    let is_set = report.attributes.contains(TdAttributes::SEPT_VE_DISABLE);
    if !is_set && requirements.sept_ve == SeptVe::GuestGuardsItself {
        CheckName::SeptVeDisable.warn(findings, words, next_step);
        return Ok(());
    }
    CheckName::SeptVeDisable.demand(findings, is_set, words, next_step)
}

/// What a TD 1.0 body leaves out is zero only under a module of TDX 1.0, which knows no service domains. Under a later one it is the
/// host that chose this form of quote.
fn service_td(
    report: &TdReport,
    requirements: &Requirements,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let version = report.tee_tcb_svn.module_version();
    let actual = match &report.td_1_5 {
        Some(td_1_5) => td_1_5.mr_service_td,
        None if version == 0 => Register::ZERO,
        None => return hidden_service_td(version, requirements, findings),
    };
    identity(
        CheckName::ServiceTd,
        &requirements.mr_service_td,
        &actual,
        "a service domain may be bound that takes the virtual machine elsewhere: start it without one, or accept it in the policy",
        findings,
    )
}

fn hidden_service_td(
    version: u8,
    requirements: &Requirements,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let expected = "a TD 1.5 body, which names service domains and the module that runs now";
    let actual = format!("a TD 1.0 body of a TDX module of version {version}");
    let words: [&dyn Display; 2] = [&expected, &actual];
    let next_step = "ask for a quote of version 5";
    let is_one_demanded = matches!(
        &requirements.mr_service_td,
        Accepted::AnyOf(values) if !values.contains(&Register::ZERO)
    );
    match requirements.td_1_5 {
        Td15Rule::MayBeHidden if !is_one_demanded => {
            CheckName::ServiceTd.warn(findings, words, next_step);
            Ok(())
        }
        Td15Rule::MayBeHidden | Td15Rule::Demanded => {
            Err(CheckName::ServiceTd.refuse(findings, words, next_step))
        }
    }
}

/// Attributes beside those that have checks of their own. A bit without a meaning refuses even if the policy names it.
fn attributes(
    report: &TdReport,
    requirements: &Requirements,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let judged_elsewhere = TdAttributes::DEBUG | TdAttributes::SEPT_VE_DISABLE;
    let left = report.attributes.without(judged_elsewhere);
    let unwanted = left.without(requirements.attributes) | left.reserved();
    CheckName::Attributes.demand(
        findings,
        unwanted == TdAttributes::NONE,
        [
            &format_args!("nothing beside {}", requirements.attributes),
            &format_args!("{unwanted} set too"),
        ],
        "start the virtual machine without these attributes, or accept them in the policy",
    )
}

fn xfam(
    report: &TdReport,
    requirements: &Requirements,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let next_step = "start the virtual machine with a processor state that the policy accepts";
    let actual = Hex(report.xfam);
    match &requirements.xfam {
        Accepted::AnyOf(accepted) => CheckName::Xfam.demand(
            findings,
            accepted.contains(&report.xfam),
            [&List(accepted.iter().map(|xfam| Hex(*xfam))), &actual],
            next_step,
        ),
        Accepted::Warn(_) | Accepted::Open if report.xfam & XFAM_ALWAYS != XFAM_ALWAYS => {
            Err(CheckName::Xfam.refuse(findings, [&"x87 and SSE state", &actual], next_step))
        }
        Accepted::Warn(accepted) => {
            compare(
                CheckName::Xfam,
                accepted.contains(&report.xfam),
                [&List(accepted.iter().map(|xfam| Hex(*xfam))), &actual],
                next_step,
                findings,
            );
            Ok(())
        }
        Accepted::Open if report.xfam & !XFAM_KNOWN != 0 => {
            CheckName::Xfam.warn(
                findings,
                [&"state that this release knows", &actual],
                "nothing, if the processor is newer than this release",
            );
            Ok(())
        }
        Accepted::Open => {
            CheckName::Xfam.pass(findings);
            Ok(())
        }
    }
}

/// A value that somebody else than the trust domain's content gave. If it is open and not zero, the verdict says so.
fn identity(
    name: CheckName,
    accepted: &Accepted<Register>,
    actual: &Register,
    next_step: &str,
    findings: &mut Findings,
) -> Result<(), Stop> {
    // Intel's statement has judged the module
    if matches!(accepted, Accepted::Open)
        && (*actual == Register::ZERO || name == CheckName::MrSeam)
    {
        name.pass(findings);
        return Ok(());
    }
    let if_open = "name the value in the policy if something depends on it";
    register(name, accepted, actual, [next_step, if_open], findings)
}

/// What the trust domain is. If it is open, the verdict says so.
fn measurement(
    name: CheckName,
    accepted: &Accepted<Register>,
    actual: &Register,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let next_step = "compare the firmware or image that was started with the one the policy is of";
    let if_open = "name the value in the policy: until then any content is accepted here";
    register(name, accepted, actual, [next_step, if_open], findings)
}

fn register(
    name: CheckName,
    accepted: &Accepted<Register>,
    actual: &Register,
    [next_step, if_open]: [&str; 2],
    findings: &mut Findings,
) -> Result<(), Stop> {
    match accepted {
        Accepted::AnyOf(values) => name.demand(
            findings,
            values.contains(actual),
            [&List(values.iter()), actual],
            next_step,
        ),
        Accepted::Warn(values) => {
            compare(
                name,
                values.contains(actual),
                [&List(values.iter()), actual],
                next_step,
                findings,
            );
            Ok(())
        }
        Accepted::Open => {
            name.warn(findings, [&"left open by the policy", actual], if_open);
            Ok(())
        }
    }
}

/// A check that only warns.
fn compare(
    name: CheckName,
    holds: bool,
    words: [&dyn Display; 2],
    next_step: &str,
    findings: &mut Findings,
) {
    if holds {
        name.pass(findings);
    } else {
        name.warn(findings, words, next_step);
    }
}

struct Hex(u64);

impl Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// Accepted values, for a person.
struct List<I>(I);

impl<I: Iterator<Item: Display> + Clone> Display for List<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut values = self.0.clone();
        let Some(first) = values.next() else {
            return f.write_str("nothing: the policy accepts no value");
        };
        write!(f, "{first}")?;
        values.try_for_each(|value| write!(f, " or {value}"))
    }
}
