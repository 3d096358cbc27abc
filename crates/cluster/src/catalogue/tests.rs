use super::*;

fn kubelet() -> Component {
    Component::program("kubelet", Version::new(20, 2), Sha256::of(b"kubelet"))
}

fn full_list() -> Vec<Component> {
    programs(Role::ControlPlane)
        .map(|name| Component::program(name, Version::new(20, 2), Sha256::of(name.as_bytes())))
        .collect()
}

#[test]
fn program_has_the_layout_of_upstream() {
    let component = kubelet();
    assert_eq!(
        component.url,
        "https://dl.k8s.io/v1.20.2/bin/linux/amd64/kubelet"
    );
    assert_eq!(component.mirror_path(), "v1.20.2/bin/linux/amd64/kubelet");
    assert_eq!(component.install_path, "/run/state/bin/kubelet");
    assert_eq!(
        Component::image_archive("coredns.tar", Sha256::of(b"")).mirror_path(),
        "images/coredns.tar"
    );
}

#[test]
fn hash_must_be_a_full_sha256() {
    let hash = Sha256::of(b"");
    assert_eq!(
        hash.to_string(),
        "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    );
    assert_eq!(hash.to_string().parse(), Ok(hash));
    for text in [
        "",
        "e3b0",
        "sha256:",
        "sha256:e3",
        "sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ] {
        assert_eq!(
            text.parse::<Sha256>(),
            Err(CatalogueError::Hash(text.into()))
        );
    }
}

#[test]
fn refuses_paths_that_leave_the_component_directories() {
    for path in [
        "/run/state/bin",
        "/run/state/bin/",
        "/run/state/bin/../etc/x",
        "/etc/kubernetes/pki/ca.crt",
        "run/state/bin/x",
        "/run/state/binx/y",
        "/run/state/bin//x",
        "/run/state/bin/./x",
        "",
    ] {
        let component = Component {
            install_path: path.into(),
            ..kubelet()
        };
        assert!(
            matches!(
                Components::new(vec![component]),
                Err(CatalogueError::InstallPath { .. })
            ),
            "{path}"
        );
    }
}

#[test]
fn refuses_urls_modes_and_names() {
    for url in [
        "file:///etc/passwd",
        "https://dl.k8s.io",
        "https://dl.k8s.io/a/../b",
        "data:text/plain,x",
        "https://h/a b",
        "https://h//x",
    ] {
        let component = Component {
            url: url.into(),
            ..kubelet()
        };
        assert!(
            matches!(
                Components::new(vec![component]),
                Err(CatalogueError::Url { .. })
            ),
            "{url}"
        );
    }
    for mode in [0o4755, 0o777, 0o2755] {
        assert!(matches!(
            Components::new(vec![Component { mode, ..kubelet() }]),
            Err(CatalogueError::Mode { .. })
        ));
    }
    for name in ["", "Kubelet", "a/b", "a b"] {
        assert!(matches!(
            Components::new(vec![Component {
                name: name.into(),
                ..kubelet()
            }]),
            Err(CatalogueError::Name(_))
        ));
    }
    assert_eq!(
        Components::new(vec![Component {
            extract: true,
            import: true,
            ..kubelet()
        }]),
        Err(CatalogueError::ExtractAndImport("kubelet".into()))
    );
}

#[test]
fn refuses_duplicates() {
    assert_eq!(
        Components::new(vec![kubelet(), kubelet()]),
        Err(CatalogueError::Duplicate {
            name: "kubelet".into(),
            what: "its name"
        })
    );
    assert_eq!(
        Components::new(vec![
            kubelet(),
            Component {
                name: "other".into(),
                ..kubelet()
            }
        ]),
        Err(CatalogueError::Duplicate {
            name: "other".into(),
            what: "its install path"
        })
    );
}

#[test]
fn a_worker_gets_no_control_plane_program() {
    let list = Components::new(full_list()).unwrap();
    let names = |role| {
        list.for_role(role)
            .unwrap()
            .into_iter()
            .map(|component| component.name)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(Role::Worker), ["kubelet", "kube-proxy"]);
    assert_eq!(names(Role::ControlPlane).len(), 5);
}

#[test]
fn a_list_without_a_needed_program_is_refused() {
    let mut list = full_list();
    list.retain(|component| component.name != "kube-scheduler");
    let list = Components::new(list).unwrap();
    assert_eq!(
        list.for_role(Role::ControlPlane),
        Err(CatalogueError::Missing("kube-scheduler"))
    );
    assert!(list.for_role(Role::Worker).is_ok());
}

#[test]
fn digest_covers_every_field() {
    let base = Components::new(vec![kubelet()]).unwrap().digest();
    let changed = [
        Component {
            name: "kubelet2".into(),
            ..kubelet()
        },
        Component {
            url: "https://dl.k8s.io/other".into(),
            ..kubelet()
        },
        Component {
            hash: Sha256::of(b"other"),
            ..kubelet()
        },
        Component {
            install_path: "/run/state/bin/other".into(),
            ..kubelet()
        },
        Component {
            mode: 0o700,
            ..kubelet()
        },
        Component {
            extract: true,
            ..kubelet()
        },
        Component {
            import: true,
            ..kubelet()
        },
    ];
    let mut digests: Vec<_> = changed
        .into_iter()
        .map(|component| Components::new(vec![component]).unwrap().digest())
        .collect();
    digests.push(Components::default().digest());
    digests.push(base);
    digests.sort();
    digests.dedup();
    assert_eq!(digests.len(), 9, "every change gives another digest");
}

#[test]
fn json_is_strict() {
    let json = serde_json::to_string(&Components::new(full_list()).unwrap()).unwrap();
    assert_eq!(
        serde_json::from_str::<Components>(&json).unwrap(),
        Components::new(full_list()).unwrap()
    );
    assert!(serde_json::from_str::<Components>(&json.replace("\"url\"", "\"uri\"")).is_err());
    assert!(
        serde_json::from_str::<Components>(&json.replace("/run/state/bin", "/usr/bin")).is_err()
    );
}
