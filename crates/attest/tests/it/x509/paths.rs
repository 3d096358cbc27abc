//! One lie per path, under a test root.

use std::num::NonZeroUsize;

use attest::x509::{
    Certificate, MAX_INTERMEDIATES, MAX_PATH, Path, PathCache, PathError, PathRules, Revocation,
};
use jiff::Timestamp;

use super::at;
use super::ca::{
    Algorithm, Authority, Extension, Key, Template, basic_constraints, key_usage, now,
};

const NO_CRLS: Revocation<'_> = Revocation::DangerousNotLookedAt;

fn build(
    leaf: &Certificate,
    intermediates: &[&Authority],
    root: &Authority,
) -> Result<Path, PathError> {
    build_at(leaf, intermediates, root, now())
}

fn build_at(
    leaf: &Certificate,
    intermediates: &[&Authority],
    root: &Authority,
    now: Timestamp,
) -> Result<Path, PathError> {
    let above: Vec<_> = intermediates
        .iter()
        .map(|authority| authority.certificate.clone())
        .collect();
    let roots = [root.certificate.clone()];
    Path::build(
        leaf,
        &above,
        &roots,
        &NO_CRLS,
        now,
        &PathRules::end_entity(),
    )
}

fn three() -> (Authority, Authority, Certificate) {
    let root = Authority::root("root");
    let middle = root.issue(Template::authority("middle"));
    let leaf = middle.leaf(&Template::leaf("leaf"));
    (root, middle, leaf)
}

#[test]
fn a_path_has_its_parts_in_order() {
    let (root, middle, leaf) = three();
    let path = build(&leaf, &[&middle], &root).unwrap();
    assert_eq!(path.leaf(), &leaf);
    assert_eq!(path.issuer(), &middle.certificate);
    assert_eq!(path.root(), &root.certificate);
    assert_eq!(
        path.certificates(),
        [leaf, middle.certificate, root.certificate]
    );
}

#[test]
fn a_path_without_intermediates_is_issued_by_its_root() {
    let root = Authority::root("root");
    let leaf = root.leaf(&Template::leaf("leaf"));
    let path = build(&leaf, &[], &root).unwrap();
    assert_eq!(path.issuer(), path.root());
    assert_eq!(path.certificates().len(), 2);
}

#[test]
fn intermediates_come_in_any_order_and_with_the_root_among_them() {
    let root = Authority::root("root");
    let upper = root.issue(Template::authority("upper"));
    let lower = upper.issue(Template::authority("lower"));
    let leaf = lower.leaf(&Template::leaf("leaf"));
    for order in [
        [&root, &upper, &lower],
        [&lower, &upper, &root],
        [&upper, &root, &lower],
    ] {
        let path = build(&leaf, &order, &root).unwrap();
        assert_eq!(path.certificates().len(), 4);
    }
}

#[test]
fn a_missing_intermediate_is_named() {
    let (root, _, leaf) = three();
    let error = build(&leaf, &[], &root).unwrap_err();
    assert_eq!(
        error,
        PathError::NoIssuer {
            subject: "CN=leaf".into(),
            issuer: "CN=middle".into()
        }
    );
    assert!(error.to_string().contains("send the missing intermediate"));
}

#[test]
fn another_root_of_the_same_name_is_not_ours() {
    let (_, middle, leaf) = three();
    let namesake = Authority::root("root");
    let error = build(&leaf, &[&middle], &namesake).unwrap_err();
    assert_eq!(
        error,
        PathError::Signature {
            subject: "CN=middle".into(),
            issuer: "CN=root".into()
        }
    );
}

#[test]
fn a_root_from_the_peer_is_no_root() {
    let (theirs, middle, leaf) = three();
    let ours = Authority::root("root");
    let error = build(&leaf, &[&middle, &theirs], &ours).unwrap_err();
    assert!(matches!(error, PathError::Signature { .. }), "{error}");
    // nor is one of another name
    let stranger = Authority::root("stranger");
    let leaf = stranger.leaf(&Template::leaf("leaf"));
    let error = build(&leaf, &[&stranger], &ours).unwrap_err();
    assert!(matches!(error, PathError::NoIssuer { .. }), "{error}");
}

