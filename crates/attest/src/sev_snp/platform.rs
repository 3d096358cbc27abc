//! Is the machine, its firmware and how it guards the guest what the verifier demands? Every check is made, so that a person sees all that
//! is wrong at once.

use super::bits::{GuestPolicy, PlatformInfo};
use super::chain::EndorsedKey;
use super::check::CheckName;
use super::checks::Checks;
use super::report::ReportFields;
use super::requirements::{
    AcceptedKeys, AcceptedLine, Chips, HostData, IdKeyDigests, LaunchMeasurements, Providers,
    Requirements,
};
use super::tcb::RawTcb;
use super::vek::{VekKind, VekOwner};
use crate::verdict::{Findings, Hex, RefusalCode, Step, Stop};

const PLATFORM: RefusalCode = RefusalCode::Platform;
const RELAUNCH: &str = "launch the guest with a policy that demands this";
const UPDATE: &str = "update the firmware of the host, or choose another host";

pub(super) fn verify(
    fields: &ReportFields,
    key: &EndorsedKey,
    requirements: &Requirements,
    findings: &mut Findings,
) -> Result<(), Stop> {
    let mut checks = Checks::new(findings, Step::Platform);
    origin(fields, key, requirements, &mut checks);
    guest(fields, requirements, &mut checks);
    settings(fields, requirements, &mut checks);
    match requirements.lines.get(key.line) {
        Some(line) => {
            checks.pass(CheckName::AcceptedLine);
            levels(fields, line, &mut checks);
        }
        None => checks.fail(
            CheckName::AcceptedLine,
            PLATFORM,
            [&requirements.lines, &key.line],
            "the policy does not name this product line, or excludes it: choose another host",
        ),
    }
    firmware(fields, key, requirements, &mut checks);
    launch(fields, requirements, &mut checks);
    let platform = checks.all_hold();

    let mut checks = Checks::new(findings, Step::Measurements);
    measurement(fields, requirements, &mut checks);
    platform.and(checks.all_hold())
}

/// Whose key and which chip.
fn origin(
    fields: &ReportFields,
    key: &EndorsedKey,
    requirements: &Requirements,
    checks: &mut Checks<'_>,
) {
    let accepted = match requirements.keys {
        AcceptedKeys::Either => true,
        AcceptedKeys::Vcek => key.kind == VekKind::Vcek,
        AcceptedKeys::Vlek => key.kind == VekKind::Vlek,
    };
    checks.demand(
        CheckName::AcceptedKey,
        PLATFORM,
        accepted,
        [&requirements.keys, &key.kind],
        "the policy accepts reports of another kind of key",
    );
    if let VekOwner::Provider(provider) = &key.extensions.owner {
        vlek_provider(provider, &requirements.vlek_providers, checks);
    }
    match &requirements.chips {
        Chips::Any => {}
        Chips::Listed(listed) => {
            let chip_id = match &key.extensions.owner {
                VekOwner::Chip(hardware_id) => hardware_id.chip_id(),
                VekOwner::Provider(_) => fields.chip_id,
            };
            checks.demand(
                CheckName::AcceptedChip,
                PLATFORM,
                listed.contains(&chip_id),
                [listed, &Hex(&chip_id)],
                "the guest runs on a chip that the policy does not list",
            );
        }
    }
}

/// AMD gives VLEKs to several providers: the key of one says nothing of the machines of another.
fn vlek_provider(provider: &str, providers: &Providers, checks: &mut Checks<'_>) {
    const NAME: CheckName = CheckName::VlekProvider;
    match providers {
        Providers::Listed(accepted) => checks.demand(
            NAME,
            PLATFORM,
            accepted.contains(provider),
            [accepted, &provider],
            "the guest runs at a cloud provider, or in a region, that the policy does not list",
        ),
        Providers::Any => checks.warn(
            NAME,
            [&"a listed provider", &provider],
            "a machine of every provider that AMD gave a VLEK is accepted: list this provider if it is yours",
        ),
    }
}

