//! `nodeGroups`: the groups of machines, two of which every cluster has.

use std::collections::BTreeMap;

use crate::name::Name;
use crate::role::Role;
use crate::yaml::Value;

/// The group of control planes that must be there.
pub const CONTROL_PLANE_DEFAULT: &str = "control_plane_default";
/// The group of workers that must be there.
pub const WORKER_DEFAULT: &str = "worker_default";

pub(super) const RULE: &str = "a section with control_plane_default and worker_default";

/// The smallest state disk: the files of Kubernetes, the images, etcd's data, and a third for integrity tags and slack.
const STATE_DISK_MIN_GB: u32 = 2;
const STATE_DISK_GB: u32 = 30;

/// One group of machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeGroup {
    /// Control plane or worker.
    pub role: Role,
    /// The provider's zone, where it has any.
    pub zone: Option<String>,
    /// The provider's type of machine, where it has any.
    pub instance_type: Option<String>,
    /// Size of each state disk.
    pub state_disk_size_gb: u32,
    /// The provider's type of disk, where it has any.
    pub state_disk_type: Option<String>,
    /// How many machines the group begins with.
    pub initial_count: u32,
}

/// Every group by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeGroups(BTreeMap<String, NodeGroup>);

impl NodeGroups {
    /// Every group in the order of names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &NodeGroup)> {
        self.0.iter().map(|(name, group)| (name.as_str(), group))
    }

    /// How many machines of a role the cluster begins with.
    pub fn initial_count(&self, role: Role) -> usize {
        let of_role = self.0.values().filter(|group| group.role == role);
        of_role
            .map(|group| usize::try_from(group.initial_count).unwrap_or(usize::MAX))
            .fold(0, usize::saturating_add)
    }

    /// The size of the state disks of a role: the largest of its groups.
    pub fn state_disk_size_gb(&self, role: Role) -> u32 {
        let of_role = self.0.values().filter(|group| group.role == role);
        of_role
            .map(|group| group.state_disk_size_gb)
            .max()
            .unwrap_or(STATE_DISK_GB)
    }
}

pub(super) fn read(value: &Value<'_>) -> Option<NodeGroups> {
    let mut section = value.section()?;
    let mut groups = BTreeMap::new();
    let mut complete = true;
    for (name, value) in section.all() {
        // the names have underscores where labels have dashes
        if Name::new(name.replace('_', "-")).is_err() {
            value.problem(
                format!("{name:?} can not be the name of a group"),
                "a-z, 0-9, '_' and '-'",
            );
            complete = false;
        }
        match group(&value, name) {
            Some(group) => {
                groups.insert(name.to_owned(), group);
            }
            None => complete = false,
        }
    }
    for name in [CONTROL_PLANE_DEFAULT, WORKER_DEFAULT] {
        if section
            .required(
                name,
                "a section with role, stateDiskSizeGB and initialCount",
            )
            .is_none()
        {
            complete = false;
        }
    }
    let groups = NodeGroups(groups);
    if complete && groups.initial_count(Role::ControlPlane) == 0 {
        section.problem(
            "there is no control plane",
            "initialCount: 1 in control_plane_default",
        );
        complete = false;
    }
    complete.then_some(groups)
}

fn group(value: &Value<'_>, name: &str) -> Option<NodeGroup> {
    let mut section = value.section()?;
    let allowed = match name {
        CONTROL_PLANE_DEFAULT => "control-plane",
        WORKER_DEFAULT => "worker",
        _ => "control-plane, worker",
    };
    let role = section.required("role", allowed).and_then(|value| {
        let role: Role = value.parse(allowed, str::parse)?;
        if allowed.split(", ").any(|word| word == role.as_str()) {
            Some(role)
        } else {
            value.problem(
                format!("group {name} can not have the role {role}"),
                allowed,
            );
            None
        }
    });
    let text = |value: Option<Value<'_>>| match value.filter(|value| !value.is_empty_text()) {
        None => Some(None),
        Some(value) => value.text("a text").map(|text| Some(text.to_owned())),
    };
    let zone = text(section.optional("zone"));
    let instance_type = text(section.optional("instanceType"));
    let disk_type = text(section.optional("stateDiskType"));
    let disk = section
        .optional("stateDiskSizeGB")
        .map_or(Some(STATE_DISK_GB), |value| {
            value.number(STATE_DISK_MIN_GB, 16 * 1024)
        });
    let max = if name == CONTROL_PLANE_DEFAULT {
        9
    } else {
        200
    };
    let count = section
        .required("initialCount", &format!("a whole number from 0 to {max}"))
        .and_then(|value| value.number(0, max));
    section.finish();
    Some(NodeGroup {
        role: role?,
        zone: zone?,
        instance_type: instance_type?,
        state_disk_size_gb: disk?,
        state_disk_type: disk_type?,
        initial_count: count?,
    })
}
