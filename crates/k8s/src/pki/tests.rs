use std::{collections::BTreeSet, os::unix::fs::PermissionsExt as _};

use x509_parser::prelude::*;

use super::*;

fn now() -> Timestamp {
    "2026-11-22T06:00:00Z".parse().unwrap()
}

fn names() -> NodeNames {
    NodeNames {
        node_name: "control-plane-0".parse().unwrap(),
        mesh_ip: "10.45.0.1".parse().unwrap(),
        node_ip: "10.42.1.10".parse().unwrap(),
        api_service_ip: "10.96.0.1".parse().unwrap(),
        api_sans: vec!["127.42.1.10".into(), "api.example.com".into()],
    }
}

fn der(pem: &str) -> Vec<u8> {
    parse_x509_pem(pem.as_bytes()).unwrap().1.contents
}

fn sans(certificate: &X509Certificate<'_>) -> BTreeSet<String> {
    let Some(extension) = certificate.subject_alternative_name().unwrap() else {
        return BTreeSet::new();
    };
    extension
        .value
        .general_names
        .iter()
        .map(|name| match name {
            GeneralName::DNSName(name) => (*name).to_owned(),
            GeneralName::IPAddress(bytes) => <[u8; 4]>::try_from(*bytes)
                .map(std::net::Ipv4Addr::from)
                .unwrap()
                .to_string(),
            other => panic!("unexpected name {other:?}"),
        })
        .collect()
}

#[test]
fn every_leaf_is_signed_by_its_authority_and_no_other() {
    let authorities = Authorities::generate("mini", now()).unwrap();
    for leaf in Leaf::ALL {
        let issued = authorities
            .authority(leaf.authority())
            .sign(leaf.params(&names(), now(), Lifetime::DAY).unwrap())
            .unwrap();
        let der = der(&issued.certificate_pem);
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        for name in AuthorityName::ALL {
            let ca = self::der(authorities.authority(name).certificate_pem());
            let (_, ca) = X509Certificate::from_der(&ca).unwrap();
            let verifies = certificate.verify_signature(Some(ca.public_key())).is_ok();
            assert_eq!(verifies, name == leaf.authority(), "{leaf:?} by {name:?}");
        }
        assert!(!certificate.is_ca());
        let validity = certificate.validity();
        assert_eq!(
            validity.not_after.timestamp(),
            now().as_second() + 24 * 3600
        );
        assert_eq!(
            validity.not_before.timestamp(),
            now().as_second() - 2 * 3600
        );
    }
}

#[test]
fn serving_names_are_exact() {
    let authorities = Authorities::generate("mini", now()).unwrap();
    let of = |leaf: Leaf| {
        let issued = authorities
            .authority(leaf.authority())
            .sign(leaf.params(&names(), now(), Lifetime::DAY).unwrap())
            .unwrap();
        sans(
            &X509Certificate::from_der(&der(&issued.certificate_pem))
                .unwrap()
                .1,
        )
    };
    let set = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(
        of(Leaf::ApiServer),
        set(&[
            "10.42.1.10",
            "10.45.0.1",
            "10.96.0.1",
            "127.0.0.1",
            "127.42.1.10",
            "api.example.com",
            "control-plane-0",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
        ])
    );
    assert_eq!(of(Leaf::EtcdPeer), set(&["10.45.0.1", "control-plane-0"]));
    assert_eq!(
        of(Leaf::KeyService),
        set(&[
            "key-service",
            "key-service.kube-system",
            "key-service.kube-system.svc",
            "key-service.kube-system.svc.cluster.local"
        ])
    );
    assert!(of(Leaf::NodeAgent).is_empty());
}

#[test]
fn a_bad_alternative_name_is_refused_by_name() {
    let names = NodeNames {
        api_sans: vec!["not a name".into()],
        ..names()
    };
    assert!(
        matches!(Leaf::ApiServer.params(&names, now(), Lifetime::DAY), Err(PkiError::SubjectAltName(name)) if name == "not a name")
    );
}

#[test]
fn written_once_renewed_after_half_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let open = |now| Pki::open_or_generate("mini", names(), dir.path(), now).unwrap();
    assert_eq!(open(now()).write(now()).unwrap().len(), Leaf::ALL.len());
    let ca = std::fs::read_to_string(dir.path().join("ca.crt")).unwrap();

    // the jitter is a tenth of the day
    let soon = now() + SignedDuration::from_mins(9 * 60 + 30);
    assert_eq!(open(soon).write(soon).unwrap(), []);
    let later = now() + SignedDuration::from_hours(12);
    let renewed = open(later).renew(later).unwrap();
    assert_eq!(
        renewed
            .iter()
            .map(|renewed| renewed.leaf)
            .collect::<Vec<_>>(),
        Leaf::ALL
    );
    assert_eq!(open(later).renew(later).unwrap(), []);
    assert_eq!(
        std::fs::read_to_string(dir.path().join("ca.crt")).unwrap(),
        ca,
        "authorities stay"
    );

    for entry in [
        "ca.key",
        "apiserver.key",
        "sa.key",
        "etcd/ca.key",
        "key-service/tls.key",
    ] {
        let mode = std::fs::metadata(dir.path().join(entry))
            .unwrap()
            .permissions()
            .mode()
            & 0o777;
        assert_eq!(mode, 0o600, "{entry}");
    }
}

