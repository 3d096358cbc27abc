use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

fn node(role: Role, version: Version) -> Node {
    let plan = AddressPlan::default();
    let index = if role == Role::ControlPlane { 1 } else { 2 };
    let addresses = plan.node(index).unwrap();
    let config = NodeConfig {
        cluster_name: "mini".parse().unwrap(),
        version,
        node_name: "node-0".parse().unwrap(),
        role,
        plan,
        addresses,
        api_endpoint: SocketAddrV4::new(Ipv4Addr::LOCALHOST, cluster::network::API_PROXY_PORT),
        provider_id: Some("qemu:///node-0".into()),
        etcd: EtcdMembership::New,
    };
    Node::new(config, Paths::node(), Listen::node(addresses.mesh_ip)).unwrap()
}

const TEST: Version = Version::new(20, 2);
const NEWEST: Version = Version::new(35, 0);

fn args(node: &Node, service: Service) -> BTreeSet<String> {
    let args = node.program(service).args;
    let names: BTreeSet<_> = args
        .iter()
        .map(|arg| arg.split('=').next().unwrap().to_owned())
        .collect();
    assert_eq!(names.len(), args.len(), "no flag twice");
    args.into_iter().collect()
}

fn has(args: &BTreeSet<String>, flag: &str) -> bool {
    args.contains(flag)
}

fn json(node: &Node, service: Service, name: &str) -> Value {
    let files = node.files(service, "CA");
    let file = files
        .iter()
        .find(|file| file.path.ends_with(name))
        .unwrap_or_else(|| panic!("{name}"));
    serde_json::from_slice(file.bytes()).unwrap()
}

#[test]
fn an_unsupported_version_is_refused() {
    let mut config = node(Role::Worker, TEST).config;
    config.version = Version::new(25, 0);
    assert!(Node::new(config, Paths::node(), Listen::node(Ipv4Addr::LOCALHOST)).is_err());
}

/// Every node asks each API server whether it is ready: what is kept of the log is for what somebody did.
#[test]
fn questions_about_health_leave_no_trace_in_the_audit_log() {
    let node = node(Role::ControlPlane, TEST);
    let policy = json(&node, Service::ApiServer, "audit-policy.yaml");
    let health = ["/healthz*", "/livez*", "/readyz*"];
    assert_eq!(
        policy["rules"],
        serde_json::json!([
            { "level": "None", "nonResourceURLs": health },
            { "level": "Metadata" },
        ])
    );
}

