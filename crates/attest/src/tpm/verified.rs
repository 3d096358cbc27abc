//! The one path from a statement and a signature to PCR values that may be believed.
//!
//! 1. [`TrustedAk::signed_quote`]: the statement is a quote made by a TPM, signed by a key that the variant's root vouches for, over the
//!    demanded data.
//! 2. [`SignedQuote::with_values`]: it covers one bank, the demanded one, with the demanded PCRs, and the values given beside it
//!    are the quoted ones, no more and no fewer.

use subtle::ConstantTimeEq as _;
use thiserror::Error;

use super::{
    BankValues, HashAlgorithm, ParseError, PcrValue, Quote, Selection, Signature, Statement,
    TrustedAk,
};
use crate::verdict::{CheckName, Findings, RefusalCode, Step, Stop};
use crate::{Binding, Digest, PcrIndex, PcrValues};

/// `TPM2B_DATA` of a SHA-512 TPM, without the algorithm.
const MAX_QUALIFYING_DATA: usize = 64;

/// What a quote must have been made over: bytes of this verifier, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QualifyingData(Vec<u8>);

/// Bytes that cannot tell one quote from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("qualifying data has {0} bytes; 1 to {MAX_QUALIFYING_DATA} are possible")]
pub struct QualifyingDataError(usize);

impl QualifyingData {
    /// A nonce of the caller's, who answers for its freshness.
    ///
    /// # Errors
    /// When it is empty or longer than a TPM takes.
    pub fn of_nonce(nonce: &[u8]) -> Result<Self, QualifyingDataError> {
        match nonce.len() {
            1..=MAX_QUALIFYING_DATA => Ok(Self(nonce.to_vec())),
            length => Err(QualifyingDataError(length)),
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<&Binding> for QualifyingData {
    fn from(binding: &Binding) -> Self {
        Self(binding.qualifying_data().as_bytes().to_vec())
    }
}

/// A quote that a trusted key signed over the demanded data. What it says about PCRs is a digest only.
#[derive(Debug)]
pub struct SignedQuote<'a> {
    quote: Quote<'a>,
    hash: HashAlgorithm,
    ak: Digest,
}

/// PCR values that were quoted: one bank, of one quote, whose signature, qualifying data, selection and digest were checked.
#[derive(Debug)]
pub struct VerifiedQuote {
    values: BankValues,
    ak: Digest,
    clock: u64,
    reset_count: u32,
    restart_count: u32,
    is_clock_safe: bool,
    firmware_version: u64,
}

/// A quote of fewer PCRs than a whole SHA-256 bank, or of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the quote is not over all 24 PCRs of the sha256 bank")]
pub struct NotWholeBank;

const FORGED: &str =
    "the evidence was altered or composed by something other than a TPM: refuse this machine";

impl TrustedAk {
    /// Step 1 of the module's head. Takes statement and signature as they could be read, in whatever form they come.
    ///
    /// # Errors
    /// If one cannot be read, the statement is none of a TPM or no quote, the key did not sign it, or it is over other data.
    pub fn signed_quote<'a>(
        &self,
        statement: Result<Statement<'a>, ParseError>,
        signature: Result<Signature, ParseError>,
        expected: &QualifyingData,
        findings: &mut Findings,
    ) -> Result<SignedQuote<'a>, Stop> {
        let statement = findings.parse(Step::Quote, CheckName::QuoteFormat, statement)?;
        let header = statement.header();
        findings.demand(
            Step::Quote,
            CheckName::Magic,
            RefusalCode::NotAuthentic,
            header.is_generated_by_tpm(),
            "0xff544347",
            &format!("{:#010x}", header.magic),
            FORGED,
        )?;
        findings.demand(
            Step::Quote,
            CheckName::StatementType,
            RefusalCode::NotAuthentic,
            header.is_quote(),
            "quote (0x8018)",
            &format!("{:#06x}", header.kind),
            FORGED,
        )?;
        let quote = findings.parse_again(Step::Quote, CheckName::QuoteFormat, statement.quote())?;
        let signature = findings.parse(Step::Quote, CheckName::SignatureFormat, signature)?;
        findings.demand(
            Step::Quote,
            CheckName::Signature,
            RefusalCode::NotAuthentic,
            self.verify(statement.signed(), &signature),
            &format!("a signature of the attestation key {}", self.origin()),
            "a signature that does not verify",
            FORGED,
        )?;
        findings.demand(
        Step::Quote,
        CheckName::Binding,
        RefusalCode::WrongBinding,
        quote.extra_data.ct_eq(expected.as_bytes()).into(),
        &hex::encode(expected.as_bytes()),
        &described(quote.extra_data),
        "the evidence belongs to another session, role or nonce: a replay or a relay, unless the peer's software differs",
    )?;
        Ok(SignedQuote {
            quote,
            hash: signature.hash(),
            ak: self.id(),
        })
    }
}

