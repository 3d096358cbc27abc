//! The issuers of the clouds' machines, and which of all issuers fits a machine.

use std::fmt;

use attest::tpm::ParseError;
use attest::x509::X509Error;
use attest::{Binding, Evidence, EvidenceError, Issue, IssueError, Variant};
use thiserror::Error;

use super::TpmIssuer;
use super::azure::{self, AzureMachine};
use super::gcp::{self, GoogleMachine};
use crate::azure::AzureError;
use crate::detect::Places;
use crate::event_log::EventLogError;
use crate::hardware::HardwareError;
use crate::statement::{BootedTpm, QuoteError};
use crate::tpm::{Tpm, TpmError};
use crate::tsm::Provider;

/// Something that evidence of a variant is made of, and a machine may lack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A TPM.
    Tpm,
    /// Azure's attestation key.
    AzureKey,
    /// The paravisor's report of an SEV-SNP machine.
    AzureSnpReport,
    /// The paravisor's report of a TDX machine.
    AzureTdxReport,
    /// Azure's certificate of the key.
    AzureCertificate,
    /// Azure's metadata service.
    AzureMetadata,
    /// Google's certified attestation key.
    GoogleKey,
    /// Reports of SEV-SNP.
    SnpReports,
    /// Quotes of TDX.
    TdQuotes,
}

impl Part {
    /// What an administrator can do about it.
    #[must_use]
    pub const fn what_to_do(self) -> &'static str {
        match self {
            Self::Tpm => "give the machine a TPM 2.0, and the program access to it",
            Self::AzureKey | Self::AzureCertificate => {
                "start the machine on Azure as a Trusted Launch or confidential VM with a vTPM"
            }
            Self::AzureSnpReport => {
                "start the machine on Azure as a confidential VM of SEV-SNP (the DCas and ECas series), or set the variant that it is of"
            }
            Self::AzureTdxReport => {
                "start the machine on Azure as a confidential VM of TDX (the DCes and ECes series), or set the variant that it is of"
            }
            Self::AzureMetadata => "let the machine reach 169.254.169.254, port 80",
            Self::GoogleKey => "start the machine on Google's cloud as a Shielded VM with a vTPM",
            Self::SnpReports => {
                "start the machine as a confidential VM of SEV-SNP, with a kernel that has configfs-tsm or sev-guest"
            }
            Self::TdQuotes => {
                "start the machine as a confidential VM of TDX, with a kernel that has configfs-tsm or tdx_guest"
            }
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tpm => "a TPM",
            Self::AzureKey => "Azure's attestation key in the TPM",
            Self::AzureSnpReport => "the paravisor's report of SEV-SNP in the TPM",
            Self::AzureTdxReport => "the paravisor's report of TDX in the TPM",
            Self::AzureCertificate => "Azure's certificate of the attestation key in the TPM",
            Self::AzureMetadata => "Azure's metadata service",
            Self::GoogleKey => "an attestation key with Google's certificate in the TPM",
            Self::SnpReports => "reports of SEV-SNP",
            Self::TdQuotes => "quotes of TDX",
        })
    }
}