/// The checks of CIS' Kubernetes benchmark on flags (1.2, 1.3, 1.4, 2), for the oldest and the newest version.
#[test]
fn the_control_plane_holds_the_benchmark() {
    for version in [TEST, Version::new(32, 0), NEWEST] {
        let node = node(Role::ControlPlane, version);
        let api = args(&node, Service::ApiServer);
        for flag in [
            "--authorization-mode=Node,RBAC",
            "--profiling=false",
            "--service-account-lookup=true",
            "--service-account-extend-token-expiration=false",
            "--service-node-port-range=30100-32767",
            "--audit-log-maxage=30",
            "--audit-log-maxbackup=10",
            "--audit-log-maxsize=100",
            "--audit-log-path=/var/log/kubernetes/audit/audit.log",
            "--kubelet-certificate-authority=/etc/kubernetes/pki/ca.crt",
            "--kubelet-client-certificate=/etc/kubernetes/pki/apiserver-kubelet-client.crt",
            "--client-ca-file=/etc/kubernetes/pki/ca.crt",
            "--etcd-cafile=/etc/kubernetes/pki/etcd/ca.crt",
            "--encryption-provider-config=/etc/kubernetes/encryption-config.yaml",
            "--tls-min-version=VersionTLS12",
        ] {
            assert!(has(&api, flag), "{version} {flag}");
        }
        let plugins = if version == TEST {
            "--enable-admission-plugins=NodeRestriction"
        } else {
            "--enable-admission-plugins=NodeRestriction,DenyServiceExternalIPs"
        };
        assert!(has(&api, plugins), "{version}: {api:?}");
        assert!(
            !api.iter()
                .any(|arg| arg.starts_with("--token-auth-file") || arg.starts_with("--basic-auth"))
        );
        assert!(api.iter().any(|arg| arg.starts_with("--tls-cipher-suites=")
            && !arg.contains("CBC")
            && !arg.contains("_RC4_")));

        for service in [Service::ControllerManager, Service::Scheduler] {
            let manager = args(&node, service);
            assert!(
                has(&manager, "--profiling=false") && has(&manager, "--bind-address=127.0.0.1")
            );
            assert_eq!(
                has(&manager, "--port=0"),
                version == TEST,
                "old ones serve plain HTTP without it, new ones do not know it"
            );
        }
        let manager = args(&node, Service::ControllerManager);
        for flag in [
            "--use-service-account-credentials=true",
            "--service-account-private-key-file=/etc/kubernetes/pki/sa.key",
            "--root-ca-file=/etc/kubernetes/pki/ca.crt",
            "--terminated-pod-gc-threshold=1000",
            "--controllers=*,tokencleaner,-csrapproving",
            "--cluster-signing-duration=86400s",
            "--node-monitor-grace-period=120s",
        ] {
            assert!(has(&manager, flag), "{flag}");
        }
        assert!(!manager.iter().any(|arg| arg.contains("legacy-unknown")));

        let etcd = args(&node, Service::Etcd);
        for flag in [
            "--client-cert-auth=true",
            "--peer-client-cert-auth=true",
            "--listen-client-urls=https://127.0.0.1:2379,https://10.45.0.1:2379",
            "--advertise-client-urls=https://10.45.0.1:2379",
        ] {
            assert!(has(&etcd, flag), "{flag}");
        }
        assert!(!etcd.iter().any(|arg| arg.contains("auto-tls")));
    }
}

#[test]
fn priority_and_fairness_is_off_in_the_version_of_the_tests_only() {
    let flag = "--enable-priority-and-fairness=false";
    for (version, is_off) in [(TEST, true), (Version::new(32, 0), false)] {
        let node = node(Role::ControlPlane, version);
        assert_eq!(has(&args(&node, Service::ApiServer), flag), is_off);
    }
}

