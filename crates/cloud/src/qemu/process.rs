//! Background processes of a local cluster: told apart by their pid file and a word of their command line, stopped
//! through a pidfd, so that a process which got a recycled pid is never signalled.

use std::io;
use std::os::fd::OwnedFd;
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
    /// It did not end even when killed.
    #[error("process {0} does not end")]
    Immortal(i32),
}

/// How to find one background process again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handle {
    /// The file that holds its pid.
    pub pid_file: PathBuf,
    /// A text in its command line that no other process has, such as the path of its socket.
    pub mark: String,
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
        let Some(pid) = text
            .trim()
            .parse::<i32>()
            .ok()
            .filter(|pid| *pid > 1)
            .and_then(Pid::from_raw)
        else {
            return Ok(None);
        };
        let control = |what, source: rustix::io::Errno| ProcessError::Control {
            what,
            pid: pid.as_raw_nonzero().get(),
            source: source.into(),
        };
        let fd = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(fd) => fd,
            Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => return Ok(None),
            Err(errno) => return Err(control("open", errno)),
        };
        // the order matters: the command line read after the descriptor was opened belongs to the same process,
        // or to none, which an unreadable or empty file shows
        let command_line =
            std::fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        let running = Running { pid, fd };
        Ok(
            (contains(&command_line, self.mark.as_bytes()) && !running.has_ended()?)
                .then_some(running),
        )
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

impl Running {
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

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    !needle.is_empty()
        && haystack
            .windows(needle.len())
            .any(|window| window == needle)
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
                mark: "600".to_owned(),
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
            mark: "/run/user/0/somebody-else.sock".to_owned(),
            ..handle
        };
        assert!(other.find().unwrap().is_none());
        assert!(!other.stop().unwrap());
        assert!(child.try_wait().unwrap().is_none(), "still runs");
        child.kill().unwrap();
        child.wait().unwrap();
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
                    mark: "x".to_owned()
                }
                .find()
                .unwrap()
                .is_none(),
                "{content:?}"
            );
        }
    }
}