/// Neither a name alone nor a key alone makes an issuer.
#[test]
fn a_certificate_is_made_by_a_name_and_its_key() {
    let (root, middle, leaf) = three();
    let renamed =
        Template::authority("somebody else").signed("root", &root.key, &middle.key.spki());
    let renamed = Certificate::parse(&renamed).unwrap();
    let namesake = root.issue(Template::authority("middle"));
    assert!(leaf.is_made_by(&middle.certificate));
    assert!(middle.certificate.is_made_by(&root.certificate));
    for other in [&renamed, &namesake.certificate, &root.certificate, &leaf] {
        assert!(!leaf.is_made_by(other), "{other:?}");
    }
}

#[test]
fn a_root_is_trusted_byte_by_byte_and_not_by_its_key() {
    let (root, middle, leaf) = three();
    let again = Template {
        serial: vec![0x7f],
        ..Template::authority("root")
    };
    let der = again.signed("root", &root.key, &root.key.spki());
    let renewed = Authority {
        certificate: Certificate::parse(&der).unwrap(),
        name: "root".into(),
        key: Key::p256(),
    };
    // the same key and name is enough for an issuer, and ours is what the path ends with
    let path = build(&leaf, &[&middle, &renewed], &root).unwrap();
    assert_eq!(path.root(), &root.certificate);
    assert!(!path.certificates().contains(&renewed.certificate));
    // but a path never ends with what was not given as a root
    let other = Authority::root("other");
    let error = build(&leaf, &[&middle, &renewed], &other).unwrap_err();
    assert!(matches!(error, PathError::NoIssuer { .. }), "{error}");
}

#[test]
fn an_issuer_must_be_an_authority() {
    for extensions in [
        vec![basic_constraints(false, None), key_usage(0x06)],
        vec![key_usage(0x06)],
        vec![],
    ] {
        let root = Authority::root("root");
        let middle = root.issue(Template {
            extensions,
            ..Template::authority("middle")
        });
        let leaf = middle.leaf(&Template::leaf("leaf"));
        let error = build(&leaf, &[&middle], &root).unwrap_err();
        assert_eq!(
            error,
            PathError::NotAuthority {
                subject: "CN=middle".into()
            }
        );
    }
}

#[test]
fn a_root_must_be_an_authority_too() {
    let root = Authority::root_of(Template::leaf("root"), Key::p256());
    let leaf = root.leaf(&Template::leaf("leaf"));
    let error = build(&leaf, &[], &root).unwrap_err();
    assert!(matches!(error, PathError::NotAuthority { .. }), "{error}");
}

#[test]
fn an_issuers_key_must_be_for_certificates() {
    let root = Authority::root("root");
    // cRLSign and digitalSignature, and no keyCertSign
    let middle = root.issue(Template {
        extensions: vec![basic_constraints(true, None), key_usage(0x82)],
        ..Template::authority("middle")
    });
    let leaf = middle.leaf(&Template::leaf("leaf"));
    let error = build(&leaf, &[&middle], &root).unwrap_err();
    assert_eq!(
        error,
        PathError::MayNotIssue {
            subject: "CN=middle".into()
        }
    );
    // one that says nothing about its use may issue
    let middle = root.issue(Template {
        extensions: vec![basic_constraints(true, None)],
        ..Template::authority("middle")
    });
    let leaf = middle.leaf(&Template::leaf("leaf"));
    build(&leaf, &[&middle], &root).unwrap();
}