#[test]
fn a_leaf_is_made_again_when_it_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open_or_generate("mini", names(), dir.path(), now()).unwrap();
    pki.write(now()).unwrap();
    let renewed = |pki: &Pki| {
        pki.renew(now())
            .unwrap()
            .into_iter()
            .map(|renewed| renewed.leaf)
            .collect::<Vec<_>>()
    };

    std::fs::remove_file(dir.path().join("scheduler.key")).unwrap();
    assert_eq!(renewed(&pki), [Leaf::Scheduler]);
    std::fs::copy(
        dir.path().join("etcd/peer.key"),
        dir.path().join("etcd/server.key"),
    )
    .unwrap();
    assert_eq!(renewed(&pki), [Leaf::EtcdServer]);
    std::fs::write(dir.path().join("front-proxy-client.crt"), "").unwrap();
    assert_eq!(renewed(&pki), [Leaf::FrontProxyClient]);
    // signed by the wrong authority
    for extension in ["crt", "key"] {
        std::fs::copy(
            dir.path().join(format!("etcd/peer.{extension}")),
            dir.path().join(format!("apiserver.{extension}")),
        )
        .unwrap();
    }
    assert_eq!(renewed(&pki), [Leaf::ApiServer]);
    // another name for the API
    let other = Pki::open_or_generate(
        "mini",
        NodeNames {
            api_sans: vec!["new.example.com".into()],
            ..names()
        },
        dir.path(),
        now(),
    )
    .unwrap();
    assert_eq!(renewed(&other), [Leaf::ApiServer]);
    // a clock that was set back to before the certificates were made
    let before = now() - SignedDuration::from_hours(3);
    assert_eq!(other.renew(before).unwrap().len(), Leaf::ALL.len());
}

#[test]
fn authorities_travel_as_files() {
    let authorities = Authorities::generate("mini", now()).unwrap();
    let files = authorities.files(Path::new(""));
    let names: Vec<_> = files
        .iter()
        .map(|file| file.path.display().to_string())
        .collect();
    assert_eq!(
        names,
        [
            "ca.crt",
            "ca.key",
            "front-proxy-ca.crt",
            "front-proxy-ca.key",
            "etcd/ca.crt",
            "etcd/ca.key",
            "sa.key",
            "sa.pub"
        ]
    );
    let find = |name: &str| {
        let file = files
            .iter()
            .find(|file| file.path == Path::new(name))
            .unwrap();
        Ok(SecretText::new(
            String::from_utf8(file.bytes().to_vec()).unwrap(),
        ))
    };
    let copy = Authorities::from_files(find).unwrap();
    assert_eq!(
        copy.cluster_certificate(),
        authorities.cluster_certificate()
    );

    // a key of another authority does not pass
    let mixed = Authorities::from_files(|name| {
        find(if name == "ca.key" {
            "etcd/ca.key"
        } else {
            name
        })
    });
    assert!(matches!(mixed, Err(PkiError::Mismatch(name)) if name == "ca"));
    // a leaf is not an authority
    let leaf = authorities.issue_admin("admin", now()).unwrap();
    let leafy = Authorities::from_files(|name| {
        if name == "ca.crt" {
            Ok(SecretText::new(leaf.certificate_pem.clone()))
        } else {
            find(name)
        }
    });
    assert!(matches!(
        leafy,
        Err(PkiError::Unusable {
            kind: "certificate of an authority",
            ..
        })
    ));
}

#[test]
fn the_admin_lives_a_year_and_is_no_master() {
    let authorities = Authorities::generate("mini", now()).unwrap();
    let leaf = authorities.issue_admin("mini-admin", now()).unwrap();
    let der = der(&leaf.certificate_pem);
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    assert_eq!(
        certificate.validity().not_after.timestamp(),
        now().as_second() + 365 * 24 * 3600
    );
    let organizations: Vec<_> = certificate
        .subject()
        .iter_organization()
        .map(|o| o.as_str().unwrap())
        .collect();
    assert_eq!(organizations, [ADMIN_GROUP]);

    let config = Kubeconfig {
        cluster_name: "mini",
        user: "mini-admin",
        server: "https://127.42.1.10:6443",
        ca_certificate_pem: authorities.cluster_certificate(),
        credential: Credential::Embedded(&leaf),
    };
    let text = config.render();
    let parsed: serde_json::Value = serde_json::from_str(text.expose()).unwrap();
    assert_eq!(
        parsed["clusters"][0]["cluster"]["server"],
        "https://127.42.1.10:6443"
    );
    assert!(!format!("{config:?} {text:?}").contains("PRIVATE"));
}