/// What the guest's policy lets the host do, and who in the guest asked.
fn guest(fields: &ReportFields, requirements: &Requirements, checks: &mut Checks<'_>) {
    let policy = fields.policy;
    checks.demand(
        CheckName::Debug,
        PLATFORM,
        !policy.contains(GuestPolicy::DEBUG),
        [&"debug not allowed", &policy],
        "the host can read this guest's memory: launch it with debug off",
    );
    checks.demand(
        CheckName::MigrationAgent,
        PLATFORM,
        !policy.contains(GuestPolicy::MIGRATE_MA),
        [&"migration agent not allowed", &policy],
        "a migration agent can move this guest: launch it without one",
    );
    let smt_permitted = requirements.permitted.contains(GuestPolicy::SMT);
    checks.demand(
        CheckName::Smt,
        PLATFORM,
        smt_permitted
            || !(policy.contains(GuestPolicy::SMT)
                || fields.platform_info.contains(PlatformInfo::SMT_EN)),
        [
            &"no multithreading, by guest policy and platform",
            &format_args!("{policy}, platform {}", fields.platform_info),
        ],
        "launch the guest with a policy without SMT, on a host that has it off",
    );
    let cxl_permitted = requirements.permitted.contains(GuestPolicy::CXL_ALLOW);
    checks.demand(
        CheckName::Cxl,
        PLATFORM,
        cxl_permitted || !policy.contains(GuestPolicy::CXL_ALLOW),
        [&"CXL not allowed", &policy],
        "launch the guest with a policy without CXL",
    );
    checks.demand(
        CheckName::GuestPolicy,
        PLATFORM,
        policy.contains(requirements.policy),
        [&requirements.policy, &policy],
        RELAUNCH,
    );
    if policy.has_unknown() {
        checks.warn(
            CheckName::GuestPolicyUnknown,
            [&"only bits this release knows", &policy],
            "the guest's policy has bits that newer firmware gives a meaning: look for a newer release",
        );
    }
    checks.demand(
        CheckName::GuestAbi,
        PLATFORM,
        policy.abi() >= requirements.abi,
        [&requirements.abi, &policy.abi()],
        RELAUNCH,
    );
    checks.demand(
        CheckName::Vmpl,
        PLATFORM,
        fields.vmpl == requirements.vmpl.number(),
        [&requirements.vmpl.number(), &fields.vmpl],
        "another privilege level of the guest asked for the report, or (4294967295) its host did: refuse this machine",
    );
}

fn settings(fields: &ReportFields, requirements: &Requirements, checks: &mut Checks<'_>) {
    checks.demand(
        CheckName::PlatformInfo,
        PLATFORM,
        fields.platform_info.contains(requirements.platform),
        [&requirements.platform, &fields.platform_info],
        "change the settings of the host or update its firmware; reports before version 3 show few of them",
    );
}

fn levels(fields: &ReportFields, line: &AcceptedLine, checks: &mut Checks<'_>) {
    for (name, raw, minimum) in [
        (CheckName::ReportedTcb, fields.reported_tcb, line.reported()),
        (CheckName::LaunchTcb, fields.launch_tcb, line.launch()),
    ] {
        let actual = raw.decode(minimum.layout());
        checks.demand(
            name,
            PLATFORM,
            actual.is_at_least(minimum),
            [&format_args!("at least {minimum}"), &actual],
            UPDATE,
        );
    }
    let demanded = line.demanded_mitigations();
    if demanded != 0 {
        let both = fields.mitigations.map(|both| both.launch & both.current);
        checks.demand(
            CheckName::Mitigations,
            PLATFORM,
            both.is_some_and(|both| both & demanded == demanded),
            [
                &format_args!("{demanded:#x}"),
                &both.map_or_else(
                    || "not in a report before version 5".to_owned(),
                    |both| format!("{both:#x}"),
                ),
            ],
            UPDATE,
        );
    }
}