#[test]
fn a_path_length_counts_the_authorities_below() {
    let root = Authority::root_of(
        Template {
            extensions: vec![basic_constraints(true, Some(1)), key_usage(0x06)],
            ..Template::authority("root")
        },
        Key::p256(),
    );
    let first = root.issue(Template::authority("first"));
    build(&first.leaf(&Template::leaf("leaf")), &[&first], &root).unwrap();
    let second = first.issue(Template::authority("second"));
    let leaf = second.leaf(&Template::leaf("leaf"));
    let error = build(&leaf, &[&first, &second], &root).unwrap_err();
    assert_eq!(
        error,
        PathError::PathLength {
            subject: "CN=root".into(),
            allowed: 1,
            below: 2
        }
    );

    let root = Authority::root("root");
    let none = root.issue(Template {
        extensions: vec![basic_constraints(true, Some(0)), key_usage(0x06)],
        ..Template::authority("none")
    });
    build(&none.leaf(&Template::leaf("leaf")), &[&none], &root).unwrap();
    let below = none.issue(Template::authority("below"));
    let leaf = below.leaf(&Template::leaf("leaf"));
    let error = build(&leaf, &[&none, &below], &root).unwrap_err();
    assert!(matches!(error, PathError::PathLength { .. }), "{error}");
}

#[test]
fn an_authority_that_renews_itself_does_not_count_for_the_path_length() {
    let root = Authority::root("root");
    let middle = root.issue(Template {
        extensions: vec![basic_constraints(true, Some(0)), key_usage(0x06)],
        ..Template::authority("middle")
    });
    let renewed = middle.issue(Template {
        serial: vec![0x23],
        ..Template::authority("middle")
    });
    let leaf = renewed.leaf(&Template::leaf("leaf"));
    let path = build(&leaf, &[&middle, &renewed], &root).unwrap();
    assert_eq!(path.certificates().len(), 4);
}

#[test]
fn every_certificate_must_be_valid_now() {
    let expired = |template: Template| Template {
        not_after: "2026-05-31T23:59:59Z",
        ..template
    };
    let later = |template: Template| Template {
        not_before: "2026-06-01T00:00:01Z",
        ..template
    };
    let same = |template: Template| template;
    let changes: [&dyn Fn(Template) -> Template; 2] = [&expired, &later];
    for (index, change) in changes.into_iter().enumerate() {
        for which in ["root", "middle", "leaf"] {
            let change_if = |name: &str, template| {
                if name == which {
                    change(template)
                } else {
                    same(template)
                }
            };
            let root =
                Authority::root_of(change_if("root", Template::authority("root")), Key::p256());
            let middle = root.issue(change_if("middle", Template::authority("middle")));
            let leaf = middle.leaf(&change_if("leaf", Template::leaf("leaf")));
            let error = build(&leaf, &[&middle], &root).unwrap_err();
            let name = format!("CN={which}");
            match (index, error) {
                (0, PathError::Expired { subject, .. })
                | (1, PathError::NotYetValid { subject, .. }) => assert_eq!(subject, name),
                (_, error) => panic!("{which}: {error}"),
            }
        }
    }
}

#[test]
fn validity_includes_its_first_and_its_last_second() {
    let root = Authority::root_of(
        Template {
            not_before: "2020-01-01T00:00:00Z",
            not_after: "2040-01-01T00:00:00Z",
            ..Template::authority("root")
        },
        Key::p256(),
    );
    let leaf = root.leaf(&Template::leaf("leaf"));
    for (time, is_valid) in [
        ("2025-12-31T23:59:59Z", false),
        ("2026-01-01T00:00:00Z", true),
        ("2026-12-31T23:59:59Z", true),
        ("2027-01-01T00:00:00Z", false),
    ] {
        assert_eq!(
            build_at(&leaf, &[], &root, at(time)).is_ok(),
            is_valid,
            "{time}"
        );
    }
}

