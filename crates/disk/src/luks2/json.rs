//! Strict reading of a header's JSON: a tree without floats, negative numbers or duplicate keys, and a cursor over an object
//! that knows its path and refuses what was not taken.

use core::fmt;
use core::ops::RangeInclusive;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A header deviates from the accepted shape in one field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the LUKS2 header's {field} {problem}")]
pub struct HeaderError {
    field: String,
    problem: Problem,
}

/// How a field deviates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is not there.
    #[error("is missing")]
    Missing,
    /// It is there and must not be.
    #[error("is not a field that is accepted here")]
    Unknown,
    /// It is of another type.
    #[error("is not {0}")]
    NotA(&'static str),
    /// It has another value than the only one accepted.
    #[error("is {actual}, only {expected} is accepted")]
    Not {
        /// The accepted value.
        expected: String,
        /// The value, made printable and cut.
        actual: String,
    },
    /// A number that is too small or too great.
    #[error("is {actual}, only {min} to {max} is accepted")]
    Range {
        /// The least accepted value.
        min: u64,
        /// The greatest accepted value.
        max: u64,
        /// The value.
        actual: u64,
    },
    /// The bytes do not hash to the stored checksum.
    #[error("does not match the bytes")]
    Checksum,
    /// The two copies of the header do not say the same.
    #[error("differs from the primary header's")]
    Differs,
    /// Not JSON, or JSON of a kind that no header has.
    #[error("is not acceptable JSON: {0}")]
    Json(String),
}

impl HeaderError {
    pub(super) fn new(field: impl Into<String>, problem: Problem) -> Self {
        Self {
            field: field.into(),
            problem,
        }
    }

    /// The field, as a path such as `segments.0.encryption`.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// How it deviates.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

/// Foreign text for a message: printable, and short.
pub(super) fn printable(text: &str) -> String {
    const LONGEST: usize = 48;
    let mut shown: String = text
        .chars()
        .take(LONGEST)
        .flat_map(char::escape_debug)
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push_str("...");
    }
    shown
}

/// JSON as far as a LUKS2 header needs it.
#[derive(Debug)]
enum Node {
    Boolean(bool),
    Number(u64),
    Text(String),
    List(Vec<Node>),
    Object(BTreeMap<String, Node>),
}

/// Parses the whole text as one object.
pub(super) fn parse(text: &[u8]) -> Result<Object, HeaderError> {
    let refuse = |error: serde_json::Error| {
        HeaderError::new("json", Problem::Json(printable_long(&error.to_string())))
    };
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let node = Node::deserialize(&mut deserializer).map_err(refuse)?;
    deserializer.end().map_err(refuse)?;
    match node {
        Node::Object(fields) => Ok(Object {
            path: String::new(),
            fields,
        }),
        Node::Boolean(_) | Node::Number(_) | Node::Text(_) | Node::List(_) => {
            Err(HeaderError::new("json", Problem::NotA("an object")))
        }
    }
}

/// serde's messages hold at most one foreign word, made printable below; this cuts them all the same.
fn printable_long(text: &str) -> String {
    text.chars()
        .take(160)
        .flat_map(char::escape_debug)
        .collect()
}

/// An object of which fields are taken until none is left.
pub(super) struct Object {
    path: String,
    fields: BTreeMap<String, Node>,
}

impl Object {
    fn error(&self, name: &str, problem: Problem) -> HeaderError {
        HeaderError::new(format!("{}{}", self.path, printable(name)), problem)
    }

    fn take(&mut self, name: &str) -> Result<Node, HeaderError> {
        self.fields
            .remove(name)
            .ok_or_else(|| self.error(name, Problem::Missing))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    pub(super) fn object(&mut self, name: &str) -> Result<Self, HeaderError> {
        match self.take(name)? {
            Node::Object(fields) => Ok(Self {
                path: format!("{}{name}.", self.path),
                fields,
            }),
            _ => Err(self.error(name, Problem::NotA("an object"))),
        }
    }

    pub(super) fn text(&mut self, name: &str) -> Result<String, HeaderError> {
        match self.take(name)? {
            Node::Text(text) => Ok(text),
            _ => Err(self.error(name, Problem::NotA("a string"))),
        }
    }

    /// A string with one accepted value.
    pub(super) fn literal(&mut self, name: &str, expected: &str) -> Result<(), HeaderError> {
        let actual = self.text(name)?;
        if actual == expected {
            return Ok(());
        }
        let (expected, actual) = (
            format!("{expected:?}"),
            format!("\"{}\"", printable(&actual)),
        );
        Err(self.error(name, Problem::Not { expected, actual }))
    }

    pub(super) fn number(
        &mut self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<u64, HeaderError> {
        match self.take(name)? {
            Node::Number(number) => self.within(name, number, range),
            _ => Err(self.error(name, Problem::NotA("a number without sign or fraction"))),
        }
    }

    /// A number in a string, as LUKS2 writes those of 64 bits.
    pub(super) fn decimal(
        &mut self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<u64, HeaderError> {
        let text = self.text(name)?;
        match text.parse::<u64>() {
            // One text per number: no sign, no leading zero.
            Ok(number) if number.to_string() == text => self.within(name, number, range),
            Ok(_) | Err(_) => Err(self.error(name, Problem::NotA("a decimal number in a string"))),
        }
    }

    fn within(
        &self,
        name: &str,
        actual: u64,
        range: RangeInclusive<u64>,
    ) -> Result<u64, HeaderError> {
        if range.contains(&actual) {
            return Ok(actual);
        }
        let (min, max) = range.into_inner();
        Err(self.error(name, Problem::Range { min, max, actual }))
    }

    pub(super) fn boolean(&mut self, name: &str) -> Result<bool, HeaderError> {
        match self.take(name)? {
            Node::Boolean(boolean) => Ok(boolean),
            _ => Err(self.error(name, Problem::NotA("true or false"))),
        }
    }

    /// Base64 of exactly 32 bytes: a salt or a digest.
    pub(super) fn bytes(&mut self, name: &str) -> Result<[u8; 32], HeaderError> {
        let text = self.text(name)?;
        let decoded = STANDARD
            .decode(&text)
            .ok()
            .and_then(|bytes| bytes.try_into().ok());
        decoded.ok_or_else(|| self.error(name, Problem::NotA("base64 of 32 bytes")))
    }

    /// A list of strings with one accepted value.
    pub(super) fn list(&mut self, name: &str, expected: &[&str]) -> Result<(), HeaderError> {
        let Node::List(nodes) = self.take(name)? else {
            return Err(self.error(name, Problem::NotA("a list")));
        };
        let same = nodes.len() == expected.len()
            && nodes
                .iter()
                .zip(expected)
                .all(|(node, expected)| matches!(node, Node::Text(text) if text == expected));
        if same {
            return Ok(());
        }
        let (expected, actual) = (format!("{expected:?}"), "another list".to_owned());
        Err(self.error(name, Problem::Not { expected, actual }))
    }

    /// Refuses what is left.
    pub(super) fn finish(self) -> Result<(), HeaderError> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => Err(self.error(name, Problem::Unknown)),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false, a number without sign or fraction, a string, a list or an object")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Boolean(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Number(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element()? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Node, A::Error> {
        let mut fields = BTreeMap::new();
        while let Some((name, node)) = object.next_entry::<String, Node>()? {
            let shown = printable(&name);
            if fields.insert(name, node).is_some() {
                return Err(de::Error::custom(format_args!(
                    "the field \"{shown}\" is there twice"
                )));
            }
        }
        Ok(Node::Object(fields))
    }
}
