//! One lie per CRL, under a test root.

use attest::x509::{
    Certificate, Crl, CrlFault, CrlScope, Path, PathError, PathRules, Revocation, X509Error,
};

use super::at;
use super::ca::{
    Algorithm, Authority, CrlTemplate, Extension, Key, Template, basic_constraints, key_usage,
    name, now, oid, seq, time, tlv,
};

struct Three {
    root: Authority,
    middle: Authority,
    leaf: Certificate,
}

impl Three {
    fn new() -> Self {
        let root = Authority::root("root");
        let middle = root.issue(Template::authority("middle"));
        let leaf = middle.leaf(&Template::leaf("leaf"));
        Self { root, middle, leaf }
    }

    fn build(&self, crls: &[Crl], rules: &PathRules) -> Result<Path, PathError> {
        Path::build(
            &self.leaf,
            &[self.middle.certificate.clone()],
            &[self.root.certificate.clone()],
            &Revocation::Demand(crls),
            now(),
            rules,
        )
    }

    /// The fault of the middle's CRL, with a good one of the root.
    fn fault(&self, crl: Crl) -> CrlFault {
        let crls = [self.root.crl(&CrlTemplate::of(&[])), crl];
        match self.build(&crls, &PathRules::end_entity()) {
            Err(PathError::Crl {
                issuer,
                subject,
                fault,
            }) => {
                assert_eq!(
                    (issuer.as_str(), subject.as_str()),
                    ("CN=middle", "CN=leaf")
                );
                fault
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_issuer_needs_a_crl() {
    let three = Three::new();
    let good = || {
        [
            three.root.crl(&CrlTemplate::of(&[])),
            three.middle.crl(&CrlTemplate::of(&[])),
        ]
    };
    three.build(&good(), &PathRules::end_entity()).unwrap();
    for (kept, missing) in [(0, "CN=middle"), (1, "CN=root")] {
        let crls = good();
        let error = three
            .build(&crls[kept..=kept], &PathRules::end_entity())
            .unwrap_err();
        match error {
            PathError::Crl {
                issuer,
                fault: CrlFault::Missing,
                ..
            } => assert_eq!(issuer, missing),
            other => panic!("{other}"),
        }
    }
    three.build(&[], &PathRules::end_entity()).unwrap_err();
}

#[test]
fn rules_for_authorities_spare_the_leaf_only() {
    let three = Three::new();
    let rules = PathRules::end_entity().crls_for(CrlScope::Authorities);
    let roots = [three.root.crl(&CrlTemplate::of(&[]))];
    three.build(&roots, &rules).unwrap();
    let middles = [three.middle.crl(&CrlTemplate::of(&[]))];
    let error = three.build(&middles, &rules).unwrap_err();
    assert!(
        matches!(
            error,
            PathError::Crl {
                fault: CrlFault::Missing,
                ..
            }
        ),
        "{error}"
    );
    // one that is there counts all the same
    let crls = [
        three.root.crl(&CrlTemplate::of(&[])),
        three.middle.crl(&CrlTemplate::of(&[three.leaf.serial()])),
    ];
    let error = three.build(&crls, &rules).unwrap_err();
    assert!(matches!(error, PathError::Revoked { .. }), "{error}");
    let crls = [
        three.root.crl(&CrlTemplate::of(&[])),
        three.middle.crl(&CrlTemplate {
            next_update: Some("2026-05-02T00:00:00Z"),
            ..CrlTemplate::of(&[])
        }),
    ];
    let error = three.build(&crls, &rules).unwrap_err();
    assert!(
        matches!(
            error,
            PathError::Crl {
                fault: CrlFault::Stale { .. },
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_revoked_certificate_is_refused_wherever_it_stands() {
    let three = Three::new();
    let leaf = [
        three.root.crl(&CrlTemplate::of(&[&[1], &[0x7f, 1]])),
        three
            .middle
            .crl(&CrlTemplate::of(&[&[9], three.leaf.serial(), &[3]])),
    ];
    let error = three.build(&leaf, &PathRules::end_entity()).unwrap_err();
    assert_eq!(
        error,
        PathError::Revoked {
            subject: "CN=leaf".into(),
            serial: "11".into(),
            issuer: "CN=middle".into()
        }
    );
    let middle = [
        three.root.crl(&CrlTemplate::of(&[&[0x22]])),
        three.middle.crl(&CrlTemplate::of(&[])),
    ];
    let error = three.build(&middle, &PathRules::end_entity()).unwrap_err();
    assert_eq!(
        error,
        PathError::Revoked {
            subject: "CN=middle".into(),
            serial: "22".into(),
            issuer: "CN=root".into()
        }
    );
    // the serial number of one issuer means nothing to another
    let swapped = [
        three.root.crl(&CrlTemplate::of(&[three.leaf.serial()])),
        three.middle.crl(&CrlTemplate::of(&[&[0x22]])),
    ];
    three.build(&swapped, &PathRules::end_entity()).unwrap();
}

#[test]
fn a_crl_that_has_run_out_still_revokes() {
    let three = Three::new();
    for next_update in [Some("2026-05-02T00:00:00Z"), None] {
        let old = CrlTemplate {
            next_update,
            ..CrlTemplate::of(&[three.leaf.serial()])
        };
        let crls = [
            three.root.crl(&CrlTemplate::of(&[])),
            three.middle.crl(&CrlTemplate::of(&[])),
            three.middle.crl(&old),
        ];
        let error = three.build(&crls, &PathRules::end_entity()).unwrap_err();
        assert!(matches!(error, PathError::Revoked { .. }), "{error}");
    }
    // one of the future does not speak yet
    let future = CrlTemplate {
        this_update: "2026-06-15T00:00:00Z",
        ..CrlTemplate::of(&[three.leaf.serial()])
    };
    let crls = [
        three.root.crl(&CrlTemplate::of(&[])),
        three.middle.crl(&CrlTemplate::of(&[])),
        three.middle.crl(&future),
    ];
    three.build(&crls, &PathRules::end_entity()).unwrap();
}

#[test]
fn one_good_crl_among_bad_ones_is_enough() {
    let three = Three::new();
    let stale = CrlTemplate {
        next_update: Some("2026-05-02T00:00:00Z"),
        ..CrlTemplate::of(&[])
    };
    let good = CrlTemplate::of(&[]);
    for order in [[&stale, &good], [&good, &stale]] {
        let mut crls = vec![three.root.crl(&CrlTemplate::of(&[]))];
        crls.extend(order.map(|template| three.middle.crl(template)));
        three.build(&crls, &PathRules::end_entity()).unwrap();
    }
}

/// One that was made before a revocation holds until it runs out, unless a newer one is demanded.
#[test]
fn a_crl_must_not_be_older_than_demanded() {
    let three = Three::new();
    let rules = |from: &str| PathRules::end_entity().crls_from(at(from));
    let crls = [
        three.root.crl(&CrlTemplate::of(&[])),
        three.middle.crl(&CrlTemplate::of(&[])),
    ];
    three.build(&crls, &rules("2026-05-01T00:00:00Z")).unwrap();
    let error = three
        .build(&crls, &rules("2026-05-01T00:00:01Z"))
        .unwrap_err();
    match error {
        PathError::Crl { fault, .. } => assert_eq!(
            fault,
            CrlFault::TooOld {
                this_update: at("2026-05-01T00:00:00Z"),
                demanded: at("2026-05-01T00:00:01Z"),
            }
        ),
        other => panic!("{other}"),
    }
    // what it revokes stays revoked
    let crls = [
        three.root.crl(&CrlTemplate::of(&[])),
        three.middle.crl(&CrlTemplate::of(&[three.leaf.serial()])),
    ];
    let error = three
        .build(&crls[1..], &rules("2026-05-15T00:00:00Z"))
        .unwrap_err();
    assert!(matches!(error, PathError::Revoked { .. }), "{error}");
}

#[test]
fn a_crl_must_have_begun_and_not_run_out() {
    let three = Three::new();
    let crl = |this_update, next_update| {
        three.middle.crl(&CrlTemplate {
            this_update,
            next_update,
            ..CrlTemplate::of(&[])
        })
    };
    let stale = crl("2026-05-01T00:00:00Z", Some("2026-05-31T23:59:59Z"));
    assert!(matches!(three.fault(stale), CrlFault::Stale { .. }));
    let early = crl("2026-06-01T00:00:01Z", Some("2026-07-01T00:00:00Z"));
    assert!(matches!(three.fault(early), CrlFault::NotYetValid { .. }));
    let endless = crl("2026-05-01T00:00:00Z", None);
    assert_eq!(endless.next_update(), None);
    assert_eq!(three.fault(endless), CrlFault::NoNextUpdate);
    // the first and the last second count
    for (this_update, next_update) in [
        ("2026-06-01T00:00:00Z", "2026-07-01T00:00:00Z"),
        ("2026-05-01T00:00:00Z", "2026-06-01T00:00:00Z"),
    ] {
        let crls = [
            three.root.crl(&CrlTemplate::of(&[])),
            crl(this_update, Some(next_update)),
        ];
        three.build(&crls, &PathRules::end_entity()).unwrap();
    }
}

#[test]
fn a_crl_of_another_key_of_the_name_is_refused() {
    let three = Three::new();
    let namesake = Authority::root("middle");
    assert_eq!(
        three.fault(namesake.crl(&CrlTemplate::of(&[]))),
        CrlFault::Signature
    );
    // and cannot revoke
    let crls = [
        three.root.crl(&CrlTemplate::of(&[])),
        three.middle.crl(&CrlTemplate::of(&[])),
        namesake.crl(&CrlTemplate::of(&[three.leaf.serial()])),
    ];
    three.build(&crls, &PathRules::end_entity()).unwrap();
}

#[test]
fn crls_of_one_name_cost_a_bounded_number_of_signatures() {
    let three = Three::new();
    let namesake = Authority::root("middle");
    let build = |count: usize| {
        let mut crls = vec![three.root.crl(&CrlTemplate::of(&[]))];
        crls.extend((0..count).map(|_| namesake.crl(&CrlTemplate::of(&[]))));
        crls.push(three.middle.crl(&CrlTemplate::of(&[])));
        three.build(&crls, &PathRules::end_entity())
    };
    build(8).unwrap();
    build(64).unwrap_err();
}

#[test]
fn a_crl_whose_bits_were_flipped_is_refused() {
    let three = Three::new();
    let der = CrlTemplate::of(&[&[5]]).signed("middle", &three.middle.key);
    let mut refused = 0;
    for index in 0..der.len() {
        let mut flipped = der.clone();
        flipped[index] ^= 0x01;
        let Ok(crl) = Crl::parse(&flipped) else {
            continue;
        };
        let crls = [three.root.crl(&CrlTemplate::of(&[])), crl];
        assert!(
            three.build(&crls, &PathRules::end_entity()).is_err(),
            "byte {index}"
        );
        refused += 1;
    }
    assert!(refused > 60, "{refused} flips");
}

#[test]
fn an_issuer_whose_key_may_not_sign_crls_has_none() {
    let root = Authority::root("root");
    // keyCertSign alone, as AMD's ASK has
    let middle = root.issue(Template {
        extensions: vec![basic_constraints(true, None), key_usage(0x04)],
        ..Template::authority("middle")
    });
    let leaf = middle.leaf(&Template::leaf("leaf"));
    let crl = middle.crl(&CrlTemplate::of(&[]));
    let three = Three { root, middle, leaf };
    assert_eq!(three.fault(crl), CrlFault::MayNotSign);
}

#[test]
fn a_crl_signed_by_an_unfit_algorithm_is_refused() {
    let three = Three::new();
    let crl = three.middle.crl(&CrlTemplate {
        algorithm: Some(Algorithm::RsaPkcs1Sha256),
        ..CrlTemplate::of(&[])
    });
    assert_eq!(three.fault(crl), CrlFault::Algorithm);
}

#[test]
fn lists_that_are_not_the_complete_list_of_their_issuer_do_not_parse() {
    let key = Key::p256();
    let extension = |oid, critical| Extension {
        oid,
        critical,
        value: vec![0x30, 0],
    };
    let refused = |template: &CrlTemplate, oid: &str| {
        let error = Crl::parse(&template.signed("root", &key)).unwrap_err();
        assert_eq!(error, X509Error::CrlExtension { oid: oid.into() });
    };
    // delta, partial or indirect; unknown
    for (oid, critical) in [
        ("2.5.29.27", true),
        ("2.5.29.27", false),
        ("2.5.29.28", true),
        ("2.5.29.28", false),
        ("1.2.3.4", true),
    ] {
        refused(
            &CrlTemplate {
                extensions: vec![extension(oid, critical)],
                ..CrlTemplate::of(&[])
            },
            oid,
        );
    }
    // an entry of another issuer; unknown
    for (oid, critical) in [("2.5.29.29", true), ("2.5.29.29", false), ("1.2.3.4", true)] {
        refused(
            &CrlTemplate {
                revoked: vec![(vec![1], vec![extension(oid, critical)])],
                ..CrlTemplate::of(&[])
            },
            oid,
        );
    }
    // a reason, which is not critical, is carried
    let template = CrlTemplate {
        revoked: vec![(
            vec![1],
            vec![Extension {
                oid: "2.5.29.21",
                critical: false,
                value: vec![0x0a, 1, 1],
            }],
        )],
        ..CrlTemplate::of(&[])
    };
    let crl = Crl::parse(&template.signed("root", &key)).unwrap();
    assert!(crl.revokes(&[1]) && !crl.revokes(&[2]));
}

#[test]
fn an_entry_holds_whatever_zeros_lead_its_serial_number() {
    let crl = |serials: &[&[u8]]| {
        let key = Key::p256();
        Crl::parse(&CrlTemplate::of(serials).signed("root", &key)).unwrap()
    };
    let list = crl(&[&[0, 0x80, 1], &[7], &[0x12, 0x34]]);
    assert_eq!(list.len(), 3);
    assert!(!list.is_empty());
    for serial in [&[0, 0x80, 1][..], &[0x80, 1], &[7], &[0, 7], &[0x12, 0x34]] {
        assert!(list.revokes(serial), "{serial:?}");
    }
    for serial in [&[0x80][..], &[1], &[7, 0], &[0x12], &[0x34], &[]] {
        assert!(!list.revokes(serial), "{serial:?}");
    }
    assert!(crl(&[]).is_empty());
}

#[test]
fn a_crl_says_who_and_when() {
    let crl = Authority::root("root").crl(&CrlTemplate::of(&[]));
    assert_eq!(crl.issuer().common_name(), Some("root"));
    assert_eq!(crl.this_update(), at("2026-05-01T00:00:00Z"));
    assert_eq!(crl.next_update(), Some(at("2026-07-01T00:00:00Z")));
    assert_eq!(crl.number(), Some(&[7][..]));
}

#[test]
fn versions_of_crls_beyond_the_second_do_not_exist() {
    let key = Key::p256();
    let parse = |version| {
        let template = CrlTemplate {
            version,
            extensions: vec![],
            ..CrlTemplate::of(&[])
        };
        Crl::parse(&template.signed("root", &key))
    };
    parse(1).unwrap();
    parse(2).unwrap();
    assert!(matches!(
        parse(3),
        Err(X509Error::Version { version: 3, .. })
    ));
}

#[test]
fn a_crl_has_a_bound_and_an_end() {
    let key = Key::p256();
    let der = CrlTemplate::of(&[]).signed("root", &key);
    let trailing = [der.as_slice(), &[0]].concat();
    assert!(matches!(Crl::parse(&trailing), Err(X509Error::Der(_))));
    let huge = tlv(0x30, &vec![0; attest::x509::MAX_CRL]);
    assert!(matches!(Crl::parse(&huge), Err(X509Error::TooLarge { .. })));
    // a long one is read
    let serials: Vec<Vec<u8>> = (0..20_000_u32).map(|n| n.to_be_bytes().to_vec()).collect();
    let serials: Vec<&[u8]> = serials.iter().map(Vec::as_slice).collect();
    let crl = Crl::parse(&CrlTemplate::of(&serials).signed("root", &key)).unwrap();
    assert_eq!(crl.len(), 20_000);
    assert!(crl.revokes(&[0x4e, 0x1f]) && !crl.revokes(&[0x4e, 0x20]));
}

#[test]
fn not_looking_at_revocation_has_a_name_of_its_own() {
    let three = Three::new();
    let path = Path::build(
        &three.leaf,
        &[three.middle.certificate.clone()],
        &[three.root.certificate.clone()],
        &Revocation::DangerousNotLookedAt,
        now(),
        &PathRules::end_entity(),
    );
    path.unwrap();
}

/// Faults of lists are passed over where none is demanded; the word "revoked" of a good one never is.
#[test]
fn lists_that_are_not_demanded_refuse_what_they_revoke_and_nothing_else() {
    let three = Three::new();
    let namesake = Authority::root("root");
    let build = |crls: &[Crl]| {
        Path::build(
            &three.leaf,
            std::slice::from_ref(&three.middle.certificate),
            std::slice::from_ref(&three.root.certificate),
            &Revocation::IfGiven(crls),
            now(),
            &PathRules::end_entity(),
        )
    };
    let none = CrlTemplate::of(&[]);
    let future = CrlTemplate {
        this_update: "2026-06-15T00:00:00Z",
        ..CrlTemplate::of(&[three.middle.certificate.serial()])
    };
    build(&[]).unwrap();
    build(&[three.middle.crl(&none), three.root.crl(&none)]).unwrap();
    build(&[three.root.crl(&future)]).unwrap();
    let forged = || namesake.crl(&CrlTemplate::of(&[three.middle.certificate.serial()]));
    build(&[forged()]).unwrap();

    let unfit = three.middle.crl(&CrlTemplate {
        algorithm: Some(Algorithm::RsaPkcs1Sha256),
        ..CrlTemplate::of(&[])
    });
    let stale = CrlTemplate {
        next_update: Some("2026-05-02T00:00:00Z"),
        ..CrlTemplate::of(&[three.middle.certificate.serial()])
    };
    let revoking = CrlTemplate::of(&[three.middle.certificate.serial()]);
    for template in [&revoking, &stale] {
        let error = build(&[unfit.clone(), forged(), three.root.crl(template)]).unwrap_err();
        assert!(matches!(error, PathError::Revoked { .. }), "{error}");
    }

    // nor may it hide behind others that cost all signatures
    let mut crls: Vec<Crl> = (0..64).map(|_| forged()).collect();
    crls.push(three.root.crl(&revoking));
    let error = build(&crls).unwrap_err();
    assert!(
        matches!(
            error,
            PathError::Crl {
                fault: CrlFault::TooMuchWork,
                ..
            }
        ),
        "{error}"
    );
    // not even behind a good one, where a list is demanded
    crls.insert(0, three.root.crl(&none));
    crls.insert(0, three.middle.crl(&none));
    assert!(three.build(&crls, &PathRules::end_entity()).is_err());
}

/// A list of nearly [`attest::x509::MAX_CRL`] bytes, whose issuer, entries and extensions are these. Nobody signed it.
fn unsigned_crl(issuer: &[u8], entries: &[u8], extensions: &[u8]) -> Vec<u8> {
    let algorithm = seq(&[&oid("1.2.840.10045.4.3.2")]);
    let to_be_signed = seq(&[
        &tlv(2, &[1]),
        &algorithm,
        issuer,
        &time("2026-05-01T00:00:00Z"),
        &time("2026-07-01T00:00:00Z"),
        &seq(&[entries]),
        &tlv(0xa0, &seq(&[extensions])),
    ]);
    seq(&[&to_be_signed, &algorithm, &tlv(3, &[0, 1])])
}

/// Each of these would cost time by the square of its length. They are refused where the bound is passed.
#[test]
fn a_crl_that_is_one_long_list_inside_is_refused_by_its_bound() {
    const ROOM: usize = attest::x509::MAX_CRL - 1024;
    let refused = |der: &[u8]| {
        assert!(der.len() <= attest::x509::MAX_CRL);
        Crl::parse(der).unwrap_err().to_string()
    };
    let issuer = name("root");
    assert!(Crl::parse(&unsigned_crl(&issuer, &[], &[])).is_ok());

    let attribute = |kind: &[u8]| tlv(0x31, &seq(&[&tlv(6, kind), &tlv(0x0c, b"x")]));
    let issuer_of = |attributes: &[u8]| unsigned_crl(&seq(&[attributes]), &[], &[]);
    assert!(Crl::parse(&issuer_of(&attribute(&[0x2a; 64]))).is_ok());
    for octets in [65, ROOM] {
        assert_eq!(
            refused(&issuer_of(&attribute(&vec![0x2a; octets]))),
            "the issuer is not a valid object identifier",
            "{octets}"
        );
    }

    let attribute = attribute(&[0x2a]);
    assert!(Crl::parse(&issuer_of(&attribute.repeat(64))).is_ok());
    for count in [65, ROOM / attribute.len()] {
        assert_eq!(
            refused(&issuer_of(&attribute.repeat(count))),
            "the issuer has more than 64 members",
            "{count}"
        );
    }

    let different = |count: usize| -> Vec<u8> {
        let of = |n: usize| {
            let octet = |bits: usize| u8::try_from(bits & 0x7f).unwrap();
            let arc = [0x2a, 0x81 + octet(n >> 14), 0x80 | octet(n >> 7), octet(n)];
            seq(&[&tlv(6, &arc), &tlv(4, &[])])
        };
        (0..count).flat_map(of).collect()
    };
    let entry = |extensions: &[u8]| {
        seq(&[
            &tlv(2, &[5]),
            &time("2026-05-01T00:00:00Z"),
            &seq(&[extensions]),
        ])
    };
    assert!(Crl::parse(&unsigned_crl(&issuer, &[], &different(64))).is_ok());
    assert!(Crl::parse(&unsigned_crl(&issuer, &entry(&different(64)), &[])).is_ok());
    for count in [65, ROOM / 10] {
        let extensions = different(count);
        assert_eq!(
            refused(&unsigned_crl(&issuer, &[], &extensions)),
            "the extensions has more than 64 members",
            "{count}"
        );
        assert_eq!(
            refused(&unsigned_crl(&issuer, &entry(&extensions), &[])),
            "an entry of the CRL has more than 64 members",
            "{count}"
        );
    }
}

/// Who keeps lists checks them one by one.
#[test]
fn a_list_alone_is_checked_by_name_key_and_use() {
    let root = Authority::root("root");
    let list = root.crl(&CrlTemplate::of(&[&[5]]));
    assert_eq!(list.check_signature(&root.certificate), Ok(()));

    let other_key = Authority::root("root");
    assert_eq!(
        list.check_signature(&other_key.certificate),
        Err(CrlFault::Signature)
    );
    // the same key under another name
    let spki = root.key.spki();
    let der = Template::authority("another").signed("another", &root.key, &spki);
    let other_name = Certificate::parse(&der).unwrap();
    assert_eq!(list.check_signature(&other_name), Err(CrlFault::Signature));
    // a key for certificates alone; one whose use is not said
    let with = |extensions| {
        let template = Template {
            extensions,
            ..Template::authority("root")
        };
        Certificate::parse(&template.signed("root", &root.key, &spki)).unwrap()
    };
    assert_eq!(
        list.check_signature(&with(vec![basic_constraints(true, None), key_usage(0x04)])),
        Err(CrlFault::MayNotSign)
    );
    assert_eq!(
        list.check_signature(&with(vec![basic_constraints(true, None)])),
        Ok(())
    );
    // an algorithm that is not of the key
    let key = Key::rsa();
    let der = Template::authority("root").signed("root", &key, &key.spki());
    assert_eq!(
        list.check_signature(&Certificate::parse(&der).unwrap()),
        Err(CrlFault::Algorithm)
    );
}

#[test]
fn the_bound_of_a_list_is_exact() {
    use attest::x509::MAX_CRL;
    // a body that is no list at all is told apart from one that is too long
    for size in [MAX_CRL - 1, MAX_CRL, MAX_CRL + 1] {
        let mut bytes = vec![0; size];
        bytes[0] = 0x30;
        let error = Crl::parse(&bytes).unwrap_err();
        assert_eq!(
            matches!(error, X509Error::TooLarge { most: MAX_CRL, .. }),
            size > MAX_CRL,
            "{size}: {error}"
        );
    }
}

#[test]
fn nothing_stands_behind_the_fields_of_a_list() {
    let algorithm = seq(&[&oid("1.2.840.10045.4.3.2")]);
    let list = |more: &[u8]| {
        let to_be_signed = seq(&[
            &tlv(2, &[1]),
            &algorithm,
            &name("root"),
            &time("2026-05-01T00:00:00Z"),
            &time("2026-07-01T00:00:00Z"),
            more,
        ]);
        Crl::parse(&seq(&[&to_be_signed, &algorithm, &tlv(3, &[0, 1])]))
    };
    assert!(list(&[]).is_ok());
    assert!(list(&tlv(5, &[])).is_err());
    assert!(list(&tlv(0xa1, &[])).is_err());

    let number = |value: Vec<u8>| {
        let template = CrlTemplate {
            extensions: vec![Extension {
                oid: "2.5.29.20",
                critical: false,
                value,
            }],
            ..CrlTemplate::of(&[])
        };
        Crl::parse(&template.signed("root", &Key::p256()))
    };
    assert_eq!(number(tlv(2, &[7])).unwrap().number(), Some(&[7][..]));
    assert!(number([tlv(2, &[7]), tlv(5, &[])].concat()).is_err());
}
