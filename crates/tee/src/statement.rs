//! What the TPM of a machine states about its boot: the part that the evidence of every variant has.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use attest::tpm::{ParseError, Quote};
use attest::vtpm::TpmEvidence;
use attest::{Binding, Digest, EvidenceError, PcrValues};
use thiserror::Error;

use crate::event_log::{EventLogError, read_event_log};
use crate::tpm::{AttestationKey, QuoteAnswer, Tpm, TpmAddress, TpmError};

/// A PCR may be extended between reading and quoting; the node itself does so once, when it joins.
const MAX_ATTEMPTS: u32 = 5;

/// Why the TPM makes no statement.
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

/// The TPM of a machine and the files about its boot. Opens the TPM for each statement, so that a connection that broke once is not kept.
#[derive(Debug)]
pub(crate) struct BootedTpm {
    pub(crate) address: TpmAddress,
    pub(crate) event_log: PathBuf,
    pub(crate) command_line: Option<PathBuf>,
    /// A TPM has three slots for keys and runs one command at a time: two statements wait for each other here.
    one_at_a_time: Mutex<()>,
}

impl BootedTpm {
    pub(crate) const fn new(
        address: TpmAddress,
        event_log: PathBuf,
        command_line: Option<PathBuf>,
    ) -> Self {
        Self {
            address,
            event_log,
            command_line,
            one_at_a_time: Mutex::new(()),
        }
    }

    /// Held while the TPM is used.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.one_at_a_time
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The log, read before a key takes a slot.
    pub(crate) fn log(&self) -> Result<Vec<u8>, EventLogError> {
        read_event_log(&self.event_log)
    }

    /// Quotes over `binding` with `key`, whose slot is free afterwards.
    pub(crate) fn state(
        &self,
        tpm: &mut Tpm,
        key: AttestationKey,
        event_log: Vec<u8>,
        binding: &Binding,
    ) -> Result<TpmEvidence, QuoteError> {
        let quoted = stable_quote(tpm, &key, &binding.qualifying_data());
        let ak_public = key.public.clone();
        // whatever the quote said: a key that stays would fill the TPM's slots
        tpm.flush_key(key)?;
        let (pcrs, answer) = quoted?;
        Ok(TpmEvidence {
            ak_public,
            quote: answer.quoted,
            signature: answer.signature,
            pcrs,
            event_log,
            command_line: self.command_line(),
        })
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