#[test]
fn anonymous_requests_reach_health_at_most() {
    let old = node(Role::ControlPlane, TEST);
    assert!(has(
        &args(&old, Service::ApiServer),
        "--anonymous-auth=false"
    ));
    for (minor, api_version) in [(32, "v1beta1"), (33, "v1beta1"), (34, "v1"), (35, "v1")] {
        let node = node(Role::ControlPlane, Version::new(minor, 0));
        let api = args(&node, Service::ApiServer);
        assert!(has(
            &api,
            "--authentication-config=/etc/kubernetes/authentication-config.yaml"
        ));
        assert!(
            !api.iter().any(|arg| arg.starts_with("--anonymous-auth")),
            "the two exclude each other"
        );
        let config = json(&node, Service::ApiServer, "authentication-config.yaml");
        assert_eq!(
            config["apiVersion"],
            format!("apiserver.config.k8s.io/{api_version}")
        );
        let paths: Vec<_> = config["anonymous"]["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|condition| &condition["path"])
            .collect();
        assert_eq!(paths, ["/livez", "/readyz", "/healthz"]);
    }
}

/// The checks of the benchmark on nodes (4.2).
#[test]
fn the_kubelet_holds_the_benchmark() {
    for version in [TEST, NEWEST] {
        for role in Role::ALL {
            let node = node(role, version);
            let config = json(&node, Service::Kubelet, "kubelet-config.yaml");
            assert_eq!(config["authentication"]["anonymous"]["enabled"], false);
            assert_eq!(config["authentication"]["webhook"]["enabled"], true);
            assert_eq!(
                config["authentication"]["x509"]["clientCAFile"],
                "/etc/kubernetes/pki/ca.crt"
            );
            assert_eq!(config["authorization"]["mode"], "Webhook");
            assert_eq!(config["readOnlyPort"], 0);
            assert_eq!(
                (
                    &config["protectKernelDefaults"],
                    &config["rotateCertificates"]
                ),
                (&true.into(), &true.into())
            );
            assert_eq!(config["serverTLSBootstrap"], true);
            let seccomp = config.get("seccompDefault");
            assert_eq!(seccomp, (version != TEST).then_some(&Value::Bool(true)));
            assert_eq!(config["tlsMinVersion"], "VersionTLS12");
            assert_eq!(
                config["address"],
                node.config.addresses.mesh_ip.to_string(),
                "the mesh only"
            );
            assert_eq!(config["clusterDNS"][0], "10.96.0.10");
        }
    }
}

#[test]
fn what_moved_from_flags_to_the_file_is_in_one_place() {
    let (old, new) = (
        node(Role::ControlPlane, TEST),
        node(Role::ControlPlane, NEWEST),
    );
    let (old_args, new_args) = (args(&old, Service::Kubelet), args(&new, Service::Kubelet));
    let (old_config, new_config) = (
        json(&old, Service::Kubelet, "kubelet-config.yaml"),
        json(&new, Service::Kubelet, "kubelet-config.yaml"),
    );
    assert!(has(&old_args, "--container-runtime=remote"));
    assert!(has(
        &old_args,
        "--container-runtime-endpoint=unix:///run/containerd/containerd.sock"
    ));
    assert!(has(
        &old_args,
        "--register-with-taints=node-role.kubernetes.io/control-plane=:NoSchedule"
    ));
    assert!(
        old_config.get("containerRuntimeEndpoint").is_none()
            && old_config.get("registerWithTaints").is_none()
    );

    assert!(!new_args.iter().any(|arg| arg.contains("container-runtime")
        || arg.contains("taints")
        || arg.contains("infra")));
    assert_eq!(
        new_config["containerRuntimeEndpoint"],
        "unix:///run/containerd/containerd.sock"
    );
    assert_eq!(
        new_config["registerWithTaints"][0]["key"],
        "node-role.kubernetes.io/control-plane"
    );
    assert!(
        json(
            &node(Role::Worker, NEWEST),
            Service::Kubelet,
            "kubelet-config.yaml"
        )
        .get("registerWithTaints")
        .is_none()
    );
}

#[test]
fn a_node_asks_its_proxy_and_controllers_their_own_api_server() {
    for role in Role::ALL {
        let node = node(role, TEST);
        assert_eq!(node.api_server(), "https://127.0.0.1:7445");
        let files = node.files(Service::Scheduler, "CA");
        let config = std::str::from_utf8(files[0].bytes()).unwrap();
        assert!(config.contains("https://127.0.0.1:6443"), "{config}");
    }
}

#[test]
fn a_further_member_names_all_of_them() {
    let mut node = node(Role::ControlPlane, TEST);
    node.config.etcd = EtcdMembership::Existing(vec![
        ("a".parse().unwrap(), Ipv4Addr::new(10, 45, 0, 1)),
        ("node-0".parse().unwrap(), Ipv4Addr::new(10, 45, 0, 2)),
    ]);
    let etcd = args(&node, Service::Etcd);
    assert!(has(
        &etcd,
        "--initial-cluster=a=https://10.45.0.1:2380,node-0=https://10.45.0.2:2380"
    ));
    assert!(has(&etcd, "--initial-cluster-state=existing"));
}

#[test]
fn units_start_what_the_program_says_and_confine_the_control_plane() {
    let node = node(Role::ControlPlane, TEST);
    for service in Service::of(Role::ControlPlane) {
        let file = node.unit(*service);
        assert!(
            file.path.starts_with("/run/systemd/system")
                && file.path.ends_with(service.unit_name())
        );
        let text = std::str::from_utf8(file.bytes()).unwrap();
        assert!(
            text.contains(&format!(
                "ExecStart={} \\\n",
                node.program(*service).binary.display()
            )),
            "{text}"
        );
        let confined = !matches!(service, Service::Kubelet | Service::KubeProxy);
        assert_eq!(text.contains("ProtectSystem=strict"), confined, "{text}");
        assert!(!text.contains("PRIVATE"));
    }
    let etcd = String::from_utf8(node.unit(Service::Etcd).bytes().to_vec()).unwrap();
    assert!(etcd.contains("ReadWritePaths=/run/state/etcd\n"));
    assert_eq!(
        Service::of(Role::Worker),
        [Service::Kubelet, Service::KubeProxy]
    );
    assert!(
        Service::of(Role::ControlPlane)
            .iter()
            .all(|service| service.unit_name() != "etcd.service")
    );
}

#[test]
fn no_argument_or_public_file_holds_a_key() {
    for role in Role::ALL {
        let node = node(role, TEST);
        let services = Service::of(role).iter().copied();
        // the image's own unit starts etcd, with our arguments
        for service in services.chain([Service::Etcd]) {
            for arg in args(&node, service) {
                let (flag, value) = arg.split_once('=').unwrap();
                let secret = ["key", "token", "secret", "password"]
                    .iter()
                    .any(|word| flag.contains(word));
                // etcd's token tells clusters apart and is the cluster's name
                let harmless = value.starts_with('/') || matches!(value, "true" | "false" | "mini");
                assert!(!secret || harmless, "{arg} may hold more than a path");
                assert!(!arg.contains("-----BEGIN"), "{arg}");
            }
            for file in node.files(service, "CA") {
                let text = String::from_utf8(file.bytes().to_vec()).unwrap();
                let is_kubeconfig = text.contains("client-key");
                assert_eq!(
                    file.mode() == 0o600,
                    is_kubeconfig,
                    "{}",
                    file.path.display()
                );
            }
        }
    }
}

/// A control plane with a directory of its own, and what its kubelet's certificate is at an hour of the clock.
fn kubelet_certificates() -> impl Fn(i64) -> PathBuf {
    let directory = tempfile::tempdir().unwrap();
    let mut node = node(Role::ControlPlane, TEST);
    node.paths = Paths::below(directory.path(), directory.path());
    let now = jiff::Timestamp::now();
    let authorities = crate::pki::Authorities::generate("test", now).unwrap();
    move |hours| {
        // in here, so that it lives as long as the closure
        let _directory = &directory;
        let now = now + jiff::SignedDuration::from_hours(hours);
        node.ensure_kubelet_client(&authorities, now).unwrap();
        std::fs::read_link(node.paths().kubelet_client_certificate()).unwrap()
    }
}

#[test]
fn an_ended_kubelet_certificate_is_replaced_and_a_living_one_is_not() {
    let target_at = kubelet_certificates();
    let first = target_at(0);
    assert_eq!(target_at(12), first);
    let second = target_at(48);
    assert_ne!(second, first);
    assert_eq!(target_at(60), second);
}

#[test]
fn a_kubelet_certificate_of_a_clock_a_year_ahead_is_replaced_when_the_clock_is_right_again() {
    const YEAR: i64 = 365 * 24;
    let target_at = kubelet_certificates();
    let of_the_future = target_at(YEAR);
    let right = target_at(1);
    assert_ne!(right, of_the_future);
    assert_eq!(target_at(2), right);
}

/// One value stands behind all of them: what the controller manager signs for kubelets can not outlive what the node signs.
#[test]
fn what_is_signed_for_kubelets_lives_as_long_as_the_nodes_own() {
    let short = Lifetime::at_most_a_day(std::time::Duration::from_secs(3600));
    let node = node(Role::ControlPlane, TEST);
    assert!(has(
        &args(&node, Service::ControllerManager),
        "--cluster-signing-duration=86400s"
    ));
    let node = node.with_lifetime(short);
    assert!(has(
        &args(&node, Service::ControllerManager),
        "--cluster-signing-duration=3600s"
    ));
}

/// containerd and the kubelet are told the same, one by the image and one from here.
#[test]
fn the_images_containerd_has_the_kubelets_sandbox_and_our_plugins() {
    let config = include_str!("../../../image/mkosi/root/etc/containerd/config.toml");
    for line in [
        format!("sandbox_image = \"{}\"", kubelet::PAUSE_IMAGE),
        format!("bin_dir = \"{}\"", crate::cni::PLUGIN_DIR),
        format!("conf_dir = \"{}\"", crate::cni::CONFIG_DIR),
        "SystemdCgroup = true".to_owned(),
    ] {
        assert!(config.lines().any(|has| has.trim() == line), "{line}");
    }
}
