//! Event logs, alone or beside the registers they must lead to.

use attest::event_log::{
    Bank, BankLog, BankLogError, Explanation, Form, Log, Quoted, Register, Rtmr, SecureBoot,
    SecureBootError, SecureBootState, event_type,
};
use attest::tpm::ParseError;
use attest::{CheckName, Findings, PcrIndex, RefusalCode, Step};

use super::{End, Question};

/// The strongest first.
const BANKS: [Bank; 4] = [Bank::Sha512, Bank::Sha384, Bank::Sha256, Bank::Sha1];

pub(super) fn verify(question: &Question, findings: &mut Findings) -> Result<(), End> {
    let bytes = question.files.need(&["eventlog.bin", "ccel.bin"])?;
    let log = findings.parse(Step::EventLog, CheckName::LogFormat, parse(bytes))?;
    // one that this release can not compute is told, if there is no other
    let mut computed = log.banks().iter().filter(|bank| bank.is_computed());
    let readable = computed.try_for_each(|bank| log.bank(*bank).map(drop));
    let bank = readable.and_then(|()| strongest(&log));
    let bank = findings.parse(Step::EventLog, CheckName::Bank, bank)?;
    if bank.bank() == Bank::Sha1 {
        findings.qualify(
            Step::EventLog,
            CheckName::Bank,
            "a bank of SHA-256 or better",
            "sha1 alone: two inputs of one digest can be found",
            "let the firmware measure into another bank",
        );
    }
    secure_boot(bank, findings)?;
    findings.warn(
        Step::EventLog,
        CheckName::LogReplay,
        "registers in a quote or report that the log leads to",
        "the log alone: nobody vouches for it",
        "a log is a hint and no proof: verify the quote or report of the same machine",
    );
    Ok(())
}

/// A log in one of its forms.
pub(super) fn parse(bytes: &[u8]) -> Result<Log<'_>, ParseError> {
    let pcrs = Log::parse(bytes);
    match pcrs {
        Ok(log) => Ok(log),
        // what is wrong with a log of PCRs is the better answer, unless it is one of a trust domain
        Err(error) => Log::parse_ccel(bytes).map_err(|_| error),
    }
}

pub(super) fn strongest<'a>(log: &Log<'a>) -> Result<BankLog<'a>, BankLogError> {
    let bank = BANKS
        .into_iter()
        .find(|bank| log.banks().contains(bank))
        .unwrap_or(Bank::Sha256);
    log.bank(bank)
}

/// The log must lead to what was quoted of this bank: in every register that it names an event of.
pub(super) fn hold_against(
    bytes: &[u8],
    bank: Bank,
    quoted: &Quoted,
    findings: &mut Findings,
) -> Result<(), End> {
    let log = findings.parse(Step::EventLog, CheckName::LogFormat, parse(bytes))?;
    let log = findings.parse(Step::EventLog, CheckName::Bank, log.bank(bank))?;
    let written: Vec<Register> = log.events().iter().map(|event| event.register).collect();
    let comparison = log.compare(quoted);
    let (mut led_to, mut unexplained) = (0_usize, Vec::new());
    for (register, explanation) in comparison.registers() {
        if !written.contains(&register) {
            continue;
        }
        match explanation {
            Explanation::Explained => led_to += 1,
            Explanation::Differs { .. } | Explanation::NotInLog { .. } | Explanation::NotQuoted => {
                unexplained.push(format!("{register}: {explanation}"))
            }
        }
    }
    findings.demand(
        Step::EventLog,
        CheckName::LogReplay,
        RefusalCode::Measurements,
        led_to > 0 && unexplained.is_empty(),
        "a log that leads to the value of every register it writes to",
        &if unexplained.is_empty() {
            "a log of other registers".to_owned()
        } else {
            unexplained.join("; ")
        },
        "the log is of another boot, or something was measured that it does not show",
    )?;
    Ok(())
}

