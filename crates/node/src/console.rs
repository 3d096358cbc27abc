//! What a person in front of the machine's console reads: plain words, one place.
//!
//! The console belongs to the host, so nothing secret may be said here; neither may it be in any log.

use std::fmt::Display;
use std::io::Write;
use std::sync::{Arc, Mutex};

/// A console. Clones write to the same one.
#[derive(Clone)]
pub struct Console {
    out: Arc<Mutex<Box<dyn Write + Send>>>,
    last: Arc<Mutex<String>>,
}

impl Console {
    /// The machine's console; where there is none, standard error.
    pub fn of_this_machine() -> Self {
        match std::fs::OpenOptions::new().write(true).open("/dev/console") {
            Ok(console) => Self::to(Box::new(console)),
            Err(_) => Self::to(Box::new(std::io::stderr())),
        }
    }

    /// Any writer.
    pub fn to(out: Box<dyn Write + Send>) -> Self {
        Self {
            out: Arc::new(Mutex::new(out)),
            last: Arc::default(),
        }
    }

    /// Says something, and puts it into the log.
    pub fn say(&self, words: impl Display) {
        let words = words.to_string();
        tracing::info!("{words}");
        self.write(&words);
    }

    /// Says something unless it is what was said last: for loops that wait.
    pub fn say_once(&self, words: impl Display) {
        let words = words.to_string();
        let repeated = self.last.lock().is_ok_and(|last| *last == words);
        if !repeated {
            self.say(words);
        }
    }

    /// Says that something went wrong, with every cause, and puts it into the log.
    pub fn complain(&self, what: impl Display, error: &(dyn std::error::Error + 'static)) {
        let words = format!("{what}: {}", runtime::chain(error));
        tracing::error!("{words}");
        self.write(&words);
    }

    fn write(&self, words: &str) {
        if let Ok(mut last) = self.last.lock() {
            words.clone_into(&mut last);
        }
        if let Ok(mut out) = self.out.lock() {
            for line in words.lines() {
                // a console that is gone must not stop a node
                let _gone = write!(out, "constellation: {line}\r\n");
            }
            let _gone = out.flush();
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A console whose words a test can read.
    #[derive(Clone, Default)]
    pub(crate) struct Heard(Arc<Mutex<Vec<u8>>>);

    impl Write for Heard {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Heard {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn waiting_is_said_once_and_every_line_is_marked() {
        let heard = Heard::default();
        let console = Console::to(Box::new(heard.clone()));
        console.say_once("waiting for init");
        console.say_once("waiting for init");
        console.say("one\ntwo");
        assert_eq!(
            heard.text(),
            "constellation: waiting for init\r\nconstellation: one\r\nconstellation: two\r\n"
        );
    }
}
