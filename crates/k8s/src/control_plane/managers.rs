//! kube-controller-manager and kube-scheduler.
//!
//! The controller manager signs certificates of kubelets and of API clients, each for a day, and approves none: approval is
//! `api::csr`'s, against the records of the join service. Requests of unknown kind are not signed at all.

use super::{Node, Service, TLS_CIPHER_SUITES};
use crate::{
    files::File,
    pki::{AuthorityName, Credential, Kubeconfig, Leaf, SERVICE_ACCOUNT_KEY},
};

/// The signers that the controller manager plays.
const SIGNERS: [&str; 3] = ["kubelet-client", "kubelet-serving", "kube-apiserver-client"];

impl Node {
    pub(super) fn controller_manager_args(&self) -> Vec<String> {
        let mut args =
            self.manager_args(Service::ControllerManager, self.listen.controller_manager);
        for signer in SIGNERS {
            args.push(self.pki_flag(
                &format!("cluster-signing-{signer}-cert-file"),
                format!("{}.crt", AuthorityName::Cluster.stem()),
            ));
            args.push(self.pki_flag(
                &format!("cluster-signing-{signer}-key-file"),
                format!("{}.key", AuthorityName::Cluster.stem()),
            ));
        }
        args.extend([
            format!(
                "--cluster-signing-duration={}s",
                self.lifetime.of_kubelets().as_secs()
            ),
            format!("--cluster-name={}", self.config.cluster_name),
            // addresses of pods follow from node identities, not from Node objects
            "--allocate-node-cidrs=false".to_owned(),
            "--controllers=*,tokencleaner,-csrapproving".to_owned(),
            self.pki_flag(
                "root-ca-file",
                format!("{}.crt", AuthorityName::Cluster.stem()),
            ),
            self.pki_flag("service-account-private-key-file", SERVICE_ACCOUNT_KEY),
            "--use-service-account-credentials=true".to_owned(),
            "--terminated-pod-gc-threshold=1000".to_owned(),
            // an emulated or busy machine's kubelet can be late for longer than the default, and its pods must not go for that
            "--node-monitor-grace-period=120s".to_owned(),
            Self::flag_path("flex-volume-plugin-dir", &self.paths.volume_plugins),
        ]);
        args
    }

    pub(super) fn scheduler_args(&self) -> Vec<String> {
        self.manager_args(Service::Scheduler, self.listen.scheduler)
    }

    fn manager_args(&self, service: Service, port: u16) -> Vec<String> {
        let kubeconfig = self.paths.kubernetes.join(kubeconfig_name(service));
        let mut args = vec![
            Self::flag_path("kubeconfig", &kubeconfig),
            Self::flag_path("authentication-kubeconfig", &kubeconfig),
            Self::flag_path("authorization-kubeconfig", &kubeconfig),
            self.pki_flag(
                "client-ca-file",
                format!("{}.crt", AuthorityName::Cluster.stem()),
            ),
            self.pki_flag(
                "requestheader-client-ca-file",
                format!("{}.crt", AuthorityName::FrontProxy.stem()),
            ),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            "--tls-min-version=VersionTLS12".to_owned(),
            format!("--tls-cipher-suites={}", TLS_CIPHER_SUITES.join(",")),
            "--leader-elect=true".to_owned(),
            // A machine that is emulated or short of processors can take more than the default 10 s to answer, and a manager
            // that loses its lease ends and begins anew. Another one takes over within a minute.
            "--leader-elect-lease-duration=60s".to_owned(),
            "--leader-elect-renew-deadline=40s".to_owned(),
            "--leader-elect-retry-period=5s".to_owned(),
            "--profiling=false".to_owned(),
        ];
        if self.differences.insecure_port {
            args.push("--port=0".to_owned());
        }
        args
    }

    pub(super) fn manager_files(&self, service: Service, ca_certificate_pem: &str) -> Vec<File> {
        let leaf = if service == Service::Scheduler {
            Leaf::Scheduler
        } else {
            Leaf::ControllerManager
        };
        let pki = self.paths.pki();
        let config = Kubeconfig {
            cluster_name: self.config.cluster_name.as_str(),
            user: leaf.stem(),
            server: &self.own_api_server(),
            ca_certificate_pem,
            credential: Credential::Files {
                certificate: pki.join(leaf.certificate()),
                key: pki.join(leaf.key()),
            },
        };
        vec![File::secret(
            self.paths.kubernetes.join(kubeconfig_name(service)),
            config.render(),
        )]
    }
}

const fn kubeconfig_name(service: Service) -> &'static str {
    match service {
        Service::Scheduler => "scheduler.conf",
        _ => "controller-manager.conf",
    }
}
