//! Waiting for machines: until they are nodes, or until one of them can not become one any more.

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use cloud::qemu::Seat;
use cloud::qemu::machine::Machine;
use kube::Client;

use crate::failure::{Failure, Kind};
use crate::kubernetes::{self, NodeStatus};
use crate::mini::logs;
use crate::output::Terminal;
use crate::text::printable;

use super::WATCH;

const POLL: Duration = Duration::from_secs(2);
/// How long one answer may take: more than a handshake does on a machine without hardware virtualisation.
const ANSWER: Duration = Duration::from_secs(60);
/// How much of a console's end is searched for the machine's last words.
const LAST_WORDS: u64 = 64 * 1024;
/// What our programs on a machine begin their lines on its console with.
const MARK: &str = "constellation: ";

/// Waits until every machine is a node that is Ready.
pub(super) async fn for_nodes(
    client: &Client,
    machines: &[&Machine],
    deadline: Duration,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut shown = String::new();
    let mut first_missing = None;
    let mut last_error = None;
    while begun.elapsed() < deadline {
        // an API server that is busy may accept a request and never answer it
        match tokio::time::timeout(ANSWER, kubernetes::nodes(client)).await {
            Ok(Ok(nodes)) => {
                let missing: Vec<_> = machines
                    .iter()
                    .filter_map(|machine| {
                        let (seat, console) = (machine.seat(), machine.console());
                        Some((seat, lacking(seat, &nodes, || last_words(&console))?))
                    })
                    .collect();
                let Some((seat, _)) = missing.first() else {
                    return Ok(());
                };
                first_missing = Some(*seat);
                let texts: Vec<_> = missing.into_iter().map(|(_, text)| text).collect();
                let now = texts.join("; ");
                if now != shown {
                    terminal.progress(&now);
                    shown = now;
                }
            }
            Ok(Err(error)) => {
                terminal.debug(format_args!("list nodes: {error}"));
                last_error = Some(error);
            }
            Err(_) => terminal.debug(format_args!(
                "list nodes: no answer within {} s",
                ANSWER.as_secs()
            )),
        }
        tokio::time::sleep(POLL).await;
    }
    let minutes = deadline.as_secs() / 60;
    let failure = Failure::cluster(format!(
        "not every node is Ready after {minutes} minutes: {shown}"
    ));
    Err(match (first_missing, last_error) {
        (Some(seat), _) => failure.hint(see_console(seat)),
        (None, Some(error)) => failure.because(error),
        (None, None) => failure,
    })
}

/// Asks the cluster until it answers: an API server that has just started, or is busy, cuts connections, or accepts a request and never
/// answers it. What is not the cluster's failure is told at once.
pub(super) async fn for_an_answer<T>(
    deadline: Duration,
    terminal: &Terminal,
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let begun = tokio::time::Instant::now();
    let mut shown = String::new();
    loop {
        let answer = tokio::time::timeout(ANSWER, ask()).await;
        let failure = match answer {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(failure)) if failure.kind() != Kind::Cluster => return Err(failure),
            Ok(Err(failure)) => failure,
            Err(_) => Failure::cluster(format!("{what} took longer than {} s", ANSWER.as_secs())),
        };
        if begun.elapsed() >= deadline {
            return Err(failure);
        }
        let now = failure.to_string();
        if now != shown {
            terminal.progress(&now);
            shown = now;
        }
        tokio::time::sleep(POLL).await;
    }
}

fn see_console(seat: Seat) -> String {
    format!("`constellation mini logs {seat}` shows its console")
}

/// What a machine lacks to be a node that is Ready, and a control plane if it is to be one.
fn lacking(
    seat: Seat,
    nodes: &[NodeStatus],
    last_words: impl FnOnce() -> Option<String>,
) -> Option<String> {
    let said = |state: &str| match last_words() {
        Some(words) => format!("{seat}: {state}, and says: {words}"),
        None => format!("{seat}: {state}"),
    };
    match nodes.iter().find(|node| node.name == seat.to_string()) {
        // the label comes when its etcd votes and its API server answers
        Some(node) if node.ready && node.role != seat.role() => {
            Some(said("a node, and not a control plane yet"))
        }
        Some(node) if node.ready => None,
        Some(node) => Some(format!("{seat}: not Ready ({})", printable(&node.message))),
        None => Some(said("has not joined yet")),
    }
}

