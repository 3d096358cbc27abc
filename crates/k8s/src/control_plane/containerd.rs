//! containerd's configuration: pods' sandboxes from the measured image, systemd's cgroups, Debian's CNI plugins.

/// The image that holds a pod's namespaces; imported from the measured image, never pulled.
pub const PAUSE_IMAGE: &str = "constellation.local/pause:v0.1.0";

/// Renders `config.toml` for containerd 1.x.
pub fn config_toml(cni_bin: &str, cni_config: &str) -> String {
    format!(
        r#"version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_bin}"
    conf_dir = "{cni_config}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = true
"#
    )
}
