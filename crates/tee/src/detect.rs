//! What this machine has to prove itself with, and what it lacks, in words.
//!
//! Decides nothing: it looks, and a person or a program chooses. What is there is tried, because a file that exists is
//! no report. Nothing is written into the TPM.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attest::certificate_table::CertificateTable;
use serde::Serialize;

use crate::azure::{AzureError, HclReport};
use crate::devices::{DeviceFiles, GuestDevice, GuestDevices};
use crate::event_log::KERNEL_EVENT_LOG;
use crate::gcp;
use crate::issuer::KERNEL_COMMAND_LINE;
use crate::metadata::Metadata;
use crate::quote_service::QuoteService;
use crate::sev_guest::SevGuest;
use crate::tdx_guest;
use crate::tpm::{Tpm, TpmAddress};
use crate::tsm::{Provider, REPORT_DATA, Tsm, TsmReport};

/// What a report is made over that nobody appraises.
const NOTHING: [u8; REPORT_DATA] = [0; REPORT_DATA];

/// Of a device that is there. A hypervisor that puts a request off costs older drivers their key.
const NOT_ASKED: &str = "there, and not asked: a request at the wrong time can cost its driver the key until a restart; that it works shows when evidence is made";

/// Where to look.
#[derive(Clone, Debug)]
pub struct Places {
    /// The TPM.
    pub tpm: TpmAddress,
    /// The mounted configfs.
    pub configfs: PathBuf,
    /// The guest devices.
    pub devices: Arc<dyn GuestDevices>,
    /// Who makes quotes of what the TDX device reports.
    pub quote_service: QuoteService,
    /// The metadata service.
    pub metadata: Metadata,
    /// The log of the boot.
    pub event_log: PathBuf,
    /// The file with the kernel's command line, if it is to be in evidence.
    pub command_line: Option<PathBuf>,
}

impl Places {
    /// Of this machine.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self {
            tpm: TpmAddress::of_this_machine(),
            configfs: crate::tsm::CONFIGFS.into(),
            devices: Arc::new(DeviceFiles::of_this_machine()),
            quote_service: QuoteService::of_this_machine(),
            metadata: Metadata::of_this_machine(),
            event_log: KERNEL_EVENT_LOG.into(),
            command_line: Some(KERNEL_COMMAND_LINE.into()),
        }
    }
}

/// Something a machine may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Reports of SEV-SNP and TDX, by the kernel's one interface.
    ConfigfsTsm,
    /// The older interface for SEV-SNP.
    SevGuest,
    /// The older interface for TDX.
    TdxGuest,
    /// A TPM 2.0.
    Tpm,
    /// The report of Azure's paravisor in the TPM.
    AzureReport,
    /// Attestation keys of Google with certificates in the TPM.
    GoogleAk,
    /// Documents of AWS by the TPM.
    NitroTpm,
    /// Azure's quotes and certificates.
    AzureMetadata,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ConfigfsTsm => "configfs-tsm",
            Self::SevGuest => "/dev/sev-guest",
            Self::TdxGuest => "/dev/tdx_guest",
            Self::Tpm => "TPM",
            Self::AzureReport => "Azure HCL report",
            Self::GoogleAk => "Google AK",
            Self::NitroTpm => "NitroTPM",
            Self::AzureMetadata => "Azure metadata",
        })
    }
}

/// How it stands with a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// There, and works.
    Usable,
    /// There, and not used: something better is, or this release does not know it.
    NotUsed,
    /// Not there, or does not work.
    Missing,
    /// Not looked at, because something else it needs is missing, or because a look costs something.
    NotLooked,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Usable => "usable",
            Self::NotUsed => "not used",
            Self::Missing => "missing",
            Self::NotLooked => "not looked",
        })
    }
}

/// One source with the words for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Found {
    /// Which.
    pub source: Source,
    /// How it stands.
    pub state: State,
    /// What was found, or what is missing.
    pub detail: String,
}

/// All sources of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Detected {
    /// Each source, in the order of [`Source`].
    pub sources: Vec<Found>,
    /// The attestation variant whose parts are all here; nothing if there is no TPM and no report.
    pub looks_like: Option<&'static str>,
}