/// Why a part of the evidence cannot be had.
#[derive(Debug, Error)]
pub enum CloudError {
    /// The TPM, its log, its quote.
    #[error(transparent)]
    Quote(#[from] QuoteError),
    /// Azure's part.
    #[error(transparent)]
    Azure(#[from] AzureError),
    /// The processor's part.
    #[error(transparent)]
    Hardware(#[from] HardwareError),
    /// The TPM keeps no key there.
    #[error("the TPM keeps no key at {0:#010x}")]
    NoKey(u32),
    /// The TPM has no certificate there.
    #[error("the TPM has no area {0:#010x}")]
    NoCertificate(u32),
    /// The TPM has no certified key.
    #[error("the TPM has no certificate with a template where Google's has them")]
    NoCertifiedKey,
    /// The key cannot be read, which a report has to be over.
    #[error("the attestation key cannot be read")]
    Key(#[source] ParseError),
    /// Certificates that are none.
    #[error("AMD's certificates from the metadata service cannot be read")]
    Certificates(#[source] X509Error),
    /// The paravisor's report is of another processor.
    #[error("the paravisor's report is of another processor")]
    OtherParavisor,
    /// The report is of another processor.
    #[error("this machine's reports are made by {0}")]
    OtherProcessor(Provider),
    /// The machine has no interface for it.
    #[error("neither configfs-tsm nor the guest device is there")]
    NoInterface,
    /// More of them than a key and its authorities have.
    #[error("AMD's certificates are more than evidence may hold")]
    TooManyCertificates,
}

impl From<TpmError> for CloudError {
    fn from(error: TpmError) -> Self {
        Self::Quote(error.into())
    }
}

impl From<EventLogError> for CloudError {
    fn from(error: EventLogError) -> Self {
        Self::Quote(error.into())
    }
}

impl From<EvidenceError> for CloudError {
    fn from(error: EvidenceError) -> Self {
        Self::Quote(error.into())
    }
}

/// A part that a variant needs and a machine lacks.
#[derive(Debug, Error)]
#[error("{variant} needs {part}, which this machine lacks: {hint}", hint = .part.what_to_do())]
pub struct NoIssuer {
    /// What was to be issued.
    pub variant: Variant,
    /// What is missing.
    pub part: Part,
    /// What was found instead.
    #[source]
    pub source: CloudError,
}

/// Issues evidence of a cloud's machine. Made by [`issuer_for`].
#[derive(Debug)]
pub struct CloudIssuer {
    pub(super) places: Places,
    pub(super) tpm: BootedTpm,
    machine: CloudMachine,
}

/// The machines of clouds. A variant that is none of them cannot get here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CloudMachine {
    Azure(AzureMachine),
    Google(GoogleMachine),
}

impl CloudMachine {
    const fn variant(self) -> Variant {
        match self {
            Self::Azure(AzureMachine::SevSnp) => Variant::AzureSevSnp,
            Self::Azure(AzureMachine::Tdx) => Variant::AzureTdx,
            Self::Azure(AzureMachine::TrustedLaunch) => Variant::AzureTrustedLaunch,
            Self::Google(GoogleMachine::SevEs) => Variant::GcpSevEs,
            Self::Google(GoogleMachine::SevSnp) => Variant::GcpSevSnp,
            Self::Google(GoogleMachine::Tdx) => Variant::GcpTdx,
        }
    }
}

/// The issuer of `variant` on a machine whose parts are in `places`. Each part is looked for; that it works shows in an issue.
///
/// # Errors
/// When a part is missing: which, and what to do.
pub fn issuer_for(variant: Variant, places: &Places) -> Result<Box<dyn Issue>, NoIssuer> {
    let lacks = |part, source| NoIssuer {
        variant,
        part,
        source,
    };
    let mut tpm = Tpm::open(&places.tpm).map_err(|error| lacks(Part::Tpm, error.into()))?;
    let machine = match variant {
        Variant::QemuVtpm => {
            let issuer = TpmIssuer {
                tpm: booted(places),
            };
            return Ok(Box::new(issuer));
        }
        Variant::AzureSevSnp => CloudMachine::Azure(AzureMachine::SevSnp),
        Variant::AzureTdx => CloudMachine::Azure(AzureMachine::Tdx),
        Variant::AzureTrustedLaunch => CloudMachine::Azure(AzureMachine::TrustedLaunch),
        Variant::GcpSevEs => CloudMachine::Google(GoogleMachine::SevEs),
        Variant::GcpSevSnp => CloudMachine::Google(GoogleMachine::SevSnp),
        Variant::GcpTdx => CloudMachine::Google(GoogleMachine::Tdx),
    };
    let missing = match machine {
        CloudMachine::Azure(machine) => azure::missing(machine, places, &mut tpm),
        CloudMachine::Google(machine) => gcp::missing(machine, places, &mut tpm),
    };
    missing.map_err(|(part, source)| lacks(part, source))?;
    Ok(Box::new(CloudIssuer {
        places: places.clone(),
        tpm: booted(places),
        machine,
    }))
}

fn booted(places: &Places) -> BootedTpm {
    BootedTpm::new(
        places.tpm.clone(),
        places.event_log.clone(),
        places.command_line.clone(),
    )
}

impl CloudIssuer {
    fn document(&self, binding: &Binding) -> Result<Evidence, CloudError> {
        let _turn = self.tpm.turn();
        let document = match self.machine {
            CloudMachine::Azure(AzureMachine::SevSnp) => azure::sev_snp(self, binding)?.to_json(),
            CloudMachine::Azure(AzureMachine::Tdx) => azure::tdx(self, binding)?.to_json(),
            CloudMachine::Azure(AzureMachine::TrustedLaunch) => {
                azure::trusted_launch(self, binding)?.to_json()
            }
            CloudMachine::Google(GoogleMachine::SevEs) => gcp::sev_es(self, binding)?.to_json(),
            CloudMachine::Google(GoogleMachine::SevSnp) => gcp::sev_snp(self, binding)?.to_json(),
            CloudMachine::Google(GoogleMachine::Tdx) => gcp::tdx(self, binding)?.to_json(),
        };
        Ok(Evidence::new(self.machine.variant(), document)?)
    }
}

impl Issue for CloudIssuer {
    fn variant(&self) -> Variant {
        self.machine.variant()
    }

    fn issue(&self, binding: &Binding) -> Result<Evidence, IssueError> {
        self.document(binding)
            .map_err(|error| IssueError::new(self.variant(), error))
    }
}
