//! `TPM2B_ATTEST` with a quote inside (10.12.8, 10.12.12).

use super::reader::{ParseError, Reader};
use super::{HashAlgorithm, alg};
use crate::PcrIndex;

/// `TPM_GENERATED_VALUE`: a restricted key signs a statement that starts with it only if the TPM made the statement.
const TPM_GENERATED: u32 = 0xff54_4347;
/// `TPM_ST_ATTEST_QUOTE`.
const ATTEST_QUOTE: u16 = 0x8018;
/// Larger than any `TPMS_ATTEST`: its parts are bounded below this.
const MAX_ATTEST: usize = 1024;
/// Two bytes algorithm and the largest digest.
const MAX_NAME: usize = 66;
/// `TPM2B_DATA`: as `TPMT_HA`.
const MAX_EXTRA_DATA: usize = 66;
/// The largest digest.
const MAX_DIGEST: usize = 64;
/// `HASH_COUNT`: how many banks a selection may name at most.
const MAX_BANKS: usize = 16;
/// `PCR_SELECT_MAX` of any known TPM is 3; the structure allows more, the appraisal does not.
const MAX_SELECT: usize = 4;

/// The head of a `TPMS_ATTEST`: read first, so that a statement that is no quote is refused by its name and not as
/// garbage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatementHeader {
    /// `magic`.
    pub magic: u32,
    /// `type`.
    pub kind: u16,
}

impl StatementHeader {
    /// Whether a TPM made the statement.
    #[must_use]
    pub const fn is_generated_by_tpm(&self) -> bool {
        self.magic == TPM_GENERATED
    }

    /// Whether it is a quote.
    #[must_use]
    pub const fn is_quote(&self) -> bool {
        self.kind == ATTEST_QUOTE
    }
}

/// Signed bytes with their head: what is inside the `TPM2B_ATTEST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statement<'a> {
    header: StatementHeader,
    signed: &'a [u8],
}

impl<'a> Statement<'a> {
    /// Unwraps a `TPM2B_ATTEST` and reads the head.
    ///
    /// # Errors
    /// When the bytes are cut off, too long, or more than one structure.
    pub fn parse(tpm2b: &'a [u8]) -> Result<Self, ParseError> {
        let mut outer = Reader::big_endian(tpm2b);
        let signed = outer.sized("TPM2B_ATTEST", MAX_ATTEST)?;
        outer.finish("TPM2B_ATTEST")?;
        Self::parse_bare(signed)
    }

    /// Reads the head of a `TPMS_ATTEST` without its length: what tools save.
    ///
    /// # Errors
    /// When the bytes are cut off or too long.
    pub fn parse_bare(signed: &'a [u8]) -> Result<Self, ParseError> {
        if signed.len() > MAX_ATTEST {
            return Err(ParseError::TooLarge {
                field: "TPMS_ATTEST",
                value: signed.len(),
                bound: MAX_ATTEST,
            });
        }
        let mut reader = Reader::big_endian(signed);
        let header = StatementHeader {
            magic: reader.u32("magic")?,
            kind: reader.u16("type")?,
        };
        Ok(Self { header, signed })
    }

    /// The head.
    #[must_use]
    pub const fn header(&self) -> StatementHeader {
        self.header
    }

    /// What the signature is over.
    #[must_use]
    pub const fn signed(&self) -> &'a [u8] {
        self.signed
    }

    /// Reads the whole statement as a quote.
    ///
    /// # Errors
    /// When it is none, or is not exactly one.
    pub fn quote(&self) -> Result<Quote<'a>, ParseError> {
        Quote::parse_signed(self.signed)
    }
}

/// One `TPMS_PCR_SELECTION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcrSelection<'a> {
    /// The bank.
    pub bank: u16,
    /// A bit per PCR, PCR 0 first.
    pub bitmap: &'a [u8],
}

