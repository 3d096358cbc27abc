//! Who may certify attestation keys, and whose lists of revoked ones are demanded.

use attest::tpm::AkAuthorities;
use attest::x509::{Crl, Revocation};
use attest::{azure, gcp};

use crate::x509::ca::{Authority, CrlTemplate};

#[test]
fn every_built_in_authority_is_there() {
    let azure = azure::authorities();
    assert_eq!((azure.roots().len(), azure.intermediates().len()), (1, 5));
    let google = gcp::authorities();
    assert_eq!((google.roots().len(), google.intermediates().len()), (2, 3));
    for root in azure.roots().iter().chain(google.roots()) {
        assert_eq!(root.subject(), root.issuer());
        assert!(root.is_ca());
    }
    let names: Vec<&str> = azure
        .intermediates()
        .iter()
        .filter_map(|it| it.subject().common_name())
        .collect();
    assert_eq!(
        names,
        [
            "Global Virtual TPM CA - 01",
            "Global Virtual TPM CA - 03",
            "Azure Cloud Virtual TPM CA 2025",
            "Azure Cloud Virtual TPM CA - 11",
            "Azure Cloud Virtual TPM CA - 24",
        ]
    );
}

/// One list of an authority, wherever it stands, makes those of all demanded. Without one none is, but a list that is there is looked at.
#[test]
fn lists_are_demanded_once_one_is_of_an_authority() {
    let root = Authority::root("Root");
    let of_root = root.crl(&CrlTemplate::of(&[]));
    let of_intermediate = list_in_the_name_of("Global Virtual TPM CA - 03");
    let of_stranger = Authority::root("Stranger").crl(&CrlTemplate::of(&[]));
    let (own, built_in) = (
        AkAuthorities::of(vec![root.certificate]),
        azure::authorities(),
    );
    for (authorities, lists, demanded) in [
        (&own, vec![&of_root], true),
        (&own, vec![&of_stranger, &of_root], true),
        (&built_in, vec![&of_intermediate], true),
        (&built_in, vec![&of_stranger, &of_intermediate], true),
        (&own, vec![], false),
        (&own, vec![&of_stranger], false),
        (&built_in, vec![&of_root, &of_stranger], false),
    ] {
        let lists: Vec<Crl> = lists.into_iter().cloned().collect();
        let (is_demanded, taken) = match authorities.revocation(&lists) {
            Revocation::Demand(taken) => (true, taken),
            Revocation::IfGiven(taken) => (false, taken),
            Revocation::DangerousNotLookedAt => panic!("lists that are there are not looked at"),
        };
        assert_eq!(is_demanded, demanded);
        assert_eq!(taken.len(), lists.len());
    }
}

/// A list in the name of an authority that is built in, as that one writes its name. Who signed it is for the path to find out.
fn list_in_the_name_of(name: &str) -> Crl {
    let stranger = Authority::root(name);
    let mut der = CrlTemplate::of(&[]).signed(name, &stranger.key);
    let text = der.windows(name.len()).position(|it| it == name.as_bytes());
    // UTF8String to PrintableString
    der[text.unwrap() - 2] = 0x13;
    Crl::parse(&der).unwrap()
}
