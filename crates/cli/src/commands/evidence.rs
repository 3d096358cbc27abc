//! `evidence verify` and `evidence inspect`: evidence that lies in files.

use attest::{Check, RefusalCode};
use jiff::Timestamp;
use serde::Serialize;

use crate::arguments::{EvidenceInspectArguments, EvidenceVerifyArguments, Format};
use crate::commands::policy;
use crate::evidence::{self, Files, Given, Question, inspect};
use crate::failure::Failure;
use crate::output;

/// The largest nonce of any kind of evidence: that of an AWS document.
const MAX_NONCE: usize = 512;

/// A verdict, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    variant: String,
    verdict: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<RefusalCode>,
    /// The time that everything was held against.
    at: Timestamp,
    checks: &'a [Check],
}

/// Prints the verdict to stdout, whichever it is.
pub(crate) fn verify(arguments: &EvidenceVerifyArguments) -> Result<(), Failure> {
    let files = Files::open(&arguments.directory)?;
    if files.is_empty() {
        return Err(
            Failure::usage(format!("{} holds no files", arguments.directory.display())).hint(
                "`constellation evidence verify --help` names the files of each kind of evidence",
            ),
        );
    }
    let report_data = arguments
        .report_data
        .as_deref()
        .map(|text| {
            let bytes = bytes("--report-data", text)?;
            let length = bytes.len();
            <[u8; 64]>::try_from(bytes).map_err(|_| {
                Failure::usage(format!(
                    "--report-data has {length} bytes, and must have 64"
                ))
                .hint("all of them count: say what fills a shorter value up, such as zeros")
            })
        })
        .transpose()?;
    let nonce = arguments
        .nonce
        .as_deref()
        .map(|text| match bytes("--nonce", text)? {
            nonce if (1..=MAX_NONCE).contains(&nonce.len()) => Ok(nonce),
            nonce => Err(Failure::usage(format!(
                "--nonce has {} bytes; 1 to {MAX_NONCE} are possible",
                nonce.len()
            ))),
        })
        .transpose()?;
    let (mut beside, mut given) = (
        Given::beside(&files)?.into_inner(),
        Given::read(&arguments.endorsements)?.into_inner(),
    );
    let mut crls = given.take_crls();
    crls.extend(beside.take_crls());
    let question = Question {
        variant: arguments.variant,
        beside,
        given,
        crls,
        files,
        policy: arguments.policy.as_deref().map(policy::read).transpose()?,
        report_data,
        nonce,
        now: arguments.at.unwrap_or_else(Timestamp::now),
    };
    let verdict = evidence::verify(&question)?;
    match arguments.output {
        Format::Table => output::data(&format!("{}\n", verdict.findings))?,
        Format::Json => output::json(&Answer {
            variant: evidence::name(arguments.variant),
            verdict: if verdict.is_accepted {
                "accepted"
            } else {
                "refused"
            },
            refusal: verdict.findings.refusal_code(),
            at: question.now,
            checks: verdict.findings.checks(),
        })?,
    }
    match verdict.findings.refusal_code() {
        None if verdict.is_accepted => Ok(()),
        code => Err(Failure::trust(format!(
            "the evidence in {} is refused{}",
            arguments.directory.display(),
            code.map(|code| format!(": {code}")).unwrap_or_default()
        ))
        .hint("what failed is marked in the verdict, with what to do about it")),
    }
}

/// Prints every file of the directory in words.
pub(crate) fn inspect(arguments: &EvidenceInspectArguments) -> Result<(), Failure> {
    let files = Files::open(&arguments.directory)?;
    if files.is_empty() {
        return Err(Failure::usage(format!(
            "{} holds no files",
            arguments.directory.display()
        )));
    }
    let sheets = inspect::sheets(arguments.variant, &files);
    match arguments.output {
        Format::Table => output::data(&inspect::text(&sheets)),
        Format::Json => output::json(&sheets),
    }
}

fn bytes(flag: &str, text: &str) -> Result<Vec<u8>, Failure> {
    hex::decode(text.trim())
        .map_err(|error| Failure::usage(format!("{flag} is not hexadecimal")).because(error))
}
