//! Makes `qemu-vtpm` evidence with a TPM.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use attest::qemu_vtpm::Document;
use attest::tpm::{ParseError, Quote};
use attest::{Binding, Digest, Evidence, EvidenceError, Issue, IssueError, PcrValues, Variant};
use thiserror::Error;

use crate::event_log::{EventLogError, KERNEL_EVENT_LOG, read_event_log};
use crate::tpm::{AttestationKey, QuoteAnswer, Tpm, TpmAddress, TpmError};

/// Where Linux shows its command line.
const KERNEL_COMMAND_LINE: &str = "/proc/cmdline";
/// A PCR may be extended between reading and quoting; the node itself does so once, when it joins.
const MAX_ATTEMPTS: u32 = 5;

/// Why no evidence could be made.
#[derive(Debug, Error)]
pub enum QuoteError {
    /// The TPM.
    #[error(transparent)]
    Tpm(#[from] TpmError),
    /// The event log.
    #[error(transparent)]
    EventLog(#[from] EventLogError),
    /// The TPM quoted something that is no quote.
    #[error("the TPM's quote cannot be read")]
    Format(#[source] ParseError),
    /// PCRs never held still.
    #[error("the PCRs changed between reading and quoting {MAX_ATTEMPTS} times in a row")]
    Unstable,
    /// More than a verifier reads.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
}

/// Issues evidence of this machine. Opens the TPM for each statement, so that a connection that broke once is not kept.
#[derive(Debug)]
pub struct TpmIssuer {
    address: TpmAddress,
    event_log: PathBuf,
    command_line: Option<PathBuf>,
    /// A TPM has three slots for keys and runs one command at a time: two statements wait for each other here.
    one_at_a_time: Mutex<()>,
}

impl TpmIssuer {
    /// The issuer of this machine, with the kernel's TPM device and event log.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self {
            address: TpmAddress::of_this_machine(),
            event_log: KERNEL_EVENT_LOG.into(),
            command_line: Some(KERNEL_COMMAND_LINE.into()),
            one_at_a_time: Mutex::new(()),
        }
    }

    /// An issuer with another TPM and another log: a test's swtpm.
    #[must_use]
    pub const fn new(address: TpmAddress, event_log: PathBuf) -> Self {
        Self {
            address,
            event_log,
            command_line: None,
            one_at_a_time: Mutex::new(()),
        }
    }

    /// The same issuer, with the file that holds the kernel's command line.
    #[must_use]
    pub fn with_command_line(self, file: PathBuf) -> Self {
        Self {
            command_line: Some(file),
            ..self
        }
    }

    /// What this machine booted: its PCRs and its event log, for [`attest::Policy::from_own_measurements`].
    ///
    /// # Errors
    /// When the TPM or the log cannot be read.
    pub fn own_measurements(&self) -> Result<(PcrValues, Vec<u8>), QuoteError> {
        let _turn = self
            .one_at_a_time
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let log = read_event_log(&self.event_log)?;
        Ok((Tpm::open(&self.address)?.read_pcrs()?, log))
    }

    fn quote(&self, binding: &Binding) -> Result<Evidence, QuoteError> {
        let _turn = self
            .one_at_a_time
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let event_log = read_event_log(&self.event_log)?;
        let mut tpm = Tpm::open(&self.address)?;
        let key = tpm.create_attestation_key()?;
        let quoted = stable_quote(&mut tpm, &key, &binding.qualifying_data());
        let ak_public = key.public.clone();
        // whatever the quote said: a key that stays would fill the TPM's slots
        tpm.flush_key(key)?;
        let (pcrs, answer) = quoted?;
        let document = Document {
            ak_public,
            quote: answer.quoted,
            signature: answer.signature,
            pcrs,
            event_log,
            command_line: self.command_line(),
        };
        Ok(Evidence::new(Variant::QemuVtpm, document.to_json())?)
    }

    /// A hint only: without it a refusal names the command line and not what is in it.
    fn command_line(&self) -> Option<String> {
        let text = std::fs::read_to_string(self.command_line.as_ref()?).ok()?;
        Some(text.trim_end_matches('\n').to_owned())
    }
}

/// Values and quote of one moment.
fn stable_quote(
    tpm: &mut Tpm,
    key: &AttestationKey,
    qualifying_data: &Digest,
) -> Result<(PcrValues, QuoteAnswer), QuoteError> {
    for _ in 0..MAX_ATTEMPTS {
        let pcrs = tpm.read_pcrs()?;
        let answer = tpm.quote(key, qualifying_data)?;
        let quote = Quote::parse(&answer.quoted).map_err(QuoteError::Format)?;
        if quote.pcr_digest == pcrs.quote_digest().as_bytes() {
            return Ok((pcrs, answer));
        }
    }
    Err(QuoteError::Unstable)
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
