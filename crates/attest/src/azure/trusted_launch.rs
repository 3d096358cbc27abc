//! Trusted Launch: the certificate that Azure issues for a virtual TPM's attestation key (NV index 0x01C101D0).

use jiff::Timestamp;

use crate::tpm::{AkAuthorities, AkCertificate, EndorsedAk, Purpose};
use crate::verdict::{Findings, Stop};
use crate::x509::{Certificate, CrlScope, PathRules, Revocation};

/// `tcg-kp-AIKCertificate` (TCG Credential Profile EK 2.0, 3.2.16): the certificate is of an attestation key.
const AIK_CERTIFICATE: &str = "2.23.133.8.3";

const ROOTS: [&[u8]; 1] = [include_bytes!("../roots/azure/azure-vtpm-root-2023.der")];
const INTERMEDIATES: [&[u8]; 5] = [
    include_bytes!("../roots/azure/global-vtpm-ca-01.der"),
    include_bytes!("../roots/azure/global-vtpm-ca-03.der"),
    include_bytes!("../roots/azure/azure-cloud-vtpm-ca-2025.der"),
    include_bytes!("../roots/azure/azure-cloud-vtpm-ca-11.der"),
    include_bytes!("../roots/azure/azure-cloud-vtpm-ca-24.der"),
];

/// Microsoft's: "Azure Virtual TPM Root Certificate Authority 2023", and the authorities below it that are known. Azure makes new ones all
/// the time; those come with the evidence.
#[must_use]
pub fn authorities() -> AkAuthorities {
    AkAuthorities::built_in(&ROOTS, &INTERMEDIATES)
}

/// Follows the certificate of an attestation key to Microsoft's root. `certificate` may have the padding of its NV index.
///
/// The certificate says that Azure made the TPM. It names a machine, but not one that a tenant knows.
///
/// # Errors
/// If the certificate cannot be read, leads to no root now, is revoked, or is for another purpose.
pub fn trusted_launch_ak(
    certificate: &[u8],
    intermediates: &[Certificate],
    authorities: &AkAuthorities,
    revocation: &Revocation<'_>,
    now: Timestamp,
    findings: &mut Findings,
) -> Result<EndorsedAk, Stop> {
    let endorsement = AkCertificate {
        certificate,
        intermediates,
        authorities,
        revocation,
        now,
        // Azure publishes no list for the certificates of machines, which live for a year at most
        rules: PathRules::end_entity().crls_for(CrlScope::Authorities),
        purpose: Purpose::Extended(AIK_CERTIFICATE),
    };
    let (ak, _) = endorsement.verify("that Azure certified", findings)?;
    Ok(ak)
}
