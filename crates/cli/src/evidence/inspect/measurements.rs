//! What was measured: quotes of TPMs, documents of AWS, reports of GPUs, event logs.

use attest::aws::Document;
use attest::event_log::{BankLog, Log, SecureBootState, event_type};
use attest::nvidia::Report;
use attest::tpm::{BankValues, Statement};
use attest::x509::Certificate;

use super::{Sheet, certificates};
use crate::evidence::log::{parse, secure_boot_of, strongest};

/// Bytes of an event's data.
const MAX_DATA: usize = 32;

pub(super) fn statement(bytes: &[u8]) -> Sheet {
    let parsed = if bytes.starts_with(&[0xff, b'T', b'C', b'G']) {
        Statement::parse_bare(bytes)
    } else {
        Statement::parse(bytes)
    };
    let quote = match parsed.and_then(|statement| statement.quote()) {
        Ok(quote) => quote,
        Err(error) => return Sheet::unreadable("statement of a TPM", &error),
    };
    let mut sheet = Sheet::new("quote of a TPM");
    sheet.hex("qualifying data (nonce)", quote.extra_data);
    sheet.hex("name of the signing key", quote.qualified_signer);
    for selection in &quote.selections {
        let indices: Vec<String> = selection.indices().map(|it| it.to_string()).collect();
        sheet.add(
            format_args!("PCRs of {}", selection.bank_name()),
            indices.join(", "),
        );
    }
    sheet.hex("digest of the PCRs", quote.pcr_digest);
    sheet.add("clock", format_args!("{} ms", quote.clock));
    sheet.add("clock never ran backwards", quote.is_clock_safe);
    sheet.add("resets", quote.reset_count);
    sheet.add("restarts", quote.restart_count);
    sheet.add(
        "firmware of the TPM",
        format_args!("{:#018x}", quote.firmware_version),
    );
    sheet
}

pub(super) fn pcrs(values: &BankValues) -> Sheet {
    let mut sheet = Sheet::new(format_args!("PCR values, {}", values.bank()));
    for (index, value) in values.iter() {
        sheet.add(format_args!("PCR {index}"), value);
    }
    sheet
}

pub(super) fn document(bytes: &[u8]) -> Sheet {
    let document = match Document::parse(bytes) {
        Ok(document) => document,
        Err(error) => return Sheet::unreadable("document of AWS", &error),
    };
    let mut sheet = Sheet::new(format_args!("document of AWS: {}", document.kind()));
    sheet.add("module", document.module_id());
    sheet.add("made at", document.timestamp());
    sheet.add("hash of the registers", document.digest());
    for (index, value) in document.pcrs() {
        sheet.add(format_args!("PCR {index}"), value);
    }
    for (name, value) in [
        ("nonce", document.nonce()),
        ("user data", document.user_data()),
        ("public key", document.public_key()),
    ] {
        match value {
            Some(bytes) => sheet.hex(name, bytes),
            None => sheet.add(name, "none"),
        }
    }
    let chain = std::iter::once(document.certificate()).chain(document.cabundle().iter().copied());
    for (number, der) in chain.enumerate() {
        let part = match Certificate::parse(der) {
            Ok(certificate) => certificates::fields(&certificate),
            Err(error) => Sheet::unreadable("certificate", &error),
        };
        sheet.part(format_args!("certificate {number}"), part);
    }
    sheet
}

pub(super) fn gpu(bytes: &[u8]) -> Sheet {
    let report = match Report::parse(bytes) {
        Ok(report) => report,
        Err(error) => return Sheet::unreadable("report of a GPU", &error),
    };
    let mut sheet = Sheet::new("report of a GPU (SPDM measurements)");
    sheet.hex("nonce", report.nonce());
    sheet.add("driver", report.driver().unwrap_or("not said"));
    sheet.add(
        "VBIOS",
        report.vbios().unwrap_or_else(|| "not said".to_owned()),
    );
    for index in report.indexes() {
        if let Some(value) = report.measurement(index) {
            sheet.hex(format_args!("measurement {index}"), value);
        }
    }
    sheet
}

pub(super) fn log(bytes: &[u8]) -> Sheet {
    let log = match parse(bytes) {
        Ok(log) => log,
        Err(error) => return Sheet::unreadable("event log", &error),
    };
    let banks: Vec<String> = log.banks().iter().map(ToString::to_string).collect();
    let mut sheet = Sheet::new(format_args!("event log, {:?}", log.form()));
    sheet.add("bytes", log.length());
    sheet.add("banks", banks.join(", "));
    match strongest(&log) {
        Ok(bank) => events(&mut sheet, &log, &bank),
        Err(error) => sheet.add("events", format_args!("can not be read: {error}")),
    }
    sheet
}

fn events(sheet: &mut Sheet, log: &Log<'_>, bank: &BankLog<'_>) {
    if let Ok(again) = strongest(log) {
        match secure_boot_of(again) {
            Ok((state, entries)) => sheet.add(
                "Secure Boot",
                format_args!(
                    "{}, {entries} entries in db and dbx",
                    match state {
                        SecureBootState::Enabled => "on",
                        SecureBootState::Disabled => "off",
                    }
                ),
            ),
            Err(error) => sheet.add("Secure Boot", format_args!("not shown: {error}")),
        }
    }
    for (register, value) in bank.replay() {
        sheet.add(
            format_args!("leads to {register} of {}", bank.bank()),
            value,
        );
    }
    for (number, event) in bank.events().iter().enumerate() {
        let data = event.data.get(..MAX_DATA).unwrap_or(event.data);
        sheet.add(
            format_args!("event {number}"),
            format_args!(
                "{}, {}, digest {}{}, {} bytes: {}",
                event.register,
                kind(event.kind),
                event.digest,
                if event.covers_data() {
                    " of the data"
                } else {
                    ""
                },
                event.data.len(),
                words(data)
            ),
        );
    }
}

/// Text where the data is text.
fn words(data: &[u8]) -> String {
    let is_text = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    if !data.is_empty() && data.iter().all(is_text) {
        String::from_utf8_lossy(data).into_owned()
    } else {
        hex::encode(data)
    }
}

fn kind(kind: u32) -> String {
    let name = match kind {
        event_type::SEPARATOR => "separator",
        event_type::EVENT_TAG => "tagged by the kernel",
        event_type::S_CRTM_VERSION => "version of the first code",
        event_type::IPL => "boot loader",
        event_type::NONHOST_INFO => "about the platform",
        event_type::EFI_VARIABLE_DRIVER_CONFIG => "EFI variable",
        event_type::EFI_VARIABLE_BOOT => "EFI boot option",
        event_type::EFI_BOOT_SERVICES_APPLICATION => "EFI application",
        event_type::EFI_BOOT_SERVICES_DRIVER | event_type::EFI_RUNTIME_SERVICES_DRIVER => {
            "EFI driver"
        }
        event_type::EFI_GPT_EVENT => "partition table",
        event_type::EFI_ACTION => "EFI action",
        event_type::EFI_PLATFORM_FIRMWARE_BLOB2 => "firmware volume",
        event_type::EFI_HANDOFF_TABLES2 => "hand-off tables",
        event_type::EFI_VARIABLE_AUTHORITY => "Secure Boot authority",
        _ => "event",
    };
    format!("{name} ({kind:#x})")
}
