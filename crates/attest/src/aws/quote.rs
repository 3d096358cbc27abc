//! A TPM quote beside a NitroTPM document.
//!
//! The document states the registers already; a quote adds that the key in the document's `public_key` signs in a TPM
//! what a TPM stated, if the measured software is one that puts only such keys in. So it asks for an [`Appraised`]
//! document, and takes key, nonce and registers from there and from nowhere else.

use thiserror::Error;

use super::{Appraised, CheckName};
use crate::PcrIndex;
use crate::tpm::{
    BankValues, HashAlgorithm, PcrValue, PublicKey, QualifyingData, QualifyingDataError, Selection,
    Signature, Statement, TrustedAk, VerifiedQuote,
};
use crate::verdict::{CheckName as Name, Findings, Step, Stop};

/// The bank whose registers a document holds.
const BANK: HashAlgorithm = HashAlgorithm::Sha384;

/// What a quote must agree with.
struct Expected {
    ak: TrustedAk,
    nonce: QualifyingData,
    registers: BankValues,
}

/// Why no quote can belong to a document.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
enum Unquotable {
    #[error("its public key is no uncompressed point of P-256")]
    Key,
    #[error("it has no nonce")]
    NoNonce,
    #[error("its nonce is no qualifying data")]
    Nonce(#[source] QualifyingDataError),
    #[error("its registers are not those of a TPM")]
    Registers,
}

/// Verifies a quote with the document it belongs to, as [`TrustedAk::signed_quote`] verifies every quote.
///
/// `statement` is the `TPM2B_ATTEST` of a quote over all 24 PCRs of the SHA-384 bank, by an ECDSA key on P-256, which the
/// document holds as an uncompressed point. `signature` is DER, then with SHA-256, or a `TPMT_SIGNATURE`.
///
/// # Errors
/// When a check fails; what failed is in `findings`.
pub fn appraise_quote(
    appraised: &Appraised,
    statement: &[u8],
    signature: &[u8],
    findings: &mut Findings,
) -> Result<VerifiedQuote, Stop> {
    let Expected {
        ak,
        nonce,
        registers,
    } = findings.parse(
        Step::Key,
        Name::Aws(CheckName::QuoteDocument),
        Expected::of(appraised),
    )?;
    let statement = Statement::parse(statement);
    let signature = Signature::parse_any_form(ak.key(), signature);
    let signed = ak.signed_quote(statement, signature, &nonce, findings)?;
    signed.with_values(findings, &registers, BANK, &Selection::All)
}

impl Expected {
    fn of(document: &Appraised) -> Result<Self, Unquotable> {
        let point: Option<[u8; 65]> = document.public_key().and_then(|key| key.try_into().ok());
        let Some(point @ [0x04, ..]) = point else {
            return Err(Unquotable::Key);
        };
        // a quote without qualifying data is bound to nothing
        let nonce = document.nonce().ok_or(Unquotable::NoNonce)?;
        let registers = document.pcrs().iter().map(|(index, value)| {
            let index = PcrIndex::new((*index).into()).ok()?;
            Some((index, PcrValue::new(BANK, value.as_bytes()).ok()?))
        });
        let registers: Option<Vec<_>> = registers.collect();
        Ok(Self {
            ak: TrustedAk::of_key(PublicKey::P256(point), "in the document"),
            nonce: QualifyingData::of_nonce(nonce).map_err(Unquotable::Nonce)?,
            // an enclave has more
            registers: registers
                .and_then(|registers| BankValues::new(BANK, registers).ok())
                .ok_or(Unquotable::Registers)?,
        })
    }
}