/// The host's clock can jump by a year before the right time is known. What was made meanwhile does not stay.
#[test]
fn a_clock_a_year_ahead_or_back_leaves_no_certificate_when_it_is_right_again() {
    for hours in [365 * 24, -365 * 24] {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::open_or_generate("mini", names(), dir.path(), now()).unwrap();
        pki.write(now()).unwrap();
        let wrong = now() + SignedDuration::from_hours(hours);
        assert_eq!(pki.renew(wrong).unwrap().len(), Leaf::ALL.len(), "{hours}");
        assert_eq!(pki.renew(wrong).unwrap(), [], "once is enough");
        assert!(pki.next_due(now()).unwrap() <= now());
        assert_eq!(pki.renew(now()).unwrap().len(), Leaf::ALL.len(), "{hours}");
        assert!(pki.next_due(now()).unwrap() > now() + SignedDuration::from_hours(9));
        for leaf in Leaf::ALL {
            let pem = std::fs::read_to_string(dir.path().join(leaf.certificate())).unwrap();
            let der = der(&pem);
            let (_, certificate) = X509Certificate::from_der(&der).unwrap();
            let right = ASN1Time::from_timestamp(now().as_second()).unwrap();
            assert!(certificate.validity().is_valid_at(right), "{leaf:?}");
        }
    }
}

/// What a new cluster can not survive: its authorities begin when its clock says they do. Back by a year is no harm, ahead by one is.
#[test]
fn authorities_of_a_clock_a_year_back_are_good_today_and_of_one_ahead_are_not() {
    let right = ASN1Time::from_timestamp(now().as_second()).unwrap();
    for (hours, good) in [(-365 * 24, true), (365 * 24, false)] {
        let clock = now() + SignedDuration::from_hours(hours);
        let authorities = Authorities::generate("mini", clock).unwrap();
        let der = der(authorities.cluster_certificate());
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(certificate.validity().is_valid_at(right), good, "{hours}");
    }
}

#[test]
fn the_first_renewal_is_known_beforehand() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open_or_generate("mini", names(), dir.path(), now()).unwrap();
    pki.write(now()).unwrap();
    let due = pki.next_due(now()).unwrap();
    assert!(due > now());
    assert_eq!(pki.renew(due - SignedDuration::from_secs(1)).unwrap(), []);
    assert!(!pki.renew(due).unwrap().is_empty());
}

/// A machine stopped in the middle of a renewal: the next one makes every pair whole, whichever file operation was the last.
#[test]
fn a_renewal_cut_anywhere_is_made_whole_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let pki = Pki::open_or_generate("mini", names(), dir.path(), now()).unwrap();
    pki.write(now()).unwrap();
    let read = |leaf: Leaf| {
        let read = |path| std::fs::read(dir.path().join(path)).unwrap();
        (read(leaf.key()), read(leaf.certificate()))
    };
    let old: Vec<_> = Leaf::ALL.into_iter().map(read).collect();
    let later = now() + SignedDuration::from_hours(13);
    pki.renew(later).unwrap();
    let new: Vec<_> = Leaf::ALL.into_iter().map(read).collect();

    // key beside, certificate beside, key renamed, certificate renamed
    for stopped_at in 0..Leaf::ALL.len() {
        for operations in 0..=4 {
            for (index, leaf) in Leaf::ALL.into_iter().enumerate() {
                let done = match index.cmp(&stopped_at) {
                    std::cmp::Ordering::Less => 4,
                    std::cmp::Ordering::Equal => operations,
                    std::cmp::Ordering::Greater => 0,
                };
                let write = |path: std::path::PathBuf, new: &[u8], old: &[u8], beside, renamed| {
                    let path = dir.path().join(path);
                    std::fs::write(&path, if done >= renamed { new } else { old }).unwrap();
                    let mut temporary = path.into_os_string();
                    temporary.push(".new");
                    if (beside..renamed).contains(&done) {
                        std::fs::write(&temporary, new).unwrap();
                    } else {
                        let _not_there = std::fs::remove_file(&temporary);
                    }
                };
                write(leaf.key(), &new[index].0, &old[index].0, 1, 3);
                write(leaf.certificate(), &new[index].1, &old[index].1, 2, 4);
            }
            let renewed = pki.renew(later).unwrap().len();
            // those after it, and the one it stopped at unless that was whole
            let begun = usize::from(operations < 4);
            assert_eq!(renewed, Leaf::ALL.len() - stopped_at - 1 + begun);
            assert_eq!(pki.renew(later).unwrap(), [], "{stopped_at} {operations}");
        }
    }
}

/// What can not be looked for may be there: authorities beside it would split the cluster.
#[test]
fn no_authorities_are_made_beside_some_that_can_not_be_read() {
    let dir = tempfile::tempdir().unwrap();
    assert!(
        Pki::open(names(), dir.path()).is_err(),
        "opening makes nothing"
    );
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);

    let made = Pki::open_or_generate("mini", names(), dir.path(), now()).unwrap();
    made.write(now()).unwrap();
    let last = dir.path().join(SERVICE_ACCOUNT_PUBLIC);
    std::fs::remove_file(&last).unwrap();
    // fails like a disk that does not answer, and `exists` calls both "no"
    std::os::unix::fs::symlink(&last, &last).unwrap();
    let opened = Pki::open_or_generate("mini", names(), dir.path(), now());
    assert!(matches!(opened, Err(PkiError::File(_))), "{opened:?}");
}
