//! Certificates, CRLs and chains from a peer: a row of certificates, the first one the leaf, and what follows them a CRL.
#![cfg_attr(fuzzing, no_main)]

use attest::x509::{Certificate, Crl, MAX_INTERMEDIATES, Path, PathRules, Revocation};

/// The vendors' roots of the seeds.
const ROOTS: [&[u8]; 3] = [
    include_bytes!("../../crates/attest/testdata/evidence/roots/amd/ark-genoa.der"),
    include_bytes!("../../crates/attest/testdata/evidence/roots/intel/sgx-root-ca.der"),
    include_bytes!("../../crates/attest/testdata/evidence/roots/nvidia/device-root.der"),
];

fuzz::fuzz_target!(|bytes: &[u8]| {
    drop(Certificate::chain_from_pem(bytes, 8));
    drop(Crl::parse(bytes));
    let mut row = Vec::new();
    let mut rest = bytes;
    while let Ok((certificate, after)) = Certificate::parse_prefix(rest) {
        assert_eq!(
            certificate.der().len() + after.len(),
            rest.len(),
            "a certificate has its bytes"
        );
        let again = Certificate::parse(certificate.der()).expect("what was read reads again");
        assert_eq!(again, certificate);
        drop(format!(
            "{certificate:?} {} {:?}",
            certificate.issuer(),
            certificate.public_key()
        ));
        row.push(certificate);
        rest = after;
    }
    let Some((leaf, above)) = row.split_first() else {
        return;
    };
    let roots: Vec<Certificate> = ROOTS
        .iter()
        .map(|der| Certificate::parse(der).expect("a vendor's root"))
        .collect();
    let crls: Vec<Crl> = Crl::parse(rest).into_iter().collect();
    for crl in &crls {
        std::hint::black_box(crl.revokes(leaf.serial()));
    }
    let above = above.get(..MAX_INTERMEDIATES).unwrap_or(above);
    let rules = [PathRules::end_entity(), PathRules::authority()];
    for revocation in [
        Revocation::Demand(&crls),
        Revocation::IfGiven(&crls),
        Revocation::DangerousNotLookedAt,
    ] {
        for rules in &rules {
            let now = leaf.not_before();
            if let Ok(path) = Path::build(leaf, above, &roots, &revocation, now, rules) {
                assert_eq!(path.leaf(), leaf);
                assert!(
                    roots.contains(path.root()),
                    "a path ends with a root of ours"
                );
                assert!(path.issuer().is_ca(), "an issuer is an authority");
            }
        }
    }
});