/// What was found that tells a variant from another.
#[derive(Clone, Copy, Debug, Default)]
struct Traits {
    hardware: Option<Hardware>,
    tpm: bool,
    azure: Option<Hardware>,
    google: bool,
    nitro: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hardware {
    Snp,
    Tdx,
}

impl Traits {
    const fn variant(self) -> Option<&'static str> {
        Some(match self {
            Self {
                azure: Some(Hardware::Snp),
                ..
            } => "azure-sev-snp",
            Self {
                azure: Some(Hardware::Tdx),
                ..
            } => "azure-tdx",
            Self {
                google: true,
                hardware: Some(Hardware::Snp),
                ..
            } => "gcp-sev-snp",
            Self {
                google: true,
                hardware: Some(Hardware::Tdx),
                ..
            } => "gcp-tdx",
            Self { google: true, .. } => "gcp-sev-es",
            Self {
                nitro: true,
                hardware: Some(Hardware::Snp),
                ..
            } => "aws-sev-snp",
            Self { nitro: true, .. } => "aws-nitro-tpm",
            Self {
                hardware: Some(Hardware::Snp),
                ..
            } => "sev-snp",
            Self {
                hardware: Some(Hardware::Tdx),
                ..
            } => "tdx",
            Self { tpm: true, .. } => "qemu-vtpm",
            _ => return None,
        })
    }
}

/// Looks at all of it. Never fails: what is missing is what it is about.
#[must_use]
pub fn detect(places: &Places) -> Detected {
    let mut looked = Looked::default();
    looked.tsm(&places.configfs);
    looked.sev_guest(places);
    looked.tdx_guest(places);
    match Tpm::open(&places.tpm) {
        Ok(mut tpm) => {
            looked.traits.tpm = true;
            looked.found(Source::Tpm, State::Usable, format!("at {}", places.tpm));
            looked.azure_report(&mut tpm);
            looked.google(&mut tpm);
            looked.nitro(&mut tpm);
        }
        Err(error) => {
            looked.found(Source::Tpm, State::Missing, chain(&error));
            for source in [Source::AzureReport, Source::GoogleAk, Source::NitroTpm] {
                looked.found(source, State::NotLooked, "needs a TPM".into());
            }
        }
    }
    looked.azure_metadata(&places.metadata);
    Detected {
        looks_like: looked.traits.variant(),
        sources: looked.sources,
    }
}

#[derive(Debug, Default)]
struct Looked {
    sources: Vec<Found>,
    traits: Traits,
}

impl Looked {
    fn found(&mut self, source: Source, state: State, detail: String) {
        self.sources.push(Found {
            source,
            state,
            detail,
        });
    }

    fn tsm(&mut self, configfs: &Path) {
        match Tsm::new(configfs).report(&NOTHING) {
            Ok(report) => self.report(Source::ConfigfsTsm, &report),
            Err(error) => self.found(Source::ConfigfsTsm, State::Missing, chain(&error)),
        }
    }

    fn sev_guest(&mut self, places: &Places) {
        if self.is_to_be_asked(places, Source::SevGuest, GuestDevice::Sev) {
            match SevGuest::new(places.devices.as_ref()).look() {
                Ok(()) => {
                    self.traits.hardware = Some(Hardware::Snp);
                    self.found(Source::SevGuest, State::NotLooked, NOT_ASKED.into());
                }
                Err(error) => self.found(Source::SevGuest, State::Missing, chain(&error)),
            }
        }
    }

    fn tdx_guest(&mut self, places: &Places) {
        if self.is_to_be_asked(places, Source::TdxGuest, GuestDevice::Tdx) {
            match tdx_guest::quote(places.devices.as_ref(), &places.quote_service, &NOTHING) {
                Ok(report) => self.report(Source::TdxGuest, &report),
                Err(error) => self.found(Source::TdxGuest, State::Missing, chain(&error)),
            }
        }
    }

