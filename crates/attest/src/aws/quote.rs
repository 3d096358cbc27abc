//! A TPM quote beside a NitroTPM document.
//!
//! The document states the registers already; a quote adds that the key in the document's `public_key` signs in a TPM
//! what a TPM stated, if the measured software is one that puts only such keys in. So it asks for an [`Appraised`]
//! document, and takes key, nonce and registers from there and from nowhere else.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use subtle::ConstantTimeEq as _;

use super::{Appraised, CheckName, Claim, FORGED, described};
use crate::Digest;
use crate::tpm::{Quote, Statement};
use crate::verdict::{CheckName as Name, Findings, RefusalCode, Step, Stop};

/// A TPM states the registers of the document, over the document's nonce, with the document's key.
#[derive(Debug)]
pub struct Quoted(());

/// Verifies a quote with the document it belongs to.
///
/// `statement` is the `TPM2B_ATTEST` of a quote over all 24 PCRs of the SHA-384 bank, by an ECDSA key on P-256 with
/// SHA-256, which the document holds as an uncompressed point. `signature` is DER.
///
/// # Errors
/// When a check fails; what failed is in `findings`.
pub fn appraise_quote(
    appraised: &Appraised,
    statement: &[u8],
    signature: &[u8],
    findings: &mut Findings,
) -> Result<Quoted, Stop> {
    let statement = findings.parse(
        Step::Quote,
        Name::Aws(CheckName::QuoteFormat),
        Statement::parse(statement),
    )?;
    let signed = appraised.public_key().is_some_and(|key| {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key)
            .verify(statement.signed(), signature)
            .is_ok()
    });
    findings.demand(
        Step::Quote,
        Name::Aws(CheckName::QuoteSignature),
        RefusalCode::NotAuthentic,
        signed,
        "a signature of the public key in the document",
        "a signature that does not verify",
        FORGED,
    )?;
    let header = statement.header();
    findings.demand(
        Step::Quote,
        Name::Magic,
        RefusalCode::NotAuthentic,
        header.is_generated_by_tpm(),
        "0xff544347",
        &format!("{:#010x}", header.magic),
        FORGED,
    )?;
    findings.demand(
        Step::Quote,
        Name::StatementType,
        RefusalCode::NotAuthentic,
        header.is_quote(),
        "quote (0x8018)",
        &format!("{:#06x}", header.kind),
        FORGED,
    )?;
    let quote = findings.parse_again(
        Step::Quote,
        Name::Aws(CheckName::QuoteFormat),
        statement.quote(),
    )?;
    let expected = match appraised.nonce() {
        None => Claim::Absent,
        Some(nonce) => Claim::Exactly(nonce.to_vec()),
    };
    findings.demand(
        Step::Quote,
        Name::Aws(CheckName::QuoteNonce),
        RefusalCode::WrongBinding,
        // a quote without qualifying data is bound to nothing
        expected.holds(Some(quote.extra_data)) && !quote.extra_data.is_empty(),
        &expected.describe(),
        &described(Some(quote.extra_data)),
        "document and quote were made for two questions: a replay, unless the peer's software differs",
    )?;
    pcrs(appraised, &quote, findings)
}

fn pcrs(appraised: &Appraised, quote: &Quote<'_>, findings: &mut Findings) -> Result<Quoted, Stop> {
    let values: Vec<&[u8]> = appraised
        .pcrs()
        .iter()
        .map(|(_, value)| value.as_bytes().as_slice())
        .collect();
    let expected = Digest::of_parts(&values);
    let is_whole_bank = match quote.selections.as_slice() {
        [only] => only.is_sha384() && only.is_all(),
        _ => false,
    };
    let selections: Vec<String> = quote
        .selections
        .iter()
        .map(|selection| {
            format!(
                "{} {}",
                selection.bank_name(),
                hex::encode(selection.bitmap)
            )
        })
        .collect();
    findings.demand(
        Step::Quote,
        Name::Aws(CheckName::QuotePcrs),
        RefusalCode::NotAuthentic,
        is_whole_bank && quote.pcr_digest.ct_eq(expected.as_bytes()).into(),
        &format!("sha384 ffffff, digest {expected}"),
        &format!(
            "{}, digest {}",
            selections.join(", "),
            hex::encode(quote.pcr_digest)
        ),
        "the quote is about other registers than the document: refuse this machine",
    )?;
    Ok(Quoted(()))
}
