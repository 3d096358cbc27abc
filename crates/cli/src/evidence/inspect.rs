//! Every field of evidence in words, for a person. Nothing is believed, and nothing decided.

mod certificates;
mod hardware;
mod measurements;

use std::fmt::{Display, Write as _};

use attest::Text;
use serde::Serialize;
use serde_json::Value;

use super::Files;
use crate::arguments::EvidenceVariant;
use crate::text::chain;

/// The most fields of a file that are printed.
const MAX_FIELDS: usize = 4000;
/// Bytes of a file that is not known.
const MAX_SHOWN: usize = 64;

/// One file.
#[derive(Serialize)]
pub(crate) struct Sheet {
    file: String,
    /// What it is, or why it can not be read.
    what: String,
    fields: Vec<Field>,
}

/// One field.
#[derive(Serialize)]
struct Field {
    name: String,
    value: String,
}

impl Sheet {
    fn new(what: impl Display) -> Self {
        Self {
            file: String::new(),
            what: shown(&what.to_string()),
            fields: Vec::new(),
        }
    }

    fn unreadable(what: &str, error: &dyn std::error::Error) -> Self {
        Self::new(format_args!(
            "{what}, which can not be read: {}",
            chain(error)
        ))
    }

    fn add(&mut self, name: impl Display, value: impl Display) {
        if self.fields.len() < MAX_FIELDS {
            let value = value.to_string();
            // digests and nonces are as long as they are; words of a machine are made harmless
            let is_hex = value.bytes().all(|byte| byte.is_ascii_hexdigit());
            self.fields.push(Field {
                name: shown(&name.to_string()),
                value: if is_hex { value } else { shown(&value) },
            });
        }
    }

    fn hex(&mut self, name: impl Display, value: &[u8]) {
        let value = match value {
            [] => "empty".to_owned(),
            zeros if zeros.iter().all(|byte| *byte == 0) => format!("{} zeros", zeros.len()),
            value => hex::encode(value),
        };
        self.add(name, value);
    }

    /// A part with fields of its own.
    fn part(&mut self, name: impl Display, part: Self) {
        self.add(&name, &part.what);
        for field in part.fields {
            self.add(format_args!("{name}: {}", field.name), field.value);
        }
    }
}

fn shown(text: &str) -> String {
    Text::from(text).as_str().to_owned()
}

/// One for each file, in the order of their names.
pub(crate) fn sheets(variant: EvidenceVariant, files: &Files) -> Vec<Sheet> {
    files
        .iter()
        .map(|(name, bytes)| Sheet {
            file: shown(name),
            ..sheet(variant, name, bytes)
        })
        .collect()
}

/// The sheets as text.
pub(crate) fn text(sheets: &[Sheet]) -> String {
    let mut text = String::new();
    for sheet in sheets {
        // writing to a string does not fail
        writeln!(text, "{}: {}", sheet.file, sheet.what).ok();
        let width = sheet.fields.iter().map(|it| it.name.chars().count()).max();
        let width = width.unwrap_or_default().min(48);
        for field in &sheet.fields {
            writeln!(text, "  {:width$}  {}", field.name, field.value).ok();
        }
    }
    text
}

fn sheet(variant: EvidenceVariant, name: &str, bytes: &[u8]) -> Sheet {
    match name {
        "report.bin" if variant == EvidenceVariant::NvidiaGpu => measurements::gpu(bytes),
        "report.bin" => hardware::snp(bytes),
        "hcl-report.bin" | "hcl_report.bin" => hardware::hcl(bytes),
        "quote.bin" | "quote.dat" => hardware::tdx(bytes),
        "quote.msg" => measurements::statement(bytes),
        "document.cbor" => measurements::document(bytes),
        "pcrs.json" => match super::quote::values(bytes) {
            Ok(values) => measurements::pcrs(&values),
            Err(failure) => {
                Sheet::new(format_args!("PCR values, which can not be read: {failure}"))
            }
        },
        "cert.der" | "vek.der" | "akcert.der" => certificates::certificate(bytes),
        "eventlog.bin" => measurements::log(bytes),
        name if name.starts_with("ccel") && !name.contains("table") => measurements::log(bytes),
        _ => by_content(bytes),
    }
}

fn by_content(bytes: &[u8]) -> Sheet {
    if let Some(sheet) = certificates::known(bytes) {
        return sheet;
    }
    if let Ok(value) = serde_json::from_slice::<Value>(bytes) {
        let mut sheet = Sheet::new("JSON");
        flatten(&mut sheet, "", &value);
        return sheet;
    }
    let mut sheet = Sheet::new(format_args!(
        "{} bytes of a kind that is not known",
        bytes.len()
    ));
    let first = bytes.get(..MAX_SHOWN).unwrap_or(bytes);
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => {
            for (number, line) in text.lines().enumerate() {
                sheet.add(format_args!("line {}", number + 1), line);
            }
        }
        _ => sheet.hex("begins with", first),
    }
    sheet
}

/// Every value of a JSON document with the way to it.
fn flatten(sheet: &mut Sheet, path: &str, value: &Value) {
    let below = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                flatten(sheet, &below(name), value);
            }
        }
        Value::Array(values) => {
            for (number, value) in values.iter().enumerate() {
                flatten(sheet, &format!("{path}[{number}]"), value);
            }
        }
        Value::String(text) => sheet.add(path, text),
        Value::Null | Value::Bool(_) | Value::Number(_) => sheet.add(path, value),
    }
}