#[test]
fn a_critical_extension_nobody_understands_is_refused_anywhere() {
    let unknown = Extension {
        oid: "1.2.3.4",
        critical: true,
        value: vec![5, 0],
    };
    let with = |template: Template, extension: &Extension| Template {
        extensions: [template.extensions, vec![extension.clone()]].concat(),
        ..template
    };
    for which in ["root", "middle", "leaf"] {
        let change_if = |name: &str, template| {
            if name == which {
                with(template, &unknown)
            } else {
                template
            }
        };
        let root = Authority::root_of(change_if("root", Template::authority("root")), Key::p256());
        let middle = root.issue(change_if("middle", Template::authority("middle")));
        let leaf = middle.leaf(&change_if("leaf", Template::leaf("leaf")));
        let error = build(&leaf, &[&middle], &root).unwrap_err();
        assert_eq!(
            error,
            PathError::CriticalExtension {
                subject: format!("CN={which}"),
                oid: "1.2.3.4".into()
            }
        );
        let named = PathRules::end_entity().understanding(&["1.2.3.4"]);
        let above = [middle.certificate.clone()];
        let roots = [root.certificate.clone()];
        Path::build(&leaf, &above, &roots, &NO_CRLS, now(), &named).unwrap();
        let other = PathRules::end_entity().understanding(&["1.2.3.5"]);
        Path::build(&leaf, &above, &roots, &NO_CRLS, now(), &other).unwrap_err();
    }
    let root = Authority::root("root");
    let harmless = Extension {
        critical: false,
        ..unknown
    };
    let leaf = root.leaf(&with(Template::leaf("leaf"), &harmless));
    assert_eq!(leaf.extension("1.2.3.4"), Some(&[5, 0][..]));
    assert_eq!(leaf.extension("1.2.3"), None);
    build(&leaf, &[], &root).unwrap();
}

#[test]
fn constraints_on_names_are_refused_even_if_they_are_not_critical() {
    let root = Authority::root("root");
    let middle = root.issue(Template {
        extensions: vec![
            basic_constraints(true, None),
            Extension {
                oid: "2.5.29.30",
                critical: false,
                value: vec![0x30, 0],
            },
        ],
        ..Template::authority("middle")
    });
    let leaf = middle.leaf(&Template::leaf("leaf"));
    let error = build(&leaf, &[&middle], &root).unwrap_err();
    assert_eq!(
        error,
        PathError::NameConstraints {
            subject: "CN=middle".into()
        }
    );
}

#[test]
fn a_leaf_is_what_the_rules_say() {
    let root = Authority::root("root");
    let middle = root.issue(Template::authority("middle"));
    let error = build(&middle.certificate, &[], &root).unwrap_err();
    assert!(matches!(error, PathError::LeafKind { .. }), "{error}");
    let roots = [root.certificate.clone()];
    let authority = PathRules::authority();
    let check = |leaf: &Certificate| Path::build(leaf, &[], &roots, &NO_CRLS, now(), &authority);
    check(&middle.certificate).unwrap();
    let error = check(&root.leaf(&Template::leaf("leaf"))).unwrap_err();
    assert!(matches!(error, PathError::LeafKind { .. }), "{error}");
    // a root does not prove itself
    let error = check(&root.certificate).unwrap_err();
    assert!(matches!(error, PathError::NoIssuer { .. }), "{error}");
}

#[test]
fn the_certificate_of_an_issuer_that_fails_leaves_room_for_a_good_one_of_its_name() {
    let root = Authority::root("root");
    let key = Key::p256();
    let spki = key.spki();
    let good = root.issue_for(Template::authority("middle"), key);
    let expired = Template {
        not_after: "2026-02-01T00:00:00Z",
        ..Template::authority("middle")
    };
    let expired = Certificate::parse(&expired.signed("root", &root.key, &spki)).unwrap();
    let other = root.issue(Template::authority("middle"));
    let leaf = good.leaf(&Template::leaf("leaf"));
    let roots = [root.certificate.clone()];
    let rules = PathRules::end_entity();
    let above = [other.certificate, expired, good.certificate.clone()];
    let path = Path::build(&leaf, &above, &roots, &NO_CRLS, now(), &rules).unwrap();
    assert_eq!(path.issuer(), &good.certificate);
    Path::build(&leaf, &above[..2], &roots, &NO_CRLS, now(), &rules).unwrap_err();
}

