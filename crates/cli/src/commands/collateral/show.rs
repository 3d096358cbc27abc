//! Collateral as a table or as JSON.

use collateral::{Ages, Answer, Entry, State};
use comfy_table::{ContentArrangement, Table, presets};
use jiff::Timestamp;
use serde::Serialize;

use crate::arguments::Format;
use crate::failure::Failure;
use crate::output;

/// An entry, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    item: String,
    state: &'static str,
    fetched_at: Timestamp,
    age_seconds: i64,
    /// A list's or statement's next update, a certificate's end.
    valid_until: Option<Timestamp>,
    bytes: usize,
    /// Whether it was fetched by this command.
    #[serde(skip_serializing_if = "Option::is_none")]
    fetched_now: Option<bool>,
}

fn row(entry: &Entry, state: State, now: Timestamp, fetched_now: Option<bool>) -> Row {
    Row {
        item: entry.item().to_string(),
        state: match state {
            State::Fresh => "fresh",
            State::Stale => "stale",
        },
        fetched_at: entry.fetched_at(),
        age_seconds: now
            .as_second()
            .saturating_sub(entry.fetched_at().as_second())
            .max(0),
        valid_until: entry.valid_until(),
        bytes: entry.size(),
        fetched_now,
    }
}

/// What was had.
pub(super) fn answers(answers: &[Answer], now: Timestamp, format: Format) -> Result<(), Failure> {
    let rows = answers
        .iter()
        .map(|answer| row(&answer.entry, answer.state, now, Some(answer.is_new)));
    print(rows.collect(), format)
}

/// What is there.
pub(super) fn entries(
    entries: &[Entry],
    now: Timestamp,
    ages: &Ages,
    format: Format,
) -> Result<(), Failure> {
    let rows = entries
        .iter()
        .map(|entry| row(entry, entry.state(now, ages), now, None));
    print(rows.collect(), format)
}

fn print(rows: Vec<Row>, format: Format) -> Result<(), Failure> {
    if format == Format::Json {
        return output::json(&rows);
    }
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(["ITEM", "STATE", "AGE", "VALID UNTIL", "BYTES"]);
    for row in &rows {
        let valid_until = match row.valid_until {
            Some(end) => end.strftime("%Y-%m-%d %H:%MZ").to_string(),
            None => "-".to_owned(),
        };
        let state = match row.fetched_now {
            Some(true) => "fetched",
            Some(false) | None => row.state,
        };
        table.add_row([
            short(&row.item),
            state.to_owned(),
            age(row.age_seconds),
            valid_until,
            row.bytes.to_string(),
        ]);
    }
    output::data(&format!("{table}\n"))
}

/// A chip's identifier of 128 digits makes a line that no terminal has; JSON has it whole.
fn short(item: &str) -> String {
    let parts = item.split('/').map(|part| {
        match (
            part.get(..12),
            part.len() > 64 && part.chars().all(|c| c.is_ascii_hexdigit()),
        ) {
            (Some(begin), true) => format!("{begin}..."),
            _ => part.to_owned(),
        }
    });
    parts.collect::<Vec<_>>().join("/")
}

fn age(seconds: i64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_and_names_fit_into_a_line() {
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (7200, "2h"),
            (90_000, "1d"),
        ] {
            assert_eq!(age(seconds), expected);
        }
        let chip = "ab".repeat(64);
        assert_eq!(
            short(&format!("amd-vcek/milan/{chip}/bl=1,tee=0,snp=8,ucode=115")),
            "amd-vcek/milan/abababababab.../bl=1,tee=0,snp=8,ucode=115"
        );
        let url = "crl/http://pki.goog/cloud_integrity/a.crl";
        assert_eq!(short(url), url);
    }
}
