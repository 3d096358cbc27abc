//! Background processes of a local cluster: told apart by their pid file and their command line, stopped through a
//! pidfd, so that a process which got a recycled pid is never signalled.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// How long a process gets to end by itself.
const GRACE: Duration = Duration::from_secs(10);
/// How long the kernel gets to end a process that was killed.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// A background process can not be looked at or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The pid file is there and can not be used.
    #[error("read the pid file {path}")]
    PidFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel does not let us look at or signal it.
    #[error("{what} process {pid}")]
    Control {
        /// What was tried.
        what: &'static str,
        /// Which process.
        pid: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The list of processes can not be read.
    #[error("list the processes of this host")]
    List(#[source] io::Error),
    /// It did not end even when killed.
    #[error("process {0} does not end")]
    Immortal(i32),
}

/// How to find one background process again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle {
    /// The file that holds its pid.
    pub pid_file: PathBuf,
    /// Arguments that follow one another in its command line and in that of no other process.
    pub arguments: Vec<OsString>,
}

/// A process that runs and is the one that was asked for.
#[derive(Debug)]
pub struct Running {
    pid: Pid,
    fd: OwnedFd,
}

impl Handle {
    /// The process, if it runs.
    pub fn find(&self) -> Result<Option<Running>, ProcessError> {
        let text = match std::fs::read_to_string(&self.pid_file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(ProcessError::PidFile {
                    path: self.pid_file.clone(),
                    source,
                });
            }
        };
        // an empty or torn file is that of a process which died while it started
        let Some(pid) = pid(&text) else {
            return Ok(None);
        };
        Ok(Running::open(pid)?
            .filter(|(_, command_line)| has_arguments(command_line, &self.arguments))
            .map(|(running, _)| running))
    }

    /// Stops the process if it runs, and removes its pid file.
    pub fn stop(&self) -> Result<bool, ProcessError> {
        let found = self.find()?;
        let was_running = found.is_some();
        if let Some(running) = found {
            running.stop()?;
        }
        remove_if_present(&self.pid_file).map_err(|source| ProcessError::PidFile {
            path: self.pid_file.clone(),
            source,
        })?;
        Ok(was_running)
    }
}

/// The processes of this host whose arguments `is_ours` recognises, whether or not they have a pid file.
pub fn search(is_ours: impl Fn(&[&OsStr]) -> bool) -> Result<Vec<Running>, ProcessError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").map_err(ProcessError::List)? {
        let name = entry.map_err(ProcessError::List)?.file_name();
        let Some(pid) = name.to_str().and_then(pid) else {
            continue;
        };
        // one look without a descriptor first: most of them are nobody's business
        let seen = |command_line: &[u8]| is_ours(&arguments(command_line));
        if seen(&command_line(pid))
            && let Some((running, command_line)) = Running::open(pid)?
            && seen(&command_line)
        {
            found.push(running);
        }
    }
    Ok(found)
}

fn pid(text: &str) -> Option<Pid> {
    let pid = text.trim().parse::<i32>().ok()?;
    (pid > 1).then(|| Pid::from_raw(pid))?
}

/// Empty for a process that ended or can not be looked at.
fn command_line(pid: Pid) -> Vec<u8> {
    std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default()
}

fn arguments(command_line: &[u8]) -> Vec<&OsStr> {
    let command_line = command_line.strip_suffix(b"\0").unwrap_or(command_line);
    command_line
        .split(|byte| *byte == 0)
        .map(OsStr::from_bytes)
        .collect()
}

fn has_arguments(command_line: &[u8], wanted: &[OsString]) -> bool {
    !wanted.is_empty()
        && arguments(command_line)
            .windows(wanted.len())
            .any(|window| window == wanted)
}

