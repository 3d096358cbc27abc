//! `mini logs`: the console of a machine, or the log of the background process.

use std::io::SeekFrom;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::arguments::LogsArguments;
use crate::failure::Failure;
use crate::output;
use crate::workspace::Workspace;

use super::Plan;

const POLL: Duration = Duration::from_millis(500);

pub(crate) async fn run(workspace: &Workspace, arguments: &LogsArguments) -> Result<(), Failure> {
    let plan = Plan::read(workspace)?.ok_or_else(|| {
        Failure::infrastructure("there is no local cluster in this workspace")
            .hint("`constellation mini up` makes one")
    })?;
    let seats = plan.seats()?;
    let path = if arguments.name == "serve" {
        workspace.mini().join("serve.log")
    } else {
        let seat = seats
            .iter()
            .find(|seat| seat.to_string() == arguments.name)
            .ok_or_else(|| {
                let names: Vec<_> = seats
                    .iter()
                    .map(ToString::to_string)
                    .chain(["serve".to_owned()])
                    .collect();
                Failure::usage(format!("there is no machine {:?}", arguments.name))
                    .hint(format!("there are: {}", names.join(", ")))
            })?;
        plan.machine(workspace, *seat).console()
    };
    let failed = |error| Failure::infrastructure(format!("read {}", path.display())).because(error);
    let mut file = tokio::fs::File::open(&path).await.map_err(failed)?;
    let mut place = 0;
    loop {
        let length = file.metadata().await.map_err(failed)?.len();
        if length < place {
            // a machine that was started anew has a new console
            place = 0;
        }
        file.seek(SeekFrom::Start(place)).await.map_err(failed)?;
        let mut chunk = Vec::new();
        (&mut file)
            .take(1 << 20)
            .read_to_end(&mut chunk)
            .await
            .map_err(failed)?;
        place += chunk.len() as u64;
        if !chunk.is_empty() {
            output::data(&plain(&chunk))?;
        } else if arguments.follow {
            tokio::time::sleep(POLL).await;
        } else {
            return Ok(());
        }
    }
}

/// Without what a terminal would obey: a console belongs to a machine that may be hostile.
pub(super) fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if c == '\u{1b}' {
            if rest.next_if_eq(&'[').is_some() {
                // a control sequence ends with its first character from @ to ~
                while rest.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
            } else {
                rest.next();
            }
        } else if c == '\n' || c == '\t' || !c.is_control() {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn a_console_can_not_drive_the_terminal() {
        assert_eq!(
            plain(b"\x1b[2J\x1b[1;31mred\x1b[0m\r\n\x07ok\tx\n"),
            "red\nok\tx\n"
        );
        assert_eq!(plain(b"\x1b["), "");
        assert_eq!(plain(b"a\xffb"), "a\u{fffd}b");
    }
}
