//! The quote of a TPM, by a key that is trusted already, and the PCRs it is over.

use std::collections::{BTreeMap, BTreeSet};

use attest::event_log::{Bank, Quoted};
use attest::policy::{Generation, Measurements};
use attest::tpm::{
    BankValues, HashAlgorithm, PcrRequirements, PcrValue, QualifyingData, Quote, Selection,
    Signature, Statement, TrustedAk, VerifiedQuote,
};
use attest::{CheckName, Findings, PcrIndex, RefusalCode, Step};

use super::{End, Question, log, warn_of_no_policy, warn_of_replay};
use crate::failure::Failure;

const MAGIC: [u8; 4] = [0xff, b'T', b'C', b'G'];

/// Verifies what is there. Whatever a policy has PCRs for must be there.
pub(super) fn verify(
    question: &Question,
    ak: &TrustedAk,
    generation: Option<&Generation>,
    findings: &mut Findings,
) -> Result<(), End> {
    let files = &question.files;
    let (statement, signature) = match (files.get(&["quote.msg"]), files.get(&["quote.sig"])) {
        (Some(statement), Some(signature)) => (statement, signature),
        (None, None) => return without(question, generation, "no quote", findings),
        (Some(_), None) => return files.need(&["quote.sig"]).map(drop).map_err(End::from),
        (None, Some(_)) => return files.need(&["quote.msg"]).map(drop).map_err(End::from),
    };
    // with the size before it, or without
    let parse = || {
        if statement.starts_with(&MAGIC) {
            Statement::parse_bare(statement)
        } else {
            Statement::parse(statement)
        }
    };
    let claimed: Option<Quote<'_>> = parse().ok().and_then(|it| it.quote().ok());
    let own = claimed.as_ref().map_or(&[][..], |quote| quote.extra_data);
    let asked = question.nonce.as_deref().unwrap_or(own);
    let Ok(expected) = QualifyingData::of_nonce(asked) else {
        if question.nonce.is_some() {
            return Err(Failure::usage("--nonce has 1 to 64 bytes for a TPM").into());
        }
        findings.demand(
            Step::Quote,
            CheckName::Binding,
            RefusalCode::WrongBinding,
            false,
            "a quote over some nonce",
            "a quote over nothing, or one that can not be read",
            "such a quote can be shown again and again: ask for one over a nonce",
        )?;
        return Ok(());
    };
    let signature = Signature::parse_any_form(ak.key(), signature);
    let signed = ak.signed_quote(parse(), signature, &expected, findings)?;
    if question.nonce.is_none() {
        warn_of_replay(findings, (Step::Quote, CheckName::Binding), own, "--nonce");
    }
    let Some(json) = files.get(&["pcrs.json"]) else {
        return without(question, generation, "no PCR values (pcrs.json)", findings);
    };
    let values = values(json)?;
    let selection = if values.len() == PcrIndex::COUNT {
        Selection::All
    } else {
        Selection::Including(values.iter().map(|(index, _)| index).collect())
    };
    let verified = signed.with_values(findings, &values, values.bank(), &selection)?;
    hold_log_against(question, &values, findings)?;
    match generation {
        Some(generation) => compare(generation.pcrs(), verified, findings),
        None => {
            warn_of_no_policy(findings, "the PCRs");
            Ok(())
        }
    }
}

/// Without what shows what booted.
fn without(
    question: &Question,
    generation: Option<&Generation>,
    what: &str,
    findings: &mut Findings,
) -> Result<(), End> {
    const EXPECTED: &str = "a quote of the PCRs and their values";
    const NEXT: &str = "nothing shows what the machine booted: ask it for a quote";
    if generation.is_some() || question.nonce.is_some() {
        findings.demand(
            Step::Quote,
            CheckName::PolicyPcrs,
            RefusalCode::Measurements,
            false,
            EXPECTED,
            what,
            NEXT,
        )?;
    }
    findings.warn(Step::Quote, CheckName::PolicyPcrs, EXPECTED, what, NEXT);
    Ok(())
}

/// `pcrs.json`: the values by PCR, by bank. Of the banks there the strongest.
pub(super) fn values(json: &[u8]) -> Result<BankValues, Failure> {
    let wrong = |why: String| {
        Failure::usage(format!("pcrs.json: {why}"))
            .hint("{\"sha256\": {\"0\": \"<64 hex digits>\", ...}}")
    };
    let banks: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_slice(json).map_err(|error| wrong(error.to_string()))?;
    let mut best: Option<(HashAlgorithm, &BTreeMap<String, String>)> = None;
    for (name, pcrs) in &banks {
        let bank =
            HashAlgorithm::from_name(name).ok_or_else(|| wrong(format!("{name:?} is no bank")))?;
        if best.is_none_or(|(other, _)| other.length() < bank.length()) {
            best = Some((bank, pcrs));
        }
    }
    let (bank, pcrs) = best.ok_or_else(|| wrong("there is no bank".to_owned()))?;
    let mut values = Vec::new();
    for (index, value) in pcrs {
        let number = index
            .parse()
            .map_err(|_| wrong(format!("{index:?} is no PCR")))?;
        let index = PcrIndex::new(number).map_err(|error| wrong(error.to_string()))?;
        let value = PcrValue::from_hex(bank, value)
            .map_err(|error| wrong(format!("PCR {index}: {error}")))?;
        values.push((index, value));
    }
    BankValues::new(bank, values).map_err(|error| wrong(error.to_string()))
}

/// An event log beside a quote must be of the same boot.
fn hold_log_against(
    question: &Question,
    values: &BankValues,
    findings: &mut Findings,
) -> Result<(), End> {
    let Some(log) = question.files.get(&["eventlog.bin"]) else {
        return Ok(());
    };
    let Some(bank) = Bank::from_algorithm(values.bank().tpm_id()) else {
        return Ok(());
    };
    let pcrs = values
        .iter()
        .map(|(index, value)| (index, value.as_bytes()));
    let quoted = findings.parse(Step::EventLog, CheckName::Bank, Quoted::pcrs(bank, pcrs))?;
    log::hold_against(log, bank, &quoted, findings)
}

/// The PCRs of a policy.
fn compare(
    accepted: &Measurements,
    quote: VerifiedQuote,
    findings: &mut Findings,
) -> Result<(), End> {
    const BANK: HashAlgorithm = HashAlgorithm::Sha256;
    if accepted.is_empty() {
        return Ok(());
    }
    let mut enforced: BTreeMap<PcrIndex, BTreeSet<PcrValue>> = BTreeMap::new();
    for (index, measurement) in accepted {
        let expected = PcrValue::new(BANK, measurement.expected.as_bytes())
            .map_err(|error| Failure::config("the policy's PCRs").because(error))?;
        let actual = quote.get(*index).filter(|_| quote.bank() == BANK);
        if measurement.warn_only && actual != Some(&expected) {
            findings.warn(
                Step::Measurements,
                CheckName::Pcr(*index),
                &expected.to_string(),
                &actual.map_or_else(|| "not quoted".to_owned(), ToString::to_string),
                "the policy only warns of this PCR",
            );
        } else if !measurement.warn_only {
            enforced.entry(*index).or_default().insert(expected);
        }
    }
    let requirements = PcrRequirements::new(BANK, enforced)
        .map_err(|error| Failure::config("the policy's PCRs").because(error))?;
    requirements.accept(quote, findings)?;
    Ok(())
}