/// The host can go back from what runs to what is committed, and no further. So the committed levels carry the minimum.
fn firmware(
    fields: &ReportFields,
    key: &EndorsedKey,
    requirements: &Requirements,
    checks: &mut Checks<'_>,
) {
    let decode = |raw: RawTcb| raw.decode(key.line.tcb_layout());
    let reported = decode(fields.reported_tcb);
    let committed = decode(fields.committed_tcb);
    let current = decode(fields.current_tcb);
    checks.demand(
        CheckName::CommittedTcb,
        PLATFORM,
        committed.is_at_least(&reported),
        [&format_args!("at least {reported}"), &committed],
        "the host can roll its firmware back below what the report states: commit the firmware",
    );
    let holds = if requirements.provisional {
        current.is_at_least(&committed) && fields.current_version >= fields.committed_version
    } else {
        current == committed && fields.current_version == fields.committed_version
    };
    checks.demand(
        CheckName::Firmware,
        PLATFORM,
        holds,
        [
            &format_args!(
                "{} {committed} ({})",
                if requirements.provisional {
                    "at least"
                } else {
                    "as committed:"
                },
                fields.committed_version
            ),
            &format_args!("{current} ({})", fields.current_version),
        ],
        "the host runs firmware that it can take back: commit it, or accept provisional firmware",
    );
}

/// Who launched the guest, and with which data.
fn launch(fields: &ReportFields, requirements: &Requirements, checks: &mut Checks<'_>) {
    const NEXT: &str = "launch the guest with an identity block of an accepted key";
    let actual = &fields.id_key_digest;
    match &requirements.id_key {
        IdKeyDigests::NotDemanded => {}
        IdKeyDigests::Enforce(accepted) => checks.demand(
            CheckName::IdKeyDigest,
            PLATFORM,
            accepted.contains(actual),
            [accepted, &Hex(actual)],
            NEXT,
        ),
        IdKeyDigests::Warn(accepted) if accepted.contains(actual) => {
            checks.pass(CheckName::IdKeyDigest);
        }
        IdKeyDigests::Warn(accepted) => {
            checks.warn(CheckName::IdKeyDigest, [accepted, &Hex(actual)], NEXT)
        }
    }
    guest_svn(fields, requirements, checks);
    match &requirements.host_data {
        HostData::NotDemanded => {}
        HostData::Exactly(expected) => checks.demand(
            CheckName::HostData,
            PLATFORM,
            fields.host_data == *expected,
            [&Hex(expected), &Hex(&fields.host_data)],
            "launch the guest with this host data",
        ),
    }
}

/// An identity key vouches for every release it signed. Only the measurement or the security version tells an old one.
fn guest_svn(fields: &ReportFields, requirements: &Requirements, checks: &mut Checks<'_>) {
    const NAME: CheckName = CheckName::GuestSvn;
    let least = requirements.guest_svn;
    if least > 0 {
        checks.demand(
            NAME,
            PLATFORM,
            fields.guest_svn >= least,
            [&format_args!("at least {least}"), &fields.guest_svn],
            "the guest was launched with a release that is older than the policy accepts: update it",
        );
        return;
    }
    let is_launch_known = match &requirements.measurements {
        LaunchMeasurements::Enforce(_) => true,
        LaunchMeasurements::Warn(accepted) => accepted.contains(&fields.measurement),
        LaunchMeasurements::NotChecked => false,
    };
    if matches!(requirements.id_key, IdKeyDigests::Enforce(_)) && !is_launch_known {
        checks.warn(
            NAME,
            [&"a minimum", &format_args!("none, the guest states {}", fields.guest_svn)],
            "every release that the identity key ever signed is accepted: demand a minimum guest SVN or a launch measurement",
        );
    }
}

fn measurement(fields: &ReportFields, requirements: &Requirements, checks: &mut Checks<'_>) {
    const NAME: CheckName = CheckName::Measurement;
    const NEXT: &str = "the guest was launched with other firmware, kernel or number of processors than the policy accepts";
    let actual = &fields.measurement;
    match &requirements.measurements {
        LaunchMeasurements::Enforce(accepted) => checks.demand(
            NAME,
            RefusalCode::Measurements,
            accepted.contains(actual),
            [accepted, &Hex(actual)],
            NEXT,
        ),
        LaunchMeasurements::Warn(accepted) if accepted.contains(actual) => checks.pass(NAME),
        LaunchMeasurements::Warn(accepted) => {
            checks.warn(NAME, [accepted, &Hex(actual)], NEXT);
        }
        LaunchMeasurements::NotChecked => checks.warn(
            NAME,
            [&"not checked", &Hex(actual)],
            "what the guest was launched with must be proven by other means",
        ),
    }
}
