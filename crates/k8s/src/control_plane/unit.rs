//! systemd units: one text for all services, with what each may touch.

use std::{fmt::Write as _, path::PathBuf};

use cluster::Role;

use super::Paths;

/// A program of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// The store of the API.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// The kubelet.
    Kubelet,
    /// kube-proxy.
    KubeProxy,
}

/// How a program is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The executable.
    pub binary: PathBuf,
    /// Its arguments. None is a secret.
    pub args: Vec<String>,
}

impl Service {
    /// The services of a node, in the order they are started.
    pub const fn of(role: Role) -> &'static [Self] {
        match role {
            Role::ControlPlane => &[
                Self::Etcd,
                Self::ApiServer,
                Self::ControllerManager,
                Self::Scheduler,
                Self::Kubelet,
                Self::KubeProxy,
            ],
            Role::Worker => &[Self::Kubelet, Self::KubeProxy],
        }
    }

    /// The name of the executable, and of the component in the catalogue.
    pub const fn program_name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
        }
    }

    /// The name of the unit. Not Debian's `etcd.service`: a masked name with a fragment elsewhere is not ours to take.
    pub const fn unit_name(self) -> &'static str {
        match self {
            Self::Etcd => "constellation-etcd.service",
            Self::ApiServer => "kube-apiserver.service",
            Self::ControllerManager => "kube-controller-manager.service",
            Self::Scheduler => "kube-scheduler.service",
            Self::Kubelet => "kubelet.service",
            Self::KubeProxy => "kube-proxy.service",
        }
    }

    const fn description(self) -> &'static str {
        match self {
            Self::Etcd => "etcd, the store of the Kubernetes API",
            Self::ApiServer => "Kubernetes API server",
            Self::ControllerManager => "Kubernetes controller manager",
            Self::Scheduler => "Kubernetes scheduler",
            Self::Kubelet => "Kubernetes node agent",
            Self::KubeProxy => "Kubernetes service proxy",
        }
    }

    /// Directories a confined service may write to; `None` for those that manage the machine.
    fn writable(self, paths: &Paths) -> Option<Vec<PathBuf>> {
        match self {
            Self::Etcd => Some(vec![paths.etcd_data.clone()]),
            Self::ApiServer => Some(vec![paths.logs.clone()]),
            Self::ControllerManager | Self::Scheduler => Some(Vec::new()),
            Self::Kubelet | Self::KubeProxy => None,
        }
    }
}

/// Renders the unit file.
pub(super) fn render(service: Service, program: &Program, paths: &Paths) -> String {
    let mut command = quote(&program.binary.display().to_string());
    for arg in &program.args {
        command.push_str(" \\\n  ");
        command.push_str(&quote(arg));
    }
    let mut unit = format!(
        "[Unit]\nDescription={}\nStartLimitIntervalSec=0\n\n[Service]\nType=exec\nExecStart={command}\nRestart=always\nRestartSec=1\n\
         LimitNOFILE=1048576\n",
        service.description()
    );
    match service {
        // what the node cannot do without is the last to go when memory runs out
        Service::Etcd | Service::ApiServer | Service::Kubelet => {
            unit.push_str("OOMScoreAdjust=-999\n")
        }
        Service::ControllerManager | Service::Scheduler | Service::KubeProxy => {
            unit.push_str("OOMScoreAdjust=-900\n")
        }
    }
    match service {
        // elections fail when the disk answers late
        Service::Etcd => unit.push_str("IOSchedulingClass=best-effort\nIOSchedulingPriority=0\n"),
        // pods outlive their kubelet
        Service::Kubelet => {
            unit.push_str("KillMode=process\nCPUAccounting=true\nMemoryAccounting=true\n")
        }
        Service::ApiServer
        | Service::ControllerManager
        | Service::Scheduler
        | Service::KubeProxy => {}
    }
    if let Some(writable) = service.writable(paths) {
        unit.push_str(
            "NoNewPrivileges=true\nCapabilityBoundingSet=\nProtectSystem=strict\nProtectHome=true\nPrivateTmp=true\nPrivateDevices=true\n\
             ProtectKernelTunables=true\nProtectKernelModules=true\nProtectControlGroups=true\nRestrictSUIDSGID=true\nLockPersonality=true\n\
             RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6\n",
        );
        for path in writable {
            // writing to a String cannot fail
            let _infallible = writeln!(
                unit,
                "ReadWritePaths={}",
                quote(&path.display().to_string())
            );
        }
    }
    unit
}

/// Quotes an argument for systemd: specifiers and variables mean themselves.
fn quote(arg: &str) -> String {
    let escaped = arg
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%")
        .replace('$', "$$");
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:=,*+@%".contains(&byte);
    if !escaped.is_empty() && escaped.bytes().all(plain) {
        escaped
    } else {
        format!("\"{escaped}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_mean_themselves_to_systemd() {
        assert_eq!(quote("--a=b,c/d:1"), "--a=b,c/d:1");
        assert_eq!(quote("a b"), "\"a b\"");
        assert_eq!(quote("100%"), "100%%");
        assert_eq!(quote("$HOME"), "\"$$HOME\"");
        assert_eq!(quote("a\"b\\"), "\"a\\\"b\\\\\"");
        assert_eq!(quote(""), "\"\"");
        assert_eq!(quote("a;b"), "\"a;b\"");
    }
}
