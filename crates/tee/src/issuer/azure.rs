//! Evidence of Azure's machines. The key is one that the vTPM keeps; on a confidential VM the paravisor's report names it, and on one of Trusted
//! Launch a certificate does.

use attest::Binding;
use attest::azure::{SevSnpDocument, TdxDocument, TrustedLaunchDocument};
use attest::vtpm::{MAX_CERTIFICATES, TpmEvidence};
use attest::x509::Certificate;

use super::cloud::{CloudError, CloudIssuer, Part};
use crate::azure::{AK_CERTIFICATE_AREA, AK_HANDLE, HclReport, amd_certificates, td_quote};
use crate::detect::Places;
use crate::tpm::Tpm;

/// Azure's machines with a vTPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AzureMachine {
    SevSnp,
    Tdx,
    TrustedLaunch,
}

/// The first part that is not there.
pub(super) fn missing(
    machine: AzureMachine,
    places: &Places,
    tpm: &mut Tpm,
) -> Result<(), (Part, CloudError)> {
    let lacks_key = |error| (Part::AzureKey, error);
    tpm.persistent_key(AK_HANDLE)
        .map_err(|error| lacks_key(error.into()))?
        .ok_or_else(|| lacks_key(CloudError::NoKey(AK_HANDLE)))?;
    let (part, is_of) = match machine {
        AzureMachine::SevSnp => (Part::AzureSnpReport, is_snp as fn(&HclReport) -> bool),
        AzureMachine::Tdx => (Part::AzureTdxReport, is_tdx as fn(&HclReport) -> bool),
        AzureMachine::TrustedLaunch => {
            let lacks = |error| (Part::AzureCertificate, error);
            return tpm
                .nv_length(AK_CERTIFICATE_AREA)
                .map_err(|error| lacks(error.into()))?
                .map(drop)
                .ok_or_else(|| lacks(CloudError::NoCertificate(AK_CERTIFICATE_AREA)));
        }
    };
    let report = HclReport::read(tpm).map_err(|error| (part, error.into()))?;
    if !is_of(&report) {
        return Err((part, CloudError::OtherParavisor));
    }
    places
        .metadata
        .is_there()
        .map_err(|error| (Part::AzureMetadata, CloudError::Azure(error.into())))
}

const fn is_snp(report: &HclReport) -> bool {
    matches!(report, HclReport::Snp(_))
}

const fn is_tdx(report: &HclReport) -> bool {
    matches!(report, HclReport::Tdx(_))
}

pub(super) fn sev_snp(
    issuer: &CloudIssuer,
    binding: &Binding,
) -> Result<SevSnpDocument, CloudError> {
    let (tpm, report) = with_report(issuer, binding, is_snp)?;
    Ok(SevSnpDocument {
        tpm,
        hcl_report: report.as_bytes().to_vec(),
        certificates: certificates(issuer)?,
    })
}

pub(super) fn tdx(issuer: &CloudIssuer, binding: &Binding) -> Result<TdxDocument, CloudError> {
    let (tpm, report) = with_report(issuer, binding, is_tdx)?;
    Ok(TdxDocument {
        tpm,
        td_quote: td_quote(&issuer.places.metadata, &report)?,
        hcl_report: report.as_bytes().to_vec(),
    })
}

pub(super) fn trusted_launch(
    issuer: &CloudIssuer,
    binding: &Binding,
) -> Result<TrustedLaunchDocument, CloudError> {
    let event_log = issuer.tpm.log()?;
    let mut tpm = Tpm::open(&issuer.tpm.address)?;
    let ak_certificate = tpm
        .nv_read(AK_CERTIFICATE_AREA)?
        .ok_or(CloudError::NoCertificate(AK_CERTIFICATE_AREA))?;
    Ok(TrustedLaunchDocument {
        tpm: stated(issuer, &mut tpm, event_log, binding)?,
        ak_certificate,
        // nobody keeps the authorities on the machine
        certificates: Vec::new(),
    })
}

/// The paravisor makes its report anew: over this session, which nobody demands, and of this moment, so that its TDREPORT is one that this
/// platform still vouches for.
fn with_report(
    issuer: &CloudIssuer,
    binding: &Binding,
    is_of: fn(&HclReport) -> bool,
) -> Result<(TpmEvidence, HclReport), CloudError> {
    let event_log = issuer.tpm.log()?;
    let mut tpm = Tpm::open(&issuer.tpm.address)?;
    let report = HclReport::read_over(&mut tpm, binding.as_bytes())?;
    if !is_of(&report) {
        return Err(CloudError::OtherParavisor);
    }
    Ok((stated(issuer, &mut tpm, event_log, binding)?, report))
}

fn stated(
    issuer: &CloudIssuer,
    tpm: &mut Tpm,
    event_log: Vec<u8>,
    binding: &Binding,
) -> Result<TpmEvidence, CloudError> {
    let key = tpm
        .persistent_key(AK_HANDLE)?
        .ok_or(CloudError::NoKey(AK_HANDLE))?;
    Ok(issuer.tpm.state(tpm, key, event_log, binding)?)
}

/// The processor's key and its authority. The root is the verifier's, and takes no room here.
fn certificates(issuer: &CloudIssuer) -> Result<Vec<Vec<u8>>, CloudError> {
    let pem = amd_certificates(&issuer.places.metadata)?;
    let mut certificates = Vec::new();
    for text in [&pem.vcek, &pem.chain] {
        let chain = Certificate::chain_from_pem(text.as_bytes(), MAX_CERTIFICATES)
            .map_err(CloudError::Certificates)?;
        certificates.extend(
            chain
                .iter()
                .filter(|certificate| !certificate.is_self_issued())
                .map(|certificate| certificate.der().to_vec()),
        );
    }
    if certificates.len() > MAX_CERTIFICATES {
        return Err(CloudError::TooManyCertificates);
    }
    Ok(certificates)
}
