//! Words of a verdict. Some come from the machine that is judged, and all go to a terminal, a log or a console.

use std::fmt;

use serde::Serialize;

/// Text of bounded length in which nothing is left that a terminal obeys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Text(String);

impl Text {
    /// Characters, after escaping. Several digests fit; a document does not.
    const MAX: usize = 300;
    const CUT_OFF: char = '…';

    /// Whether nothing of it has to be escaped or cut off: so with nearly all words.
    fn is_plain(text: &str) -> bool {
        text.len() <= Self::MAX && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    }

    /// The text as it is shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        if Self::is_plain(text) {
            return Self(text.to_owned());
        }
        let mut shown = String::new();
        let mut left = Self::MAX;
        for character in text.chars() {
            let escaped = character.escape_debug();
            // quotes and backslashes do no harm, and are easier to read as they are
            let is_plain = matches!(character, '"' | '\'' | '\\');
            let length = if is_plain { 1 } else { escaped.len() };
            if length > left {
                shown.push(Self::CUT_OFF);
                break;
            }
            left -= length;
            if is_plain {
                shown.push(character);
            } else {
                shown.extend(escaped);
            }
        }
        Self(shown)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        if Self::is_plain(&text) {
            return Self(text);
        }
        Self::from(text.as_str())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Bytes in hex, put together only if somebody reads them.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_escaped_and_the_rest_stays() {
        for (given, shown) in [
            (
                "a key that \"signs\" c:\\x ü",
                "a key that \"signs\" c:\\x ü",
            ),
            ("\u{1b}[2J", "\\u{1b}[2J"),
            ("a\nb\r\tc\u{9b}d\u{7f}", "a\\nb\\r\\tc\\u{9b}d\\u{7f}"),
            // turns the direction of writing
            ("\u{202e}detpecca", "\\u{202e}detpecca"),
        ] {
            assert_eq!(Text::from(given).as_str(), shown);
        }
    }

    #[test]
    fn long_text_is_cut_after_escaping() {
        let fits = "x".repeat(Text::MAX);
        assert_eq!(Text::from(fits.as_str()).as_str(), fits);
        assert_eq!(Text::from(format!("{fits}x")).as_str(), format!("{fits}…"));
        let control = Text::from("\u{1b}".repeat(100_000));
        assert_eq!(control.as_str().chars().count(), Text::MAX + 1);
    }
}