    /// A device is looked at as it is in an issue: where it is there, and nothing newer is.
    fn is_to_be_asked(&mut self, places: &Places, source: Source, device: GuestDevice) -> bool {
        let (state, detail) = match (places.devices.is_there(device), self.traits.hardware) {
            (true, None) => return true,
            (true, Some(_)) => (State::NotUsed, "there, and configfs-tsm is used instead"),
            (false, _) => (State::Missing, "no such device"),
        };
        self.found(source, state, detail.into());
        false
    }

    fn report(&mut self, source: Source, report: &TsmReport) {
        let table = match report.auxiliary.as_deref().map(CertificateTable::parse) {
            None => String::new(),
            Some(Ok(table)) => format!(", {} certificates of the host", table.entries().len()),
            Some(Err(error)) => format!(", certificates that cannot be read: {error}"),
        };
        let detail = format!(
            "{}, report of {} bytes{table}",
            report.provider,
            report.report.len()
        );
        let (hardware, state) = match report.provider {
            Provider::SevGuest => (Some(Hardware::Snp), State::Usable),
            Provider::TdxGuest => (Some(Hardware::Tdx), State::Usable),
            Provider::Other(_) => (None, State::NotUsed),
        };
        self.traits.hardware = hardware;
        self.found(source, state, detail);
    }

    fn azure_report(&mut self, tpm: &mut Tpm) {
        let (state, detail) = match HclReport::read(tpm) {
            Ok(HclReport::Snp(bytes)) => {
                self.traits.azure = Some(Hardware::Snp);
                (State::Usable, format!("of SEV-SNP, {} bytes", bytes.len()))
            }
            Ok(HclReport::Tdx(bytes)) => {
                self.traits.azure = Some(Hardware::Tdx);
                (State::Usable, format!("of TDX, {} bytes", bytes.len()))
            }
            Err(error) => (State::Missing, chain(&error)),
        };
        self.found(Source::AzureReport, state, detail);
    }

    fn google(&mut self, tpm: &mut Tpm) {
        let (state, detail) = match gcp::certified_aks(tpm) {
            Ok(aks) if aks.is_empty() => (
                State::Missing,
                "the TPM has no certificate where Google's has one".into(),
            ),
            Ok(aks) => {
                self.traits.google = true;
                let kinds: Vec<String> = aks.iter().map(|ak| format!("{:?}", ak.kind)).collect();
                (
                    State::Usable,
                    format!("certified keys: {}", kinds.join(", ")),
                )
            }
            Err(error) => (State::Missing, chain(&error)),
        };
        self.found(Source::GoogleAk, state, detail);
    }

    fn nitro(&mut self, tpm: &mut Tpm) {
        let (state, detail) = match tpm.has_nitro_command() {
            Ok(true) => {
                self.traits.nitro = true;
                (State::Usable, "the TPM has the command of AWS".into())
            }
            Ok(false) => (
                State::Missing,
                "the TPM does not have the command of AWS".into(),
            ),
            Err(error) => (State::Missing, chain(&error)),
        };
        self.found(Source::NitroTpm, state, detail);
    }

    /// Only Azure's machines need it, and asking elsewhere costs seconds.
    fn azure_metadata(&mut self, metadata: &Metadata) {
        let (state, detail) = match self.traits.azure {
            None => (
                State::NotLooked,
                "needed by confidential VMs of Azure only".to_owned(),
            ),
            Some(_) => match metadata.is_there().map_err(AzureError::from) {
                Ok(()) => (State::Usable, "answers".to_owned()),
                Err(error) => (State::Missing, chain(&error)),
            },
        };
        self.found(Source::AzureMetadata, state, detail);
    }
}

impl fmt::Display for Detected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for found in &self.sources {
            writeln!(
                f,
                "{:<17} {:<10}  {}",
                found.source, found.state, found.detail
            )?;
        }
        match self.looks_like {
            Some(variant) => write!(f, "looks like: {variant}"),
            None => f.write_str("looks like: a machine that can prove nothing"),
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(": ");
        text.push_str(&error.to_string());
        next = error.source();
    }
    text
}