impl PcrSelection<'_> {
    /// Whether the bank is SHA-256.
    #[must_use]
    pub const fn is_sha256(&self) -> bool {
        self.bank == alg::SHA256
    }

    /// Whether all 24 PCRs are selected and no other bit is set.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.bitmap == [0xff; 3]
    }

    /// The bank, if this release knows it.
    #[must_use]
    pub const fn algorithm(&self) -> Option<HashAlgorithm> {
        HashAlgorithm::from_tpm_id(self.bank)
    }

    /// Whether the PCR is selected.
    #[must_use]
    pub fn contains(&self, index: PcrIndex) -> bool {
        let number = index.number();
        self.bitmap
            .get(usize::from(number / 8))
            .is_some_and(|byte| byte & (1 << (number % 8)) != 0)
    }

    /// The selected PCRs in order, which is the order of their values in the digest.
    pub fn indices(&self) -> impl Iterator<Item = PcrIndex> + '_ {
        PcrIndex::all().filter(|index| self.contains(*index))
    }

    /// Whether a bit is set that stands for no PCR of a PC.
    #[must_use]
    pub fn is_beyond(&self) -> bool {
        self.bitmap
            .get(PcrIndex::COUNT / 8..)
            .is_some_and(|rest| rest.iter().any(|byte| *byte != 0))
    }

    /// The bank's name.
    #[must_use]
    pub fn bank_name(&self) -> String {
        alg::name(self.bank)
    }
}

/// A `TPMS_ATTEST` whose attested part is a `TPMS_QUOTE_INFO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quote<'a> {
    /// Qualified name of the signing key.
    pub qualified_signer: &'a [u8],
    /// The caller's qualifying data.
    pub extra_data: &'a [u8],
    /// Milliseconds the TPM has run.
    pub clock: u64,
    /// TPM resets since the owner was cleared.
    pub reset_count: u32,
    /// Restarts and resumes since the last reset.
    pub restart_count: u32,
    /// Whether the clock never ran backwards.
    pub is_clock_safe: bool,
    /// The TPM's firmware.
    pub firmware_version: u64,
    /// What was quoted, one entry for each bank.
    pub selections: Vec<PcrSelection<'a>>,
    /// Digest over the selected values.
    pub pcr_digest: &'a [u8],
}

impl<'a> Quote<'a> {
    /// Parses a `TPM2B_ATTEST`.
    ///
    /// # Errors
    /// When the bytes are not exactly one quote.
    pub fn parse(tpm2b: &'a [u8]) -> Result<Self, ParseError> {
        Statement::parse(tpm2b)?.quote()
    }

    fn parse_signed(signed: &'a [u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::big_endian(signed);
        let magic = reader.u32("magic")?;
        if magic != TPM_GENERATED {
            return Err(ParseError::Unsupported {
                field: "magic",
                value: magic.into(),
            });
        }
        let kind = reader.u16("type")?;
        if kind != ATTEST_QUOTE {
            return Err(ParseError::Unsupported {
                field: "type",
                value: kind.into(),
            });
        }
        let qualified_signer = reader.sized("qualifiedSigner", MAX_NAME)?;
        let extra_data = reader.sized("extraData", MAX_EXTRA_DATA)?;
        let clock = reader.u64("clock")?;
        let reset_count = reader.u32("resetCount")?;
        let restart_count = reader.u32("restartCount")?;
        let is_clock_safe = match reader.u8("safe")? {
            0 => false,
            1 => true,
            other => {
                return Err(ParseError::Unsupported {
                    field: "safe",
                    value: other.into(),
                });
            }
        };
        let firmware_version = reader.u64("firmwareVersion")?;
        let banks = reader.count("pcrSelect count", MAX_BANKS)?;
        let mut selections = Vec::with_capacity(banks);
        for _ in 0..banks {
            let bank = reader.u16("pcrSelect hash")?;
            let size = usize::from(reader.u8("sizeofSelect")?);
            if size > MAX_SELECT {
                return Err(ParseError::TooLarge {
                    field: "sizeofSelect",
                    value: size,
                    bound: MAX_SELECT,
                });
            }
            selections.push(PcrSelection {
                bank,
                bitmap: reader.bytes("pcrSelect", size)?,
            });
        }
        let pcr_digest = reader.sized("pcrDigest", MAX_DIGEST)?;
        reader.finish("TPMS_ATTEST")?;
        Ok(Self {
            qualified_signer,
            extra_data,
            clock,
            reset_count,
            restart_count,
            is_clock_safe,
            firmware_version,
            selections,
            pcr_digest,
        })
    }
}
