//! kube-apiserver: flags, audit policy, and who may ask without credentials.

use serde_json::json;

use super::{Anonymous, EncryptionKey, Node, TLS_CIPHER_SUITES};
use crate::{
    files::File,
    pki::{
        AuthorityName, Credential, Kubeconfig, Leaf, SERVICE_ACCOUNT_KEY, SERVICE_ACCOUNT_PUBLIC,
    },
};

/// Issuer of service account tokens, and their default audience.
const SERVICE_ACCOUNT_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const AUDIT_POLICY: &str = "audit-policy.yaml";
const AUTHENTICATION_CONFIG: &str = "authentication-config.yaml";
/// The only paths that a client without credentials reaches.
pub(crate) const HEALTH_PATHS: [&str; 3] = ["/livez", "/readyz", "/healthz"];

impl Node {
    pub(super) fn api_server_args(&self) -> Vec<String> {
        let path =
            |name: &str, file: &str| Self::flag_path(name, &self.paths.kubernetes.join(file));
        let authority = |name: AuthorityName| format!("{}.crt", name.stem());
        let (bind, port) = self.listen.api;
        let mut args = vec![
            format!("--bind-address={bind}"),
            format!("--secure-port={port}"),
            format!("--advertise-address={}", self.listen.advertise),
            format!("--service-cluster-ip-range={}", self.config.plan.services()),
            // 30080, 30081 and 30090 are the join and verification services' on every node: a Service must not get them
            "--service-node-port-range=30100-32767".to_owned(),
            "--allow-privileged=true".to_owned(),
            // etcd
            format!(
                "--etcd-servers=https://127.0.0.1:{}",
                self.listen.etcd_client
            ),
            self.pki_flag("etcd-cafile", authority(AuthorityName::Etcd)),
            self.pki_flag("etcd-certfile", Leaf::ApiServerEtcdClient.certificate()),
            self.pki_flag("etcd-keyfile", Leaf::ApiServerEtcdClient.key()),
            path("encryption-provider-config", EncryptionKey::FILE_NAME),
            // who a client is
            self.pki_flag("client-ca-file", authority(AuthorityName::Cluster)),
            "--enable-bootstrap-token-auth=true".to_owned(),
            format!("--service-account-issuer={SERVICE_ACCOUNT_ISSUER}"),
            self.pki_flag("service-account-key-file", SERVICE_ACCOUNT_PUBLIC),
            self.pki_flag("service-account-signing-key-file", SERVICE_ACCOUNT_KEY),
            "--service-account-lookup=true".to_owned(),
            // a token lives as long as it says, and not a year for the sake of clients that do not read it again
            "--service-account-extend-token-expiration=false".to_owned(),
            self.pki_flag(
                "requestheader-client-ca-file",
                authority(AuthorityName::FrontProxy),
            ),
            "--requestheader-allowed-names=front-proxy-client".to_owned(),
            "--requestheader-extra-headers-prefix=X-Remote-Extra-".to_owned(),
            "--requestheader-group-headers=X-Remote-Group".to_owned(),
            "--requestheader-username-headers=X-Remote-User".to_owned(),
            self.pki_flag(
                "proxy-client-cert-file",
                Leaf::FrontProxyClient.certificate(),
            ),
            self.pki_flag("proxy-client-key-file", Leaf::FrontProxyClient.key()),
            // what it may do
            "--authorization-mode=Node,RBAC".to_owned(),
            format!(
                "--enable-admission-plugins={}",
                if self.differences.deny_external_ips {
                    "NodeRestriction,DenyServiceExternalIPs"
                } else {
                    "NodeRestriction"
                }
            ),
            // kubelets
            self.pki_flag(
                "kubelet-certificate-authority",
                authority(AuthorityName::Cluster),
            ),
            self.pki_flag(
                "kubelet-client-certificate",
                Leaf::ApiServerKubeletClient.certificate(),
            ),
            self.pki_flag("kubelet-client-key", Leaf::ApiServerKubeletClient.key()),
            "--kubelet-preferred-address-types=InternalIP,Hostname".to_owned(),
            // own TLS
            self.pki_flag("tls-cert-file", Leaf::ApiServer.certificate()),
            self.pki_flag("tls-private-key-file", Leaf::ApiServer.key()),
            "--tls-min-version=VersionTLS12".to_owned(),
            format!("--tls-cipher-suites={}", TLS_CIPHER_SUITES.join(",")),
            // records
            path("audit-policy-file", AUDIT_POLICY),
            Self::flag_path("audit-log-path", &self.paths.audit_log()),
            "--audit-log-maxage=30".to_owned(),
            "--audit-log-maxbackup=10".to_owned(),
            "--audit-log-maxsize=100".to_owned(),
            "--profiling=false".to_owned(),
        ];
        args.push(match self.differences.anonymous {
            Anonymous::Off => "--anonymous-auth=false".to_owned(),
            Anonymous::HealthOnly { .. } => path("authentication-config", AUTHENTICATION_CONFIG),
        });
        if self.differences.samples_fairness {
            args.push("--enable-priority-and-fairness=false".to_owned());
        }
        args
    }

    pub(super) fn api_server_files(&self, ca_certificate_pem: &str) -> Vec<File> {
        let file = |name: &str, value: serde_json::Value| {
            File::public(self.paths.kubernetes.join(name), format!("{value:#}\n"))
        };
        let pki = self.paths.pki();
        let agent = Kubeconfig {
            cluster_name: self.config.cluster_name.as_str(),
            user: "node-agent",
            server: &self.api_server(),
            ca_certificate_pem,
            credential: Credential::Files {
                certificate: pki.join(Leaf::NodeAgent.certificate()),
                key: pki.join(Leaf::NodeAgent.key()),
            },
        };
        let mut files = vec![
            file(
                AUDIT_POLICY,
                json!({
                    "apiVersion": "audit.k8s.io/v1",
                    "kind": "Policy",
                    "omitStages": ["RequestReceived"],
                    "rules": [
                        // every node asks every API server, and what is kept of the log has a bound
                        { "level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*"] },
                        { "level": "Metadata" },
                    ],
                }),
            ),
            File::secret(self.paths.node_agent_kubeconfig(), agent.render()),
        ];
        if let Anonymous::HealthOnly { api_version } = self.differences.anonymous {
            let conditions: Vec<_> = HEALTH_PATHS.map(|path| json!({ "path": path })).into();
            files.push(file(
                AUTHENTICATION_CONFIG,
                json!({
                    "apiVersion": api_version,
                    "kind": "AuthenticationConfiguration",
                    "anonymous": { "enabled": true, "conditions": conditions },
                }),
            ));
        }
        files
    }
}
