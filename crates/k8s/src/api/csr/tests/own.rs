//! Certificates of an earlier node of the name.

use super::*;

/// A certificate as the signer writes it. Any will do: what counts is which.
fn certificate() -> String {
    let params = CertificateParams::new(vec!["worker-0".to_owned()]).unwrap();
    params
        .self_signed(&KeyPair::generate().unwrap())
        .unwrap()
        .pem()
}

fn id(certificate: &str) -> CertificateId {
    CertificateId::of_first(certificate.as_bytes()).unwrap()
}

/// What newer API servers add to a request.
fn credential(certificate: &str) -> Vec<String> {
    let der = pem::parse(certificate).unwrap().into_contents();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &der);
    vec![format!("X509SHA256={}", hex::encode(hash))]
}

fn facts_with(role: Role, standing: Standing, certificates: &[&str]) -> Facts {
    let mut facts = facts();
    let known = facts.nodes.values_mut().next().unwrap();
    known.identity.role = role;
    known.standing = standing;
    known.certificates = certificates.iter().map(|one| id(one)).collect();
    facts
}

/// The decisions on a renewal and on a serving certificate, which are always of one kind.
fn denial(facts: &Facts, credential: Option<Vec<String>>) -> Option<Denial> {
    let [renewal, serving] = [false, true].map(|serving| {
        let sans = if serving {
            vec![dns("worker-0")]
        } else {
            Vec::new()
        };
        let mut spec = Ask { sans, ..ask() }.spec(NODE, serving);
        let key = "authentication.kubernetes.io/credential-id".to_owned();
        spec.extra = credential.clone().map(|values| [(key, values)].into());
        match decide(&spec, facts) {
            Decision::Deny(denial) => Some(denial),
            decision => {
                assert!(matches!(decision, Decision::Approve(_)));
                None
            }
        }
    });
    assert_eq!(renewal, serving);
    renewal
}

#[test]
fn nobody_asks_as_a_node_that_has_no_certificate_yet() {
    let none_issued = Some(Denial::NoneIssued("worker-0".parse().unwrap()));
    let (own, other) = (certificate(), certificate());
    for role in [Role::Worker, Role::ControlPlane] {
        let facts = facts_with(role, Standing::Pending, &[]);
        assert_eq!(denial(&facts, None), none_issued);
        assert_eq!(denial(&facts, Some(credential(&other))), none_issued);
        // its own token is what gives it one
        assert_eq!(
            decide(&ask().spec(TOKEN, false), &facts),
            approved(Purpose::FirstClient)
        );
        let facts = facts_with(role, Standing::Pending, &[&own]);
        assert_eq!(denial(&facts, None), None);
    }
}

#[test]
fn only_a_certificate_that_was_issued_under_the_record_asks_as_its_node() {
    let not_its_own = Some(Denial::NotItsOwn("worker-0".parse().unwrap()));
    let (own, before, other) = (certificate(), certificate(), certificate());
    for (role, standing) in [
        (Role::Worker, Standing::Pending),
        (Role::Worker, Standing::Joined),
        (Role::ControlPlane, Standing::Pending),
    ] {
        let facts = facts_with(role, standing, &[&own, &before]);
        for certificate in [&own, &before] {
            assert_eq!(denial(&facts, Some(credential(certificate))), None);
        }
        for foreign in [
            credential(&other),
            Vec::new(),
            vec![String::new()],
            vec![credential(&own)[0].replace("X509SHA256=", "JTI=")],
            vec![credential(&own)[0].clone(), credential(&own)[0].clone()],
        ] {
            assert_eq!(
                denial(&facts, Some(foreign.clone())),
                not_its_own,
                "{foreign:?}"
            );
        }
    }
    // a joined worker without any is none that could have asked
    let facts = facts_with(Role::Worker, Standing::Joined, &[]);
    assert_eq!(denial(&facts, Some(credential(&own))), not_its_own);
    // a control plane's own authority may have issued it
    let facts = facts_with(Role::ControlPlane, Standing::Joined, &[&own]);
    assert_eq!(denial(&facts, Some(credential(&other))), None);
}

#[test]
fn a_certificate_is_known_by_its_der() {
    let one = certificate();
    let chain = format!("{one}{}", certificate());
    assert_eq!(id(&chain), id(&one));
    assert_eq!(CertificateId::of_first(b"no certificate"), None);
    let key = KeyPair::generate().unwrap().serialize_pem();
    assert_eq!(CertificateId::of_first(key.as_bytes()), None);
}
