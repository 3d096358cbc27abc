//! Certificates of attestation keys, and what ties a confidential VM's report to such a key.

use aws_lc_rs::digest::{Context, SHA512};
use jiff::Timestamp;

use super::{CheckName, INSTANCE_INFO_OID, InstanceInfo, InstanceInfoError, InstanceRequirements};
use crate::Binding;
use crate::tpm::{AkAuthorities, AkCertificate, EndorsedAk, PublicKey, Purpose};
use crate::verdict::{self, Findings, Step, Stop};
use crate::x509::{Certificate, CrlScope, PathRules, Revocation};

/// Keeps report data of this kind apart from any other use of a report.
const REPORT_DATA_LABEL: &[u8] = b"constellation gcp report v1";
/// Names the TPM's maker and model (TCG EK Credential Profile, 3.2.9). Critical in the older hierarchy; that a root of Google's issued the
/// certificate already says both.
const SUBJECT_ALTERNATIVE_NAME: &str = "2.5.29.17";

const ROOTS: [&[u8]; 2] = [
    include_bytes!("../roots/google/gcp-ek-ak-ca-root.der"),
    include_bytes!("../roots/google/tpm-ek-v1-root.der"),
];
const INTERMEDIATES: [&[u8]; 3] = [
    include_bytes!("../roots/google/gcp-ek-ak-ca-intermediate-v3.der"),
    include_bytes!("../roots/google/tpm-ek-v1-intermediate-2.der"),
    include_bytes!("../roots/google/tpm-ek-v1-intermediate-3.der"),
];

/// Google's: "EK/AK CA Root" and "tpm_ek_v1_cloud_host_root", and the authorities below them that are known. Others come with the
/// evidence.
#[must_use]
pub fn authorities() -> AkAuthorities {
    AkAuthorities::built_in(&ROOTS, &INTERMEDIATES)
}

/// An attestation key of an instance that fulfils the requirements. Only [`ak`] makes one.
#[derive(Clone, Debug)]
pub struct CertifiedInstance {
    ak: EndorsedAk,
    info: InstanceInfo,
}

impl CertifiedInstance {
    /// The instance.
    #[must_use]
    pub const fn info(&self) -> &InstanceInfo {
        &self.info
    }

    /// The key.
    #[must_use]
    pub const fn key(&self) -> &PublicKey {
        self.ak.key()
    }

    /// The key, for its quotes.
    #[must_use]
    pub fn into_ak(self) -> EndorsedAk {
        self.ak
    }
}

/// Follows the certificate of an attestation key to one of Google's roots, and holds the instance it names against `requirements`.
/// `certificate` may have the padding of its NV index.
///
/// # Errors
/// If the certificate cannot be read, leads to no root now, is revoked, is of another kind of key, names no instance, or one that is not
/// accepted.
pub fn ak(
    certificate: &[u8],
    intermediates: &[Certificate],
    authorities: &AkAuthorities,
    revocation: &Revocation<'_>,
    requirements: &InstanceRequirements,
    now: Timestamp,
    findings: &mut Findings,
) -> Result<CertifiedInstance, Stop> {
    let endorsement = AkCertificate {
        certificate,
        intermediates,
        authorities,
        revocation,
        now,
        rules: PathRules::end_entity()
            .understanding(&[SUBJECT_ALTERNATIVE_NAME])
            .crls_for(CrlScope::Authorities),
        purpose: Purpose::Signing,
    };
    let (ak, path) = endorsement.verify("that Google certified", findings)?;
    let info = path
        .leaf()
        .extension(INSTANCE_INFO_OID)
        .ok_or(InstanceInfoError::Missing)
        .and_then(InstanceInfo::parse);
    let info = findings.parse(
        Step::Endorsements,
        verdict::CheckName::Gcp(CheckName::InstanceInfo),
        info,
    )?;
    requirements.demand(&info, findings)?;
    Ok(CertifiedInstance { ak, info })
}

/// What a confidential VM's report must be made over, all 64 bytes: the session's binding and the attestation key. Nothing else ties the
/// processor's report to the TPM, which runs outside of what the processor protects.
#[must_use]
pub fn report_data(binding: &Binding, ak: &PublicKey) -> [u8; 64] {
    let mut context = Context::new(&SHA512);
    for field in [
        REPORT_DATA_LABEL,
        binding.as_bytes().as_slice(),
        ak.fingerprint().as_bytes().as_slice(),
    ] {
        context.update(&(field.len() as u64).to_be_bytes());
        context.update(field);
    }
    let mut data = [0; 64];
    for (to, from) in data.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    data
}