impl SignedQuote<'_> {
    /// The bank, if the quote covers one only, and one that this release knows.
    #[must_use]
    pub fn bank(&self) -> Option<HashAlgorithm> {
        match self.quote.selections.as_slice() {
            [only] => only.algorithm(),
            _ => None,
        }
    }

    /// Step 2 of the module's head.
    ///
    /// # Errors
    /// When the quote is over another bank, several, or not all of the selected PCRs; or when the values are not the quoted ones.
    pub fn with_values(
        self,
        findings: &mut Findings,
        values: &BankValues,
        bank: HashAlgorithm,
        selection: &Selection,
    ) -> Result<VerifiedQuote, Stop> {
        let selected = self.selected(findings, bank, selection)?;
        let claimed: Vec<PcrIndex> = values.iter().map(|(index, _)| index).collect();
        let is_selection = values.bank() == bank && claimed == selected;
        let digest = values.quote_digest(self.hash);
        findings.demand(
            Step::Quote,
            CheckName::PcrDigest,
            RefusalCode::NotAuthentic,
            is_selection & bool::from(self.quote.pcr_digest.ct_eq(&digest)),
            &described(self.quote.pcr_digest),
            &if is_selection {
                hex::encode(&digest)
            } else {
                format!("values of {} PCRs of the {} bank, not of the selected ones", claimed.len(), values.bank())
            },
            "the PCR values in the document are not those the TPM quoted; if it happens once, a PCR changed in between: ask again",
        )?;
        Ok(VerifiedQuote {
            values: values.clone(),
            ak: self.ak,
            clock: self.quote.clock,
            reset_count: self.quote.reset_count,
            restart_count: self.quote.restart_count,
            is_clock_safe: self.quote.is_clock_safe,
            firmware_version: self.quote.firmware_version,
        })
    }

    fn selected(
        &self,
        findings: &mut Findings,
        bank: HashAlgorithm,
        selection: &Selection,
    ) -> Result<Vec<PcrIndex>, Stop> {
        let next = match selection {
            Selection::All => format!(
                "the peer must quote all 24 PCRs of the {} bank and nothing else",
                bank.name().replace("sha", "SHA-")
            ),
            Selection::Including(_) => format!(
                "the peer must quote these PCRs of the {} bank, and no other bank",
                bank.name().replace("sha", "SHA-")
            ),
        };
        let banks: Vec<String> = self
            .quote
            .selections
            .iter()
            .map(|selection| selection.bank_name())
            .collect();
        let only = match self.quote.selections.as_slice() {
            [only] if only.algorithm() == Some(bank) && bank.is_collision_resistant() => Some(only),
            _ => None,
        };
        findings.demand(
            Step::Quote,
            CheckName::Bank,
            RefusalCode::NotAuthentic,
            only.is_some(),
            &format!("{bank} alone"),
            &if banks.is_empty() {
                "no bank".to_owned()
            } else {
                banks.join(", ")
            },
            &next,
        )?;
        findings.demand(
            Step::Quote,
            CheckName::Selection,
            RefusalCode::NotAuthentic,
            only.is_some_and(|only| selection.is_met_by(only)),
            &selection.describe(),
            &only
                .map(|only| hex::encode(only.bitmap))
                .unwrap_or_default(),
            &next,
        )?;
        Ok(only
            .map(|only| only.indices().collect())
            .unwrap_or_default())
    }
}

impl VerifiedQuote {
    /// The bank.
    #[must_use]
    pub const fn bank(&self) -> HashAlgorithm {
        self.values.bank()
    }

    /// A quoted value; nothing for a PCR that was not quoted.
    #[must_use]
    pub fn get(&self, index: PcrIndex) -> Option<&PcrValue> {
        self.values.get(index)
    }

    /// The quoted values in the order of their numbers.
    #[must_use]
    pub const fn values(&self) -> &BankValues {
        &self.values
    }

    /// All 24 values of the SHA-256 bank.
    ///
    /// # Errors
    /// When the quote is over fewer PCRs or another bank.
    pub fn whole_sha256_bank(&self) -> Result<PcrValues, NotWholeBank> {
        let mut all = PcrValues::at_reset();
        if self.values.bank() != HashAlgorithm::Sha256 || self.values.len() != PcrIndex::COUNT {
            return Err(NotWholeBank);
        }
        for (index, value) in self.values.iter() {
            let bytes = value.as_bytes().try_into().map_err(|_| NotWholeBank)?;
            all.set(index, Digest::from_bytes(bytes));
        }
        Ok(all)
    }

    /// The attestation key: SHA-256 of its public area, or of its numbers where there is no such area.
    #[must_use]
    pub const fn ak_id(&self) -> Digest {
        self.ak
    }

    /// Milliseconds the TPM has run.
    #[must_use]
    pub const fn clock(&self) -> u64 {
        self.clock
    }

    /// TPM resets; see [`crate::Verified::reset_count`].
    #[must_use]
    pub const fn reset_count(&self) -> u32 {
        self.reset_count
    }

    /// Restarts and resumes since the last reset.
    #[must_use]
    pub const fn restart_count(&self) -> u32 {
        self.restart_count
    }

    /// Whether the clock never ran backwards.
    #[must_use]
    pub const fn is_clock_safe(&self) -> bool {
        self.is_clock_safe
    }

    /// The TPM's firmware.
    #[must_use]
    pub const fn firmware_version(&self) -> u64 {
        self.firmware_version
    }
}

fn described(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        "nothing".into()
    } else {
        hex::encode(bytes)
    }
}