/// The last thing a machine said on its console, such as why it was refused. Best effort: there may be no console yet.
fn last_words(console: &Path) -> Option<String> {
    let mut file = std::fs::File::open(console).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS)))
        .ok()?;
    let mut end = Vec::new();
    file.take(LAST_WORDS).read_to_end(&mut end).ok()?;
    let said = logs::plain(&end);
    // indented lines belong to a tree of checks; its head says what they are about
    said.lines()
        .filter_map(|line| line.strip_prefix(MARK))
        .rfind(|words| words.starts_with(|c: char| !c.is_whitespace()))
        .map(printable)
}

/// Resolves when a machine does not run any more: it ended, or is paused because the host failed it.
pub(super) async fn for_a_halt(machines: &[&Machine]) -> Failure {
    loop {
        tokio::time::sleep(WATCH).await;
        for machine in machines {
            let seat = machine.seat();
            if matches!(machine.handle().find(), Ok(None)) {
                return Failure::infrastructure(format!("{seat} stopped by itself"))
                    .hint(see_console(seat));
            }
            // a control socket has one user at a time: no answer says nothing about the machine
            let Ok(mut control) = machine.control().await else {
                continue;
            };
            if let Ok(status) = control.status().await
                && let Some(failure) = halted(seat, &status)
            {
                return failure;
            }
        }
    }
}

/// QEMU's words for a machine that waits for somebody to let it go on.
pub(super) fn is_paused(status: &str) -> bool {
    matches!(status, "paused" | "io-error")
}

fn halted(seat: Seat, status: &str) -> Option<Failure> {
    Some(match status {
        "io-error" => Failure::infrastructure(format!(
            "{seat} is paused: its disk can not be written, most likely because the host's disk is full"
        ))
        .hint("free some space and run the same command again"),
        "paused" => Failure::infrastructure(format!("{seat} is paused"))
            .hint("the same command lets it go on"),
        "internal-error" | "guest-panicked" => {
            Failure::infrastructure(format!("{seat} does not run any more: {status}"))
                .hint(see_console(seat))
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use cluster::Role;

    use super::*;

    fn worker() -> Seat {
        Seat::new(Role::Worker, 0).unwrap()
    }

    #[test]
    fn a_machine_on_a_full_host_is_told() {
        let failure = halted(worker(), "io-error").unwrap();
        assert_eq!(failure.kind(), Kind::Infrastructure);
        assert!(
            failure
                .to_string()
                .starts_with("worker-0 is paused: its disk can not be written"),
            "{failure}"
        );
        for runs in ["running", "prelaunch", "inmigrate"] {
            assert!(halted(worker(), runs).is_none(), "{runs}");
        }
    }

    /// Asks with answers that are given; nothing where none comes.
    async fn asked(
        deadline: Duration,
        answers: impl IntoIterator<Item = Option<Result<u8, Failure>>>,
    ) -> Result<u8, Failure> {
        let mut answers = answers.into_iter();
        for_an_answer(
            deadline,
            &Terminal::detect(false),
            "the list",
            async || match answers.next().expect("it is asked no more") {
                Some(answer) => answer,
                None => std::future::pending().await,
            },
        )
        .await
    }

    #[tokio::test(start_paused = true)]
    async fn a_cluster_that_is_busy_is_asked_again_and_nobody_else() {
        let long = 3 * ANSWER;
        let busy = || Some(Err(Failure::cluster("a cut connection")));
        assert_eq!(asked(long, [busy(), None, Some(Ok(7))]).await.unwrap(), 7);
        let wrong = asked(long, [busy(), Some(Err(Failure::config("a file")))]).await;
        assert_eq!(wrong.unwrap_err().kind(), Kind::Config);
        let late = asked(ANSWER, [busy(), None, busy()]).await.unwrap_err();
        assert_eq!(late.to_string(), "the list took longer than 60 s");
    }

    #[test]
    fn a_worker_that_is_refused_says_why() {
        let directory = tempfile::tempdir().unwrap();
        let console = directory.path().join("console.log");
        assert_eq!(
            lacking(worker(), &[], || last_words(&console)).as_deref(),
            Some("worker-0: has not joined yet")
        );
        let said = [
            &[b'x'; 100_000][..],
            b"\r\nconstellation: waiting\r\nconstellation: the join service refused\x1b[2J: initrd\r\nconstellation:   expected 1\r\n[   1.0] kernel\r\n",
        ];
        std::fs::write(&console, said.concat()).unwrap();
        assert_eq!(
            lacking(worker(), &[], || last_words(&console)).as_deref(),
            Some("worker-0: has not joined yet, and says: the join service refused: initrd")
        );
    }
}