#[test]
fn the_error_is_of_the_attempt_that_came_farthest() {
    let root = Authority::root("root");
    let key = Key::p256();
    let spki = key.spki();
    let foreign = Authority::root("root");
    let stranger = foreign.issue_for(Template::authority("middle"), key);
    let expired = Template {
        not_after: "2026-02-01T00:00:00Z",
        ..Template::authority("middle")
    };
    let expired = Certificate::parse(&expired.signed("root", &root.key, &spki)).unwrap();
    let leaf = stranger.leaf(&Template::leaf("leaf"));
    let roots = [root.certificate.clone()];
    for above in [
        [expired.clone(), stranger.certificate.clone()],
        [stranger.certificate.clone(), expired],
    ] {
        let error = Path::build(
            &leaf,
            &above,
            &roots,
            &NO_CRLS,
            now(),
            &PathRules::end_entity(),
        )
        .unwrap_err();
        assert!(
            matches!(&error, PathError::Signature { subject, .. } if subject == "CN=middle"),
            "{error}"
        );
    }
}

#[test]
fn a_path_is_no_longer_than_any_vendors() {
    let root = Authority::root("root");
    let mut chain: Vec<Authority> = Vec::new();
    for index in 0..MAX_PATH - 1 {
        let template = Template::authority(&format!("authority {index}"));
        chain.push(chain.last().unwrap_or(&root).issue(template));
    }
    let check = |length: usize| {
        let above: Vec<_> = chain[..length].iter().collect();
        let leaf = chain[length - 1].leaf(&Template::leaf("leaf"));
        build(&leaf, &above, &root)
    };
    assert_eq!(check(MAX_PATH - 2).unwrap().certificates().len(), MAX_PATH);
    let error = check(MAX_PATH - 1).unwrap_err();
    assert_eq!(error, PathError::TooLong { most: MAX_PATH });
}

#[test]
fn intermediates_are_bounded() {
    let (root, middle, leaf) = three();
    let above = vec![middle.certificate.clone(); MAX_INTERMEDIATES + 1];
    let roots = [root.certificate.clone()];
    let rules = PathRules::end_entity();
    Path::build(&leaf, &above[1..], &roots, &NO_CRLS, now(), &rules).unwrap();
    let error = Path::build(&leaf, &above, &roots, &NO_CRLS, now(), &rules).unwrap_err();
    assert_eq!(
        error,
        PathError::TooManyIntermediates {
            most: MAX_INTERMEDIATES
        }
    );
}

/// Certificates of one name and key issue one another in every order.
#[test]
fn certificates_that_issue_one_another_cost_a_bounded_number_of_signatures() {
    let root = Authority::root("root");
    let key = Key::p256();
    let mut above = Vec::new();
    for serial in 0..16 {
        let template = Template {
            serial: vec![serial],
            ..Template::authority("ring")
        };
        let der = template.signed("ring", &key, &key.spki());
        above.push(Certificate::parse(&der).unwrap());
    }
    let leaf = Template::leaf("leaf").signed("ring", &key, &Key::p256().spki());
    let leaf = Certificate::parse(&leaf).unwrap();
    let roots = [root.certificate];
    Path::build(
        &leaf,
        &above,
        &roots,
        &NO_CRLS,
        now(),
        &PathRules::end_entity(),
    )
    .unwrap_err();
}

#[test]
fn a_signature_by_another_key_of_the_name_is_refused() {
    let root = Authority::root("root");
    let namesake = Authority::root("root");
    let leaf = namesake.leaf(&Template::leaf("leaf"));
    let error = build(&leaf, &[], &root).unwrap_err();
    assert_eq!(
        error,
        PathError::Signature {
            subject: "CN=leaf".into(),
            issuer: "CN=root".into()
        }
    );
}

#[test]
fn an_algorithm_that_does_not_fit_the_issuers_key_is_refused() {
    let root = Authority::root("root");
    let leaf = root.leaf(&Template {
        inner_algorithm_der: Some(Algorithm::RsaPkcs1Sha256.der()),
        ..Template::leaf("leaf")
    });
    let error = build(&leaf, &[], &root).unwrap_err();
    assert!(matches!(error, PathError::Algorithm { .. }), "{error}");
}

#[test]
fn a_subject_without_a_name_is_told_by_its_serial_number() {
    let (root, ..) = three();
    let namesake = Authority::root("root");
    let leaf = namesake.leaf(&Template {
        serial: vec![0x01, 0xab],
        ..Template::leaf("")
    });
    let error = build(&leaf, &[], &root).unwrap_err();
    assert!(error.to_string().contains("serial 01ab"), "{error}");
}

