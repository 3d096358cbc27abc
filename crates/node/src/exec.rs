//! The one place that runs other programs: argument lists, never a shell; captured output; a deadline; typed errors.
//!
//! No secret may be an argument: it is in `/proc` for everyone. Secrets go through [`Program::input`] or a file of mode 0600.

use std::ffi::{OsStr, OsString};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use zeroize::Zeroizing;

/// Deadline of a program that does little. Generous: software emulation is slow.
const DEADLINE: Duration = Duration::from_secs(120);

/// How much of a failed program's own words goes into the error.
const WORDS: usize = 2048;

/// A program with its arguments.
pub struct Program {
    name: &'static str,
    arguments: Vec<OsString>,
    input: Option<Zeroizing<Vec<u8>>>,
    deadline: Duration,
}

/// A program did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// It is not there, or may not be run.
    #[error("starting {program}")]
    Start {
        /// Which program.
        program: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its input or output broke.
    #[error("talking to {program}")]
    Pipe {
        /// Which program.
        program: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It said no.
    #[error("{program} {arguments}: {status}: {words}")]
    Failed {
        /// Which program.
        program: &'static str,
        /// With which arguments.
        arguments: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said, shortened.
        words: String,
    },
    /// It took too long and was stopped.
    #[error("{program} {arguments}: not done after {}", humantime(.deadline))]
    Deadline {
        /// Which program.
        program: &'static str,
        /// With which arguments.
        arguments: String,
        /// How long it had.
        deadline: Duration,
    },
}

fn humantime(time: &Duration) -> String {
    format!("{} s", time.as_secs())
}

impl Program {
    /// A program of the image, found by name in the service manager's fixed path.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            arguments: Vec::new(),
            input: None,
            deadline: DEADLINE,
        }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(
            arguments
                .into_iter()
                .map(|argument| argument.as_ref().to_owned()),
        );
        self
    }

    /// Gives it something to read.
    #[must_use]
    pub fn input(mut self, input: Vec<u8>) -> Self {
        self.input = Some(Zeroizing::new(input));
        self
    }

    /// Gives it another deadline than the usual one.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it and returns what it wrote.
    pub async fn output(self) -> Result<Vec<u8>, ExecError> {
        let program = self.name;
        let mut child = tokio::process::Command::new(program)
            .args(&self.arguments)
            .stdin(if self.input.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|source| ExecError::Start { program, source })?;
        let arguments = shown(&self.arguments);
        let stdin = child.stdin.take().zip(self.input);
        let feed = async move {
            if let Some((mut stdin, input)) = stdin {
                stdin.write_all(&input).await?;
                stdin.shutdown().await?;
            }
            Ok::<(), std::io::Error>(())
        };
        let done = tokio::time::timeout(self.deadline, async {
            tokio::join!(feed, child.wait_with_output())
        })
        .await;
        let Ok((fed, output)) = done else {
            return Err(ExecError::Deadline {
                program,
                arguments,
                deadline: self.deadline,
            });
        };
        let output = output.map_err(|source| ExecError::Pipe { program, source })?;
        if !output.status.success() {
            let mut words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            if words.is_empty() {
                words = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            }
            let words = words.chars().take(WORDS).collect();
            return Err(ExecError::Failed {
                program,
                arguments,
                status: output.status,
                words,
            });
        }
        fed.map_err(|source| ExecError::Pipe { program, source })?;
        Ok(output.stdout)
    }

    /// Runs it for what it does.
    pub async fn run(self) -> Result<(), ExecError> {
        self.output().await.map(drop)
    }
}

fn shown(arguments: &[OsString]) -> String {
    let shown: Vec<_> = arguments
        .iter()
        .map(|argument| argument.to_string_lossy())
        .collect();
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn input_goes_in_and_output_comes_out() {
        let output = Program::new("cat")
            .input(b"words".to_vec())
            .output()
            .await
            .unwrap();
        assert_eq!(output, b"words");
    }

    #[tokio::test]
    async fn a_failure_has_the_program_its_arguments_and_its_words() {
        let error = Program::new("ls")
            .arg("/no/such/place")
            .run()
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with("ls /no/such/place: exit status: 2: ls: cannot access"),
            "{text}"
        );
        let missing = Program::new("no-such-program").run().await.unwrap_err();
        assert!(matches!(
            missing,
            ExecError::Start {
                program: "no-such-program",
                ..
            }
        ));
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_stopped() {
        let program = Program::new("sleep")
            .arg("60")
            .deadline(Duration::from_millis(50));
        assert!(matches!(
            program.run().await,
            Err(ExecError::Deadline { .. })
        ));
    }
}
