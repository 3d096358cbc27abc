//! Makes evidence of this machine: of `qemu-vtpm` by its TPM alone, of the clouds' machines with what vouches for the TPM there.

mod azure;
mod cloud;
mod gcp;

use std::path::PathBuf;

use attest::{Binding, Evidence, Issue, IssueError, PcrValues, Variant};

use crate::event_log::KERNEL_EVENT_LOG;
use crate::statement::{BootedTpm, QuoteError};
use crate::tpm::{Tpm, TpmAddress};

pub use cloud::{CloudError, CloudIssuer, NoIssuer, Part, issuer_for};

/// Where Linux shows its command line.
pub(crate) const KERNEL_COMMAND_LINE: &str = "/proc/cmdline";

/// Issues `qemu-vtpm` evidence of this machine.
#[derive(Debug)]
pub struct TpmIssuer {
    tpm: BootedTpm,
}

impl TpmIssuer {
    /// The issuer of this machine, with the kernel's TPM device and event log.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self {
            tpm: BootedTpm::new(
                TpmAddress::of_this_machine(),
                KERNEL_EVENT_LOG.into(),
                Some(KERNEL_COMMAND_LINE.into()),
            ),
        }
    }

    /// An issuer with another TPM and another log: a test's swtpm.
    #[must_use]
    pub const fn new(address: TpmAddress, event_log: PathBuf) -> Self {
        Self {
            tpm: BootedTpm::new(address, event_log, None),
        }
    }

    /// The same issuer, with the file that holds the kernel's command line.
    #[must_use]
    pub fn with_command_line(mut self, file: PathBuf) -> Self {
        self.tpm.command_line = Some(file);
        self
    }

    /// What this machine booted: its PCRs and its event log, for [`attest::Policy::from_own_measurements`].
    ///
    /// # Errors
    /// When the TPM or the log cannot be read.
    pub fn own_measurements(&self) -> Result<(PcrValues, Vec<u8>), QuoteError> {
        let _turn = self.tpm.turn();
        let log = self.tpm.log()?;
        Ok((Tpm::open(&self.tpm.address)?.read_pcrs()?, log))
    }

    fn quote(&self, binding: &Binding) -> Result<Evidence, QuoteError> {
        let _turn = self.tpm.turn();
        let event_log = self.tpm.log()?;
        let mut tpm = Tpm::open(&self.tpm.address)?;
        let key = tpm.create_attestation_key()?;
        let document = self.tpm.state(&mut tpm, key, event_log, binding)?;
        Ok(Evidence::new(Variant::QemuVtpm, document.to_json())?)
    }
}

impl Issue for TpmIssuer {
    fn variant(&self) -> Variant {
        Variant::QemuVtpm
    }

    fn issue(&self, binding: &Binding) -> Result<Evidence, IssueError> {
        self.quote(binding)
            .map_err(|error| IssueError::new(Variant::QemuVtpm, error))
    }
}
