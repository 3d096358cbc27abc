//! What differs between minors of Kubernetes, in one table. Everything else in `control_plane` holds for all of them.

use cluster::kubernetes::Version;

/// How anonymous requests are kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anonymous {
    /// A flag: nobody without credentials, probes included. Health is asked for with a client certificate.
    Off,
    /// A configuration file that lets anonymous requests reach the health endpoints and nothing else.
    HealthOnly {
        /// Its API version.
        api_version: &'static str,
    },
}

/// The flags and fields that a minor has or lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Differences {
    /// Anonymous requests to the API.
    pub anonymous: Anonymous,
    /// `--port=0` on kube-controller-manager and kube-scheduler: without it old ones serve plain HTTP.
    pub insecure_port: bool,
    /// `--container-runtime=remote` and its endpoint as flags of the kubelet; else `containerRuntimeEndpoint` in its file.
    pub runtime_flags: bool,
    /// Taints as a flag of the kubelet; else `registerWithTaints` in its file.
    pub taints_flag: bool,
    /// `--pod-infra-container-image`, which keeps the kubelet from deleting the pause image; later runtimes pin it themselves.
    pub pause_image_flag: bool,
    /// The admission plugin `DenyServiceExternalIPs` (1.21 and later): with it no user of the API can draw another's traffic to himself
    /// (CVE-2020-8554).
    pub deny_external_ips: bool,
    /// The kubelet's `seccompDefault` without a feature gate (1.25 and later): pods that say nothing get the runtime's filter.
    pub seccomp_default: bool,
    /// Priority and fairness samples itself a thousand times a second (1.20, a beta): it is off, because two fifths of what an idle API server
    /// takes of a processor go into that. What limits requests then is `--max-requests-inflight`.
    pub samples_fairness: bool,
}

/// First minor that has a row, and the row. A minor between two rows is like the one before it.
const TABLE: [(u16, Differences); 3] = [
    (
        20,
        Differences {
            anonymous: Anonymous::Off,
            insecure_port: true,
            runtime_flags: true,
            taints_flag: true,
            pause_image_flag: true,
            deny_external_ips: false,
            seccomp_default: false,
            samples_fairness: true,
        },
    ),
    // AnonymousAuthConfigurableEndpoints is on from 1.32
    (
        32,
        Differences {
            anonymous: Anonymous::HealthOnly {
                api_version: "apiserver.config.k8s.io/v1beta1",
            },
            insecure_port: false,
            runtime_flags: false,
            taints_flag: false,
            pause_image_flag: false,
            deny_external_ips: true,
            seccomp_default: true,
            samples_fairness: false,
        },
    ),
    // structured authentication is stable from 1.34
    (
        34,
        Differences {
            anonymous: Anonymous::HealthOnly {
                api_version: "apiserver.config.k8s.io/v1",
            },
            insecure_port: false,
            runtime_flags: false,
            taints_flag: false,
            pause_image_flag: false,
            deny_external_ips: true,
            seccomp_default: true,
            samples_fairness: false,
        },
    ),
];

impl Differences {
    /// The row of a version. Versions that [`Version::support`] refuses never come here.
    pub fn of(version: Version) -> Self {
        let mut row = TABLE[0].1;
        for (minor, differences) in TABLE {
            if minor <= version.minor() {
                row = differences;
            }
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minor_is_like_the_last_row_before_it() {
        assert_eq!(
            Differences::of(Version::new(20, 2)).anonymous,
            Anonymous::Off
        );
        let beta = Anonymous::HealthOnly {
            api_version: "apiserver.config.k8s.io/v1beta1",
        };
        assert_eq!(Differences::of(Version::new(32, 0)).anonymous, beta);
        assert_eq!(Differences::of(Version::new(33, 9)).anonymous, beta);
        let stable = Anonymous::HealthOnly {
            api_version: "apiserver.config.k8s.io/v1",
        };
        assert_eq!(Differences::of(Version::new(34, 0)).anonymous, stable);
        assert_eq!(Differences::of(Version::new(99, 0)).anonymous, stable);
    }
}
