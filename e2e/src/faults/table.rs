//! The rows that go into `docs/reliability.md`.

use std::fmt;
use std::time::Duration;

/// One fault, many times.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// What was done.
    pub fault: String,
    /// In what window.
    pub window: String,
    /// How often.
    pub runs: u64,
    /// Writes that the API acknowledged meanwhile; `None` where no API runs.
    pub acknowledged: Option<u64>,
    /// Requests without an answer.
    pub unanswered: u64,
    /// The longest time without an acknowledgement.
    pub longest_pause: Duration,
    /// What was lost, or did not come back, in words.
    pub losses: Vec<String>,
}

/// The head of the table.
pub const HEAD: &str = "\
| fault | where | runs | acknowledged writes | without an answer | longest pause | lost |
|---|---|---|---|---|---|---|";

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "| {} | {} | {} | ", self.fault, self.window, self.runs)?;
        match self.acknowledged {
            Some(acknowledged) => write!(
                f,
                "{acknowledged} | {} | {:.1} s | ",
                self.unanswered,
                self.longest_pause.as_secs_f64()
            )?,
            None => write!(f, "| | | ")?,
        }
        write!(f, "{} |", self.losses.len())
    }
}