impl Running {
    /// The process with this pid and its command line, if it runs. The order matters: the command line read after the
    /// descriptor was opened belongs to the same process, or to none, which an empty one shows.
    fn open(pid: Pid) -> Result<Option<(Self, Vec<u8>)>, ProcessError> {
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
            Err(errno) => {
                return Err(ProcessError::Control {
                    what: "open",
                    pid: pid.as_raw_nonzero().get(),
                    source: errno.into(),
                });
            }
        };
        let command_line = command_line(pid);
        let running = Self { pid, fd };
        Ok((!running.has_ended()?).then_some((running, command_line)))
    }

    /// Its pid, for people.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    fn has_ended(&self) -> Result<bool, ProcessError> {
        self.wait(Duration::ZERO)
    }

    fn wait(&self, timeout: Duration) -> Result<bool, ProcessError> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            match poll(&mut [PollFd::new(&self.fd, PollFlags::IN)], Some(&left)) {
                Ok(ready) => return Ok(ready > 0),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => {
                    return Err(ProcessError::Control {
                        what: "wait for",
                        pid: self.pid(),
                        source: errno.into(),
                    });
                }
            }
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        match pidfd_send_signal(&self.fd, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(ProcessError::Control {
                what: "stop",
                pid: self.pid(),
                source: errno.into(),
            }),
        }
    }

    /// Asks it to end, then makes it.
    pub fn stop(self) -> Result<(), ProcessError> {
        self.signal(Signal::TERM)?;
        if self.wait(GRACE)? {
            return Ok(());
        }
        tracing::warn!(
            pid = self.pid(),
            "the process does not end by itself: killing it"
        );
        self.signal(Signal::KILL)?;
        if self.wait(AFTER_KILL)? {
            Ok(())
        } else {
            Err(ProcessError::Immortal(self.pid()))
        }
    }
}

pub(crate) fn remove_if_present(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use super::*;

    fn sleeper(directory: &Path) -> (Child, Handle) {
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        let pid_file = directory.join("pid");
        std::fs::write(&pid_file, format!("{}\n", child.id())).unwrap();
        // spawn returns when the memory is exchanged, a moment before the kernel shows the new arguments
        let arguments = format!("/proc/{}/cmdline", child.id());
        while !std::fs::read(&arguments).unwrap().ends_with(b"600\0") {
            std::thread::yield_now();
        }
        (
            child,
            Handle {
                pid_file,
                arguments: vec!["sleep".into(), "600".into()],
            },
        )
    }

    #[test]
    fn the_right_process_is_found_and_stopped() {
        let directory = tempfile::tempdir().unwrap();
        let (mut child, handle) = sleeper(directory.path());
        assert_eq!(
            handle.find().unwrap().unwrap().pid(),
            i32::try_from(child.id()).unwrap()
        );
        assert!(handle.stop().unwrap());
        assert!(!child.wait().unwrap().success());
        assert!(!handle.pid_file.exists());
        assert!(!handle.stop().unwrap());
    }

    #[test]
    fn another_process_with_the_pid_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (mut child, handle) = sleeper(directory.path());
        let other = Handle {
            arguments: vec!["60".into()],
            ..handle
        };
        assert!(other.find().unwrap().is_none());
        assert!(!other.stop().unwrap());
        assert!(child.try_wait().unwrap().is_none(), "still runs");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn a_process_without_a_pid_file_is_found_by_its_arguments() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("followed");
        std::fs::write(&file, "").unwrap();
        let mut child = Command::new("tail").arg("-f").arg(&file).spawn().unwrap();
        let ours = || {
            search(|arguments| {
                arguments.first() == Some(&OsStr::new("tail"))
                    && arguments.get(2) == Some(&file.as_os_str())
            })
        };
        let found = loop {
            if let Some(found) = ours().unwrap().pop() {
                break found;
            }
            std::thread::yield_now();
        };
        assert_eq!(found.pid(), i32::try_from(child.id()).unwrap());
        found.stop().unwrap();
        child.wait().unwrap();
        assert!(ours().unwrap().is_empty());
    }

    #[test]
    fn a_torn_pid_file_is_nobody() {
        let directory = tempfile::tempdir().unwrap();
        for content in ["", "x", "-1", "0", "1", "999999999999"] {
            let pid_file = directory.path().join("pid");
            std::fs::write(&pid_file, content).unwrap();
            assert!(
                Handle {
                    pid_file,
                    arguments: vec!["x".into()]
                }
                .find()
                .unwrap()
                .is_none(),
                "{content:?}"
            );
        }
    }
}