/// What firmware says of Secure Boot, if the registers held what the log leads to.
fn secure_boot(bank: BankLog<'_>, findings: &mut Findings) -> Result<(), End> {
    let went_on = went_on(&bank);
    let state = secure_boot_of(bank);
    let mut off = || {
        findings.warn(
            Step::EventLog,
            CheckName::SecureBoot,
            "on",
            "off: firmware started what it found",
            "what runs is decided by the measurements alone",
        );
    };
    let (holds, actual, next) = match &state {
        Ok((SecureBootState::Enabled, _)) => (true, String::new(), ""),
        Ok((SecureBootState::Disabled, _)) => {
            off();
            return Ok(());
        }
        Err(SecureBootError::MissingExitBootServices {
            state: SecureBootState::Disabled,
        }) if went_on => {
            off();
            return Ok(());
        }
        Err(SecureBootError::MissingExitBootServices { .. }) if went_on => {
            findings.warn(
                Step::EventLog,
                CheckName::SecureBoot,
                WHOLE,
                "not shown: what firmware measured last is not in the log",
                "read the log with Linux 5.3 or newer, which adds it; what an older one gives does not lead to PCR 5",
            );
            return Ok(());
        }
        Err(error) => (false, error.to_string(), remedy(error)),
    };
    findings.demand(
        Step::EventLog,
        CheckName::SecureBoot,
        RefusalCode::Measurements,
        holds,
        WHOLE,
        &actual,
        next,
    )?;
    Ok(())
}

const WHOLE: &str = "a log that shows whole and once whether Secure Boot is on";

/// Whether something that firmware started measured something in its turn, so that a TPM's log was not cut off before that. The log of a trust
/// domain is one piece of memory, which every kernel reads whole. Nothing covers what an event is: this is about logs that are in order, and
/// no protection against forged or shortened ones.
fn went_on(bank: &BankLog<'_>) -> bool {
    // firmware draws its line in PCR 4, which holds what it starts, before it starts anything
    let is_pcr_4 = |register| matches!(register, Register::Pcr(pcr) if pcr.number() == 4);
    let started = bank
        .events()
        .iter()
        .skip_while(|it| !(it.kind == event_type::SEPARATOR && is_pcr_4(it.register)));
    let count = |kind| started.clone().filter(|it| it.kind == kind).count();
    let has_later =
        count(event_type::IPL) > 0 || count(event_type::EFI_BOOT_SERVICES_APPLICATION) > 1;
    bank.form() != Form::Ccel && has_later
}

/// What to do about it. Older firmware of healthy TDX machines writes logs that can not be told from ones that somebody wrote into.
fn remedy(error: &SecureBootError) -> &'static str {
    if matches!(error, SecureBootError::MissingExitBootServices { .. }) {
        "it looks cut off: read it again, whole, and the log of a TPM with Linux 5.3 or newer, which adds what firmware measured last"
    } else if matches!(
        error,
        SecureBootError::DuplicateSeparator(Register::Rtmr(_))
    ) {
        "if the firmware is an older OVMF, which writes the separator of RTMR1 into RTMR0, use a newer one; otherwise something wrote into the log beside the firmware"
    } else {
        "something wrote into the log beside the firmware: do not rely on what it says"
    }
}

/// The state, and the entries of db and dbx together.
pub(super) fn secure_boot_of(
    bank: BankLog<'_>,
) -> Result<(SecureBootState, usize), SecureBootError> {
    let registers: Vec<Register> = match bank.form() {
        Form::Ccel => Rtmr::ALL.into_iter().map(Register::Rtmr).collect(),
        Form::Legacy | Form::CryptoAgile => PcrIndex::all().map(Register::Pcr).collect(),
    };
    let first = registers.first().copied().unwrap_or(Register::Mrtd);
    let replayed = bank.replay();
    let quoted = match bank.form() {
        Form::Ccel => {
            let mut rtmrs = [[0; 48]; 4];
            for (slot, value) in rtmrs.iter_mut().zip(replayed.values()) {
                if let Some(bytes) = value.as_bytes().first_chunk() {
                    *slot = *bytes;
                }
            }
            Quoted::rtmrs(&rtmrs)
        }
        Form::Legacy | Form::CryptoAgile => {
            let values = replayed
                .iter()
                .filter_map(|(register, value)| match register {
                    Register::Pcr(index) => Some((*index, value.as_bytes())),
                    Register::Mrtd | Register::Rtmr(_) => None,
                });
            Quoted::pcrs(bank.bank(), values).map_err(|_| SecureBootError::NotExplained(first))?
        }
    };
    let explained = bank
        .explain(&quoted, &registers)
        .map_err(|_| SecureBootError::NotExplained(first))?;
    let shown = SecureBoot::of(&explained)?;
    let entries = shown.allowed.signatures().len() + shown.forbidden.signatures().len();
    Ok((shown.state, entries))
}
