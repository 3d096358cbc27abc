//! The TPM 2.0 of a local machine: a swtpm process per machine, with its own state directory.
//!
//! The state, seeds included, lies in plain files of the user: this is a root of trust for development, not for
//! production, and every verdict over its evidence says so.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::process::{Handle, ProcessError, remove_if_present};

/// The program.
pub const PROGRAM: &str = "swtpm";
/// The program that makes a TPM's first state.
pub const SET_UP_PROGRAM: &str = "swtpm_setup";

/// A TPM could not be started.
#[derive(Debug, thiserror::Error)]
pub enum SwtpmError {
    /// The state directory can not be made.
    #[error("make the TPM's state directory {path}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The program can not be run.
    #[error("run {program}")]
    Run {
        /// The program.
        program: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The program ran and failed.
    #[error("{program} failed: {output}")]
    Failed {
        /// The program.
        program: &'static str,
        /// The last of what it said.
        output: String,
    },
    /// Its process can not be controlled.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// One machine's TPM. All paths are absolute: swtpm as a daemon changes its directory.
#[derive(Debug, Clone)]
pub struct Swtpm {
    /// Where the state lies.
    pub state: PathBuf,
    /// The control socket QEMU connects to.
    pub socket: PathBuf,
    /// Pid file.
    pub pid_file: PathBuf,
    /// Log file.
    pub log: PathBuf,
}

impl Swtpm {
    /// How its process is found again.
    pub fn handle(&self) -> Handle {
        Handle {
            pid_file: self.pid_file.clone(),
            arguments: vec!["--pid".into(), self.pid_argument()],
        }
    }

    fn pid_argument(&self) -> OsString {
        let mut argument = OsString::from("file=");
        argument.push(&self.pid_file);
        argument
    }

    /// Starts the TPM, made new if it has no state yet. It ends by itself when its machine does.
    pub fn start(&self) -> Result<(), SwtpmError> {
        if self.handle().find()?.is_some() {
            return Ok(());
        }
        self.manufacture()?;
        let failed = |source| SwtpmError::Directory {
            path: self.socket.clone(),
            source,
        };
        remove_if_present(&self.socket).map_err(failed)?;
        let mut command = Command::new(PROGRAM);
        command
            .args(["socket", "--tpm2", "--daemon", "--terminate"])
            .arg("--tpmstate")
            .arg(format!("dir={},mode=0600", self.state.display()))
            .arg("--ctrl")
            .arg(format!(
                "type=unixio,path={},mode=0600",
                self.socket.display()
            ))
            .arg("--pid")
            .arg(self.pid_argument())
            .arg("--log")
            .arg(format!("file={},level=1", self.log.display()));
        run(PROGRAM, &mut command)
    }

    /// Gives a new TPM its seeds. One bank: firmware measures into each bank that is active, and the others would only
    /// cost time. The directory takes its name at the end, so that an interrupted set-up leaves no half-made TPM.
    fn manufacture(&self) -> Result<(), SwtpmError> {
        if self.state.is_dir() {
            return Ok(());
        }
        let failed = |path: &Path, source| SwtpmError::Directory {
            path: path.to_owned(),
            source,
        };
        let fresh = self.state.with_extension("new");
        if fresh.exists() {
            std::fs::remove_dir_all(&fresh).map_err(|source| failed(&fresh, source))?;
        }
        std::fs::create_dir_all(&fresh).map_err(|source| failed(&fresh, source))?;
        let mut command = Command::new(SET_UP_PROGRAM);
        command
            .arg("--tpm2")
            .arg("--tpmstate")
            .arg(&fresh)
            .args(["--pcr-banks", "sha256"]);
        run(SET_UP_PROGRAM, &mut command)?;
        std::fs::rename(&fresh, &self.state).map_err(|source| failed(&self.state, source))
    }

    /// Stops it, if it runs.
    pub fn stop(&self) -> Result<bool, SwtpmError> {
        let was_running = self.handle().stop()?;
        remove_if_present(&self.socket).map_err(|source| SwtpmError::Directory {
            path: self.socket.clone(),
            source,
        })?;
        Ok(was_running)
    }
}

fn run(program: &'static str, command: &mut Command) -> Result<(), SwtpmError> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| SwtpmError::Run { program, source })?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(SwtpmError::Failed {
        program,
        output: last_lines(&text),
    })
}

/// The end of what a program said, on one line, for an error.
pub(crate) fn last_lines(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let lines: Vec<_> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let shown = lines
        .get(lines.len().saturating_sub(4)..)
        .unwrap_or_default();
    if shown.is_empty() {
        "it said nothing".to_owned()
    } else {
        shown.join("; ")
    }
}