#[test]
fn a_cache_remembers_signatures_of_paths_that_hold_and_nothing_else() {
    let (root, middle, leaf) = three();
    let roots = [root.certificate.clone()];
    let above = [middle.certificate.clone()];
    let rules = PathRules::end_entity();
    let cache = PathCache::default();
    assert!(cache.is_empty());

    // a path to no root of ours leaves nothing behind
    let (_, other_middle, other_leaf) = three();
    let build = |leaf: &Certificate, above: &[Certificate], now| {
        cache.build(leaf, above, &roots, &NO_CRLS, now, &rules)
    };
    build(&other_leaf, &[other_middle.certificate], now()).unwrap_err();
    assert!(cache.is_empty());

    build(&leaf, &above, now()).unwrap();
    assert_eq!(cache.len(), 2);
    let path = build(&leaf, &above, now()).unwrap();
    assert_eq!(path.certificates().len(), 3);
    assert_eq!(cache.len(), 2);

    // validity is looked at anew
    let error = build(&leaf, &above, at("2027-06-01T00:00:00Z")).unwrap_err();
    assert!(matches!(error, PathError::Expired { .. }), "{error}");
    // and revocation
    let crls = [
        root.crl(&super::ca::CrlTemplate::of(&[])),
        middle.crl(&super::ca::CrlTemplate::of(&[leaf.serial()])),
    ];
    let revocation = Revocation::Demand(&crls);
    let error = cache
        .build(&leaf, &above, &roots, &revocation, now(), &rules)
        .unwrap_err();
    assert!(matches!(error, PathError::Revoked { .. }), "{error}");
    // and the root
    let stranger = [Authority::root("root").certificate];
    cache
        .build(&leaf, &above, &stranger, &NO_CRLS, now(), &rules)
        .unwrap_err();
    // and a leaf with another signature over the same content
    let mut der = leaf.der().to_vec();
    let last = der.len() - 1;
    der[last] ^= 1;
    let error = build(&Certificate::parse(&der).unwrap(), &above, now()).unwrap_err();
    assert!(matches!(error, PathError::Signature { .. }), "{error}");
}

#[test]
fn a_cache_forgets_the_oldest() {
    let root = Authority::root("root");
    let roots = [root.certificate.clone()];
    let cache = PathCache::new(NonZeroUsize::new(2).unwrap());
    let rules = PathRules::end_entity();
    for serial in 0..5 {
        let leaf = root.leaf(&Template {
            serial: vec![serial],
            ..Template::leaf("leaf")
        });
        for _ in 0..2 {
            cache
                .build(&leaf, &[], &roots, &NO_CRLS, now(), &rules)
                .unwrap();
        }
        assert_eq!(cache.len(), usize::from(serial + 1).min(2));
    }
}

/// A way that ends nowhere leaves nothing behind: neither in the path, nor for the count of authorities below another one.
#[test]
fn a_way_that_was_given_up_is_not_part_of_the_path() {
    let root = Authority::root_of(
        Template {
            extensions: vec![basic_constraints(true, Some(1)), key_usage(0x06)],
            ..Template::authority("root")
        },
        Key::p256(),
    );
    let middle = root.issue(Template::authority("middle"));
    let leaf = middle.leaf(&Template::leaf("leaf"));
    // the same key, certified by an authority that nobody has
    let nobody = Authority::root("nobody");
    let der = Template::authority("middle").signed("nobody", &nobody.key, &middle.key.spki());
    let stray = Certificate::parse(&der).unwrap();
    for above in [
        [stray.clone(), middle.certificate.clone()],
        [middle.certificate.clone(), stray],
    ] {
        let path = Path::build(
            &leaf,
            &above,
            &[root.certificate.clone()],
            &NO_CRLS,
            now(),
            &PathRules::end_entity(),
        )
        .unwrap();
        assert_eq!(
            path.certificates(),
            [&leaf, &middle.certificate, &root.certificate].map(Clone::clone)
        );
        assert_eq!(path.issuer(), &middle.certificate);
    }
}
