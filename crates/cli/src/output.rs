//! What a person sees on stderr: phases with their times, notes, failures. Knows NO_COLOR and whether anybody looks.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::failure::{Failure, Kind};

/// stderr.
pub(crate) struct Terminal {
    interactive: bool,
    colour: bool,
    debug: bool,
    begun: Instant,
    current: Mutex<Option<ProgressBar>>,
}

impl Terminal {
    /// Looks at stderr and the environment.
    pub(crate) fn detect(debug: bool) -> Self {
        let interactive = io::stderr().is_terminal();
        let colour = interactive
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        Self {
            interactive,
            colour,
            debug,
            begun: Instant::now(),
            current: Mutex::new(None),
        }
    }

    /// Whether a question can be asked.
    pub(crate) fn can_ask(&self) -> bool {
        self.interactive && io::stdin().is_terminal()
    }

    /// Asks for a yes. Waits beside the runtime, so that Ctrl-C is noticed.
    pub(crate) async fn confirm(&self, question: &str) -> Result<bool, Failure> {
        self.line(format_args!("{question} [y/N] "));
        let read = || {
            let mut answer = String::new();
            io::stdin().read_line(&mut answer).map(|_| answer)
        };
        let answer = tokio::task::spawn_blocking(read)
            .await
            .map_err(io::Error::other)
            .flatten()
            .map_err(|error| Failure::internal("read the answer").because(error))?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }

    /// One line.
    pub(crate) fn line(&self, text: impl fmt::Display) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match current.as_ref() {
            Some(bar) => bar.suspend(|| write_line(&text)),
            None => write_line(&text),
        }
    }

    /// A line only for whoever asked for more.
    pub(crate) fn debug(&self, text: impl fmt::Display) {
        if self.debug {
            self.line(format_args!("{} {text}", self.dim("debug:")));
        }
    }

    /// Something to know that stops nothing.
    pub(crate) fn note(&self, text: impl fmt::Display) {
        self.line(format_args!("{} {text}", self.paint("33", "note:")));
    }

    /// Begins a phase of long work.
    pub(crate) fn begin(&self, phase: &str) -> Instant {
        let now = Instant::now();
        if self.interactive {
            let bar = ProgressBar::new_spinner().with_message(phase.to_owned());
            if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} ({elapsed})") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
        } else {
            self.line(format_args!(
                "[{:7.1}s] {phase} ...",
                self.begun.elapsed().as_secs_f64()
            ));
        }
        now
    }

    /// What the phase is at.
    pub(crate) fn progress(&self, text: impl fmt::Display) {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match current.as_ref() {
            Some(bar) => bar.set_message(text.to_string()),
            None => write_line(&format_args!(
                "[{:7.1}s]   {text}",
                self.begun.elapsed().as_secs_f64()
            )),
        }
    }

    /// Ends a phase.
    pub(crate) fn end(&self, phase: &str, begun: Instant, detail: &str) {
        self.clear();
        let took = begun.elapsed().as_secs_f64();
        let detail = if detail.is_empty() {
            String::new()
        } else {
            format!("  {}", self.dim(detail))
        };
        self.line(format_args!(
            "  {} {phase:<28} {took:7.1} s{detail}",
            self.paint("32", "✓")
        ));
    }

    fn clear(&self) {
        if let Some(bar) = self
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        {
            bar.finish_and_clear();
        }
    }

    /// The end of a command that failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        self.clear();
        if let Some(detail) = failure.detail_text() {
            self.line(detail);
        }
        let label = if failure.kind() == Kind::Interrupted {
            self.paint("33", "stopped:")
        } else {
            self.paint("31", "error:")
        };
        self.line(format_args!("{label} {failure}"));
        if let Some(hint) = failure.hint_text() {
            self.line(format_args!("{} {hint}", self.paint("36", "hint:")));
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[1;{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    fn dim(&self, text: &str) -> String {
        if self.colour {
            format!("\u{1b}[2m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }
}

fn write_line(text: &impl fmt::Display) {
    // nobody reads stderr any more: there is nowhere left to say so
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// Writes data to stdout. A reader that went away (`| head`) is no failure.
pub(crate) fn data(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::infrastructure("write to stdout").because(error))
        }
        _ => Ok(()),
    }
}

/// Writes a value to stdout as JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::internal("write the answer as JSON").because(error))?;
    text.push('\n');
    data(&text)
}
