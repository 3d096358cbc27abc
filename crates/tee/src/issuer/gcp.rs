//! Evidence of Google's machines. The key is one that the vTPM makes of a template it keeps, beside Google's certificate of the key; on a
//! confidential VM the processor's report is over the session and that key.

use attest::Binding;
use attest::certificate_table::{CertificateTable, Entry};
use attest::gcp::{SevEsDocument, SevSnpDocument, TdxDocument, report_data};
use attest::tpm::PublicArea;
use attest::vtpm::TpmEvidence;
use attest::x509::Certificate;

use super::cloud::{CloudError, CloudIssuer, Part};
use crate::detect::Places;
use crate::devices::GuestDevice;
use crate::gcp::certified_aks;
use crate::hardware;
use crate::tpm::Tpm;
use crate::tsm::{Provider, Tsm, TsmReport};

/// Google's machines with a vTPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GoogleMachine {
    SevEs,
    SevSnp,
    Tdx,
}

/// The first part that is not there. A hypervisor lets a machine ask for few reports, so none is asked for here.
pub(super) fn missing(
    machine: GoogleMachine,
    places: &Places,
    tpm: &mut Tpm,
) -> Result<(), (Part, CloudError)> {
    let aks = certified_aks(tpm).map_err(|error| (Part::GoogleKey, error.into()))?;
    if aks.is_empty() {
        return Err((Part::GoogleKey, CloudError::NoCertifiedKey));
    }
    let (part, device) = match machine {
        GoogleMachine::SevSnp => (Part::SnpReports, GuestDevice::Sev),
        GoogleMachine::Tdx => (Part::TdQuotes, GuestDevice::Tdx),
        GoogleMachine::SevEs => return Ok(()),
    };
    if Tsm::new(&places.configfs).is_there() || places.devices.is_there(device) {
        Ok(())
    } else {
        Err((part, CloudError::NoInterface))
    }
}

/// What every document of Google's has.
struct Vouched<T> {
    tpm: TpmEvidence,
    ak_certificate: Vec<u8>,
    hardware: T,
}

pub(super) fn sev_es(issuer: &CloudIssuer, binding: &Binding) -> Result<SevEsDocument, CloudError> {
    let vouched = vouched(issuer, binding, |_| Ok(()))?;
    Ok(SevEsDocument {
        tpm: vouched.tpm,
        ak_certificate: vouched.ak_certificate,
        certificates: Vec::new(),
    })
}

pub(super) fn sev_snp(
    issuer: &CloudIssuer,
    binding: &Binding,
) -> Result<SevSnpDocument, CloudError> {
    let vouched = vouched(issuer, binding, |area| {
        reported(issuer, binding, area, Provider::SevGuest)
    })?;
    Ok(SevSnpDocument {
        tpm: vouched.tpm,
        ak_certificate: vouched.ak_certificate,
        certificates: Vec::new(),
        snp_certificates: certificates(&vouched.hardware),
        snp_report: vouched.hardware.report,
    })
}

pub(super) fn tdx(issuer: &CloudIssuer, binding: &Binding) -> Result<TdxDocument, CloudError> {
    let vouched = vouched(issuer, binding, |area| {
        reported(issuer, binding, area, Provider::TdxGuest)
    })?;
    Ok(TdxDocument {
        tpm: vouched.tpm,
        ak_certificate: vouched.ak_certificate,
        certificates: Vec::new(),
        td_quote: vouched.hardware.report,
    })
}

/// The better of the certified keys, and what `hardware` has to say of it. Authorities are not on the machine.
fn vouched<T>(
    issuer: &CloudIssuer,
    binding: &Binding,
    hardware: impl FnOnce(&PublicArea) -> Result<T, CloudError>,
) -> Result<Vouched<T>, CloudError> {
    let event_log = issuer.tpm.log()?;
    let mut tpm = Tpm::open(&issuer.tpm.address)?;
    let ak = certified_aks(&mut tpm)?
        .into_iter()
        .next()
        .ok_or(CloudError::NoCertifiedKey)?;
    let key = tpm.create_key_of_template(&ak.template)?;
    let hardware = PublicArea::parse(&key.public)
        .map_err(CloudError::Key)
        .and_then(|area| hardware(&area));
    let hardware = match hardware {
        Ok(hardware) => hardware,
        Err(error) => {
            // a key that stays would fill the TPM's slots
            tpm.flush_key(key)?;
            return Err(error);
        }
    };
    Ok(Vouched {
        tpm: issuer.tpm.state(&mut tpm, key, event_log, binding)?,
        ak_certificate: ak.certificate,
        hardware,
    })
}

/// The processor's report over the session and the key: nothing else ties the two together.
fn reported(
    issuer: &CloudIssuer,
    binding: &Binding,
    area: &PublicArea,
    by: Provider,
) -> Result<TsmReport, CloudError> {
    let report = hardware::report(&issuer.places, &report_data(binding, area.key()))?;
    if report.provider == by {
        Ok(report)
    } else {
        Err(CloudError::OtherProcessor(report.provider))
    }
}

/// Of the key that signed, and its authority, as far as the host has them. What cannot be read is left out: the verifier asks AMD.
fn certificates(report: &TsmReport) -> Vec<Vec<u8>> {
    let table = report.auxiliary.as_deref().map(CertificateTable::parse);
    let Some(Ok(table)) = table else {
        return Vec::new();
    };
    [Entry::Vcek, Entry::Vlek, Entry::Ask]
        .into_iter()
        .filter_map(|entry| table.get(entry))
        // one of them would make the whole document unreadable
        .filter(|der| Certificate::parse(der).is_ok())
        .map(<[u8]>::to_vec)
        .collect()
}
