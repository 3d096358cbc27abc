//! Running `cryptsetup` and `mkfs.ext4`.
//!
//! Keys reach a program on its standard input, never as an argument or in its environment, which other processes can read.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::process::{Command, ExitStatus, Stdio};

/// Where Debian keeps both programs; the machine's own environment does not choose.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// How much of a program's complaint goes into an error.
const COMPLAINT: usize = 400;
/// cryptsetup's exit code for a passphrase that opens no keyslot.
const NO_PERMISSION: i32 = 2;

/// A program did not do what it was run for.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It could not be started: is it in the image?
    #[error("cannot run {program}")]
    Start {
        /// The program.
        program: &'static str,
        #[source]
        source: io::Error,
    },
    /// It could not be given its input, or waited for.
    #[error("cannot talk to {program}")]
    Talk {
        /// The program.
        program: &'static str,
        #[source]
        source: io::Error,
    },
    /// The key opens no keyslot.
    #[error("the key does not open this disk")]
    WrongKey,
    /// It failed.
    #[error("{program} {action} failed ({status}): {complaint}")]
    Failed {
        /// The program.
        program: &'static str,
        /// Its first argument.
        action: String,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote to standard error, made printable and cut.
        complaint: String,
    },
}

/// Runs `cryptsetup`; what is in `input` is written to its standard input, one after another.
pub(crate) fn cryptsetup<A: AsRef<OsStr>>(
    arguments: &[A],
    input: &[&[u8]],
) -> Result<(), ProgramError> {
    run("cryptsetup", arguments, input)
}

/// Runs `mkfs.ext4`.
pub(crate) fn mkfs_ext4<A: AsRef<OsStr>>(arguments: &[A]) -> Result<(), ProgramError> {
    run("mkfs.ext4", arguments, &[])
}

fn run<A: AsRef<OsStr>>(
    program: &'static str,
    arguments: &[A],
    input: &[&[u8]],
) -> Result<(), ProgramError> {
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| ProgramError::Start { program, source })?;
    let talk = |source| ProgramError::Talk { program, source };

    // Two keys are 64 bytes: they fit into the pipe, so this can not wait for a program that does not read.
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| {
        input.iter().try_for_each(|part| stdin.write_all(part))
    });
    let output = child.wait_with_output().map_err(talk)?;

    // The exit status first: a program that refused its arguments did not read its input.
    if output.status.success() {
        return written.map_err(talk);
    }
    if output.status.code() == Some(NO_PERMISSION) && program == "cryptsetup" {
        return Err(ProgramError::WrongKey);
    }
    let action = arguments
        .first()
        .map(|action| action.as_ref().to_string_lossy().into_owned());
    Err(ProgramError::Failed {
        program,
        action: action.unwrap_or_default(),
        status: output.status,
        complaint: printable(&output.stderr),
    })
}

fn printable(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.trim()
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(COMPLAINT)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = run("no-such-program", &["x"], &[]).unwrap_err();
        assert_eq!(error.to_string(), "cannot run no-such-program");
    }

    #[test]
    fn a_failure_carries_what_the_program_said() {
        let error = run("ls", &["/no/such\u{7}/place"], &[]).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("ls /no/such"), "{text}");
        assert!(text.contains("No such file or directory"), "{text}");
        assert!(
            !text.contains('\u{7}') || text.starts_with("ls /no/such\u{7}"),
            "{text:?}"
        );
    }
}
