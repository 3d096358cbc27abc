//! The tree.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::{MAX_DOCUMENT, Position, Problem};

/// A value and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// Where it stands.
    pub at: Position,
    /// What it is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// Nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Another number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping: its keys, where they stand, and their values.
    Map(Vec<(String, Position, Node)>),
}

impl Kind {
    /// What a person would call it.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Null => "nothing".to_owned(),
            Self::Bool(value) => format!("the boolean {value}"),
            Self::Integer(value) => format!("the number {value}"),
            Self::Float(value) => format!("the number {value}"),
            Self::Text(text) => format!("{:?}", text.chars().take(80).collect::<String>()),
            Self::List(_) => "a list".to_owned(),
            Self::Map(_) => "a section".to_owned(),
        }
    }
}

/// Reads the tree of a document.
///
/// # Errors
/// When it is too long, too deep, or not the YAML that is read here; a key that is given twice is an error as well.
pub fn parse(text: &str) -> Result<Node, Problem> {
    let whole = |what: String| Problem {
        at: Position { line: 1, column: 1 },
        field: String::new(),
        what,
        allowed: String::new(),
    };
    if text.len() > MAX_DOCUMENT {
        return Err(whole(format!(
            "the document has {} bytes, at most {MAX_DOCUMENT} are read",
            text.len()
        )));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: 32, max_nodes: 20_000, max_aliases: 0, max_anchors: 0 },
        strict_booleans: true,
        // each key stands where it counts, and none is overridden by another
        merge_keys: serde_saphyr::MergeKeyPolicy::Error,
        // a digest such as 1e22...2 is a word, and no number out of range
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Node>(text, options).map_err(|error| {
        let at = error
            .location()
            .map_or(Position { line: 1, column: 1 }, |location| Position {
                line: location.line(),
                column: location.column(),
            });
        let message = error.without_snippet().to_string();
        Problem {
            at,
            ..whole(format!(
                "not readable as YAML: {}",
                first_sentence(&message)
            ))
        }
    })
}

/// The library's message without the position it ends with, which stands before ours already.
fn first_sentence(message: &str) -> &str {
    let line = message.lines().next().unwrap_or_default();
    line.split(" at line ").next().unwrap_or(line)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Kind>::deserialize(deserializer)?;
        let at = Position {
            line: spanned.defined.line(),
            column: spanned.defined.column(),
        };
        Ok(Self {
            at,
            kind: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Kind, E> {
        Ok(Kind::Integer(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Kind, E> {
        Ok(Kind::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Kind, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Kind::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Kind, A::Error> {
        let mut map = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Node>()? {
            let at = Position {
                line: key.defined.line(),
                column: key.defined.column(),
            };
            map.push((key.value, at, value));
        }
        Ok(Kind::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_a_bound_in_bytes() {
        for (size, is_read) in [
            (MAX_DOCUMENT, true),
            (MAX_DOCUMENT + 1, false),
            (MAX_DOCUMENT + 2, false),
        ] {
            let mut text = "a: b # ".to_owned();
            text.extend(std::iter::repeat_n('x', size - text.len()));
            assert_eq!(parse(&text).is_ok(), is_read, "{size}");
        }
    }
}
