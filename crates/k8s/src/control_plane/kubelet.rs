//! The kubelet: configuration, and the credentials it starts with.
//!
//! It listens on the mesh address only, lets in whom the API authorizes, and rotates its certificates; a joining kubelet gets its
//! first one with the ticket's bootstrap token.

use cluster::Role;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Node, Service, TLS_CIPHER_SUITES};
use crate::{
    files::{File, SecretText, Written},
    pki::{Authorities, Credential, Kubeconfig, PkiError},
};

/// The image that holds a pod's namespaces; imported from the measured image, never pulled.
pub(super) const PAUSE_IMAGE: &str = "constellation.local/pause:v0.1.0";
/// Keeps workloads off control planes.
const CONTROL_PLANE_TAINT: &str = "node-role.kubernetes.io/control-plane";
const CONFIG: &str = "kubelet-config.yaml";

impl Node {
    pub(super) fn kubelet_args(&self) -> Vec<String> {
        let mut args = vec![
            Self::flag_path("config", &self.paths.kubernetes.join(CONFIG)),
            Self::flag_path("kubeconfig", &self.paths.kubelet_kubeconfig()),
            Self::flag_path("bootstrap-kubeconfig", &self.paths.bootstrap_kubeconfig()),
            Self::flag_path("cert-dir", &self.paths.kubelet_pki),
            Self::flag_path("root-dir", &self.paths.kubelet_data),
            format!("--hostname-override={}", self.config.node_name),
            format!("--node-ip={}", self.config.addresses.mesh_ip),
        ];
        if self.differences.runtime_flags {
            args.push("--container-runtime=remote".to_owned());
            args.push(format!(
                "--container-runtime-endpoint={}",
                self.runtime_endpoint()
            ));
        }
        if self.differences.taints_flag && self.config.role == Role::ControlPlane {
            args.push(format!(
                "--register-with-taints={CONTROL_PLANE_TAINT}=:NoSchedule"
            ));
        }
        if self.differences.pause_image_flag {
            args.push(format!("--pod-infra-container-image={PAUSE_IMAGE}"));
        }
        args
    }

    pub(super) fn kubelet_files(&self) -> Vec<File> {
        vec![File::public(
            self.paths.kubernetes.join(CONFIG),
            format!("{:#}\n", self.kubelet_config()),
        )]
    }

    fn kubelet_config(&self) -> Value {
        let mut config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.config.addresses.mesh_ip,
            "readOnlyPort": 0,
            "healthzBindAddress": "127.0.0.1",
            "authentication": {
                "anonymous": { "enabled": false },
                "webhook": { "enabled": true },
                "x509": { "clientCAFile": self.paths.pki().join("ca.crt") },
            },
            "authorization": { "mode": "Webhook" },
            "rotateCertificates": true,
            "serverTLSBootstrap": true,
            "tlsMinVersion": "VersionTLS12",
            "tlsCipherSuites": TLS_CIPHER_SUITES,
            "protectKernelDefaults": true,
            "makeIPTablesUtilChains": true,
            "cgroupDriver": "systemd",
            "clusterDNS": [self.config.plan.dns_service_ip()],
            "clusterDomain": cluster::network::CLUSTER_DOMAIN,
            "eventRecordQPS": 50,
            "streamingConnectionIdleTimeout": "5m",
            "podPidsLimit": 4096,
            "enableDebuggingHandlers": true,
            "volumePluginDir": self.paths.volume_plugins,
        });
        if let Some(provider_id) = &self.config.provider_id {
            config["providerID"] = json!(provider_id);
        }
        if self.differences.seccomp_default {
            config["seccompDefault"] = json!(true);
        }
        if !self.differences.runtime_flags {
            config["containerRuntimeEndpoint"] = json!(self.runtime_endpoint());
        }
        if !self.differences.taints_flag && self.config.role == Role::ControlPlane {
            config["registerWithTaints"] =
                json!([{ "key": CONTROL_PLANE_TAINT, "effect": "NoSchedule" }]);
        }
        config
    }

    fn runtime_endpoint(&self) -> String {
        format!("unix://{}", self.paths.containerd_socket.display())
    }

    /// The credentials with which a joining kubelet asks for its first certificate.
    pub fn kubelet_bootstrap(&self, ca_certificate_pem: &str, token: &SecretText) -> File {
        let config = Kubeconfig {
            cluster_name: self.config.cluster_name.as_str(),
            user: "kubelet-bootstrap",
            server: &self.api_server(),
            ca_certificate_pem,
            credential: Credential::Token(token),
        };
        File::secret(self.paths.bootstrap_kubeconfig(), config.render())
    }

    /// The kubelet's kubeconfig. A joining kubelet writes the same by itself; the first control plane's gets it here.
    pub fn kubelet_kubeconfig(&self, ca_certificate_pem: &str) -> File {
        let certificate = self.paths.kubelet_client_certificate();
        let config = Kubeconfig {
            cluster_name: self.config.cluster_name.as_str(),
            user: Service::Kubelet.program_name(),
            server: &self.api_server(),
            ca_certificate_pem,
            credential: Credential::Files {
                certificate: certificate.clone(),
                key: certificate,
            },
        };
        File::secret(self.paths.kubelet_kubeconfig(), config.render())
    }

    /// Gives a control plane's kubelet a client certificate, in the place and form in which it keeps the next ones: a dated file, and
    /// a link to it. Does nothing while the one that is there lives: kubelet renews that by itself. One that has ended (the machine
    /// was off for long, its clock jumped) or has yet to begin (it was made while the clock was ahead) kubelet cannot renew, and
    /// nobody but the node's own authority could. A kubelet that runs reads it when it is started again.
    pub fn ensure_kubelet_client(
        &self,
        authorities: &Authorities,
        now: Timestamp,
    ) -> Result<Written, PkiError> {
        let link = self.paths.kubelet_client_certificate();
        if std::fs::read(&link).is_ok_and(|pair| lives(&pair, now)) {
            return Ok(Written::Unchanged);
        }
        let issued =
            authorities.issue_kubelet_client(&self.config.node_name, now, self.lifetime)?;
        let path = self.paths.kubelet_pki.join(format!(
            "kubelet-client-{}.pem",
            now.strftime("%Y-%m-%d-%H-%M-%S")
        ));
        let pair = format!("{}{}", issued.certificate_pem, issued.key_pem.expose());
        File::secret(&path, SecretText::new(pair)).write()?;
        let fail = |source| {
            PkiError::File(crate::files::FileError {
                operation: "link",
                path: link.clone(),
                source,
            })
        };
        // beside it and renamed, so that a machine that stops here has the old link or the new one
        let mut temporary = link.clone().into_os_string();
        temporary.push(".new");
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        std::os::unix::fs::symlink(&path, &temporary).map_err(fail)?;
        std::fs::rename(&temporary, &link).map_err(fail)?;
        Ok(Written::Changed)
    }
}

/// Whether the certificate at the beginning of a PEM file has begun and not ended.
fn lives(pair: &[u8], now: Timestamp) -> bool {
    let Ok((_, block)) = x509_parser::pem::parse_x509_pem(pair) else {
        return false;
    };
    block.parse_x509().is_ok_and(|certificate| {
        let validity = certificate.validity();
        (validity.not_before.timestamp()..validity.not_after.timestamp()).contains(&now.as_second())
    })
}
