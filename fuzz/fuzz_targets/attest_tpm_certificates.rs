//! What a host or a TPM hands over beside evidence: certificate tables, certificates in NV areas, endorsement keys.
#![cfg_attr(fuzzing, no_main)]

use attest::Findings;
use attest::certificate_table::CertificateTable;
use attest::tpm::ek::{EkPublic, Purpose, Roots, appraise_certificate};
use attest::x509::Revocation;

fuzz::fuzz_target!(|bytes: &[u8]| {
    drop(EkPublic::parse(bytes));
    if let Ok(table) = CertificateTable::parse(bytes) {
        let length: usize = table
            .entries()
            .iter()
            .map(|(_, content)| content.len())
            .sum();
        assert!(length <= 16 * bytes.len());
    }
    let mut findings = Findings::new();
    let certificate = appraise_certificate(
        bytes,
        &[],
        &Roots::new(Vec::new()),
        &Revocation::DangerousNotLookedAt,
        Purpose::Endorsement,
        "2026-01-01T00:00:00Z".parse().unwrap_or_default(),
        &mut findings,
    );
    assert!(certificate.is_err(), "no root was given");
});
