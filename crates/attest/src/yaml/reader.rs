//! The reader: sections whose fields are taken by name, values that say what they should have been.

use std::cell::RefCell;

use super::tree::{Kind, Node};
use super::{Null, Position, Problem};

/// What the sections of one document share.
pub(super) struct Reading<'a> {
    text: &'a str,
    null: Null,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(text: &'a str, null: Null) -> Self {
        Self {
            text,
            null,
            problems: RefCell::default(),
        }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    fn push(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// The word that stands at a place.
    fn word(&self, at: Position) -> Option<&'a str> {
        let line = usize::try_from(at.line.checked_sub(1)?).ok()?;
        let column = usize::try_from(at.column.checked_sub(1)?).ok()?;
        let line = self.text.lines().nth(line)?;
        let (start, _) = line.char_indices().nth(column)?;
        let rest = line.get(start..)?;
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(rest.len());
        rest.get(..end)
    }
}

/// A mapping of the document. Fields that were not asked for when it is finished are unknown fields.
pub struct Section<'a> {
    path: String,
    at: Position,
    entries: Vec<(&'a str, Position, &'a Node)>,
    asked: Vec<&'static str>,
    refused: Vec<&'static str>,
    open: bool,
    reading: &'a Reading<'a>,
}

/// A value with its path.
pub struct Value<'a> {
    path: String,
    node: &'a Node,
    reading: &'a Reading<'a>,
}

impl<'a> Section<'a> {
    pub(super) fn root(node: &'a Node, reading: &'a Reading<'a>) -> Option<Self> {
        Value {
            path: String::new(),
            node,
            reading,
        }
        .section()
    }

    fn join(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_owned()
        } else {
            format!("{}.{name}", self.path)
        }
    }

    /// Reports a problem of the section as a whole.
    pub fn problem(&self, what: impl Into<String>, allowed: impl Into<String>) {
        self.reading.push(Problem {
            at: self.at,
            field: self.path.clone(),
            what: what.into(),
            allowed: allowed.into(),
        });
    }

    /// The field, if it is there.
    pub fn optional(&mut self, name: &'static str) -> Option<Value<'a>> {
        self.asked.push(name);
        let (_, _, node) = self.entries.iter().find(|(key, ..)| *key == name)?;
        if node.kind == Kind::Null && self.reading.null == Null::IsAbsent {
            return None;
        }
        Some(Value {
            path: self.join(name),
            node,
            reading: self.reading,
        })
    }

    /// The field; a problem if it is not there.
    pub fn required(&mut self, name: &'static str, allowed: &str) -> Option<Value<'a>> {
        let value = self.optional(name);
        if value.is_none() {
            let at = self
                .entries
                .iter()
                .find(|(key, ..)| *key == name)
                .map_or(self.at, |(_, at, _)| *at);
            self.reading.push(Problem {
                at,
                field: self.join(name),
                what: "missing".to_owned(),
                allowed: allowed.to_owned(),
            });
        }
        value
    }

    /// All fields, for sections whose keys are the user's.
    pub fn all(&mut self) -> Vec<(&'a str, Value<'a>)> {
        self.open = true;
        self.entries
            .iter()
            .map(|(key, _, node)| {
                (
                    *key,
                    Value {
                        path: self.join(key),
                        node,
                        reading: self.reading,
                    },
                )
            })
            .collect()
    }

    /// Refuses a field with a reason of its own, in place of calling it unknown. `allowed` is what to do instead.
    pub fn refuse(&mut self, name: &'static str, what: impl FnOnce() -> String, allowed: &str) {
        self.refused.push(name);
        if let Some((_, at, _)) = self.entries.iter().find(|(key, ..)| *key == name) {
            self.reading.push(Problem {
                at: *at,
                field: self.join(name),
                what: what(),
                allowed: allowed.to_owned(),
            });
        }
    }

    /// Reports what nobody asked for.
    pub fn finish(self) {
        if self.open {
            return;
        }
        for (key, at, _) in &self.entries {
            if self.asked.contains(key) || self.refused.contains(key) {
                continue;
            }
            let what = match closest(key, &self.asked) {
                Some(near) => format!("unknown field; did you mean {near}?"),
                None => "unknown field".to_owned(),
            };
            self.reading.push(Problem {
                at: *at,
                field: self.join(&key.chars().take(80).collect::<String>()),
                what,
                allowed: self.asked.join(", "),
            });
        }
    }
}

impl<'a> Value<'a> {
    /// Reports that it is not what it should be.
    pub fn problem(&self, what: impl Into<String>, allowed: impl Into<String>) {
        self.reading.push(Problem {
            at: self.node.at,
            field: self.path.clone(),
            what: what.into(),
            allowed: allowed.into(),
        });
    }

    fn wrong(&self, allowed: &str) {
        self.problem(
            format!("{} is not allowed here", self.node.kind.describe()),
            allowed,
        );
    }

    /// A mapping.
    pub fn section(&self) -> Option<Section<'a>> {
        let Kind::Map(map) = &self.node.kind else {
            self.wrong("a section of fields");
            return None;
        };
        Some(Section {
            path: self.path.clone(),
            at: self.node.at,
            entries: map
                .iter()
                .map(|(key, at, node)| (key.as_str(), *at, node))
                .collect(),
            asked: Vec::new(),
            refused: Vec::new(),
            open: false,
            reading: self.reading,
        })
    }

    /// A list.
    pub fn list(&self, allowed: &str) -> Option<Vec<Value<'a>>> {
        let Kind::List(list) = &self.node.kind else {
            self.wrong(allowed);
            return None;
        };
        let item = |(index, node)| Value {
            path: format!("{}[{index}]", self.path),
            node,
            reading: self.reading,
        };
        Some(list.iter().enumerate().map(item).collect())
    }

    /// An empty text, which generated files have in place of optional ones.
    pub fn is_empty_text(&self) -> bool {
        matches!(&self.node.kind, Kind::Text(text) if text.is_empty())
    }

    /// A text.
    pub fn text(&self, allowed: &str) -> Option<&'a str> {
        match &self.node.kind {
            Kind::Text(text) => Some(text),
            Kind::Bool(_) | Kind::Integer(_) | Kind::Float(_) => {
                self.problem(
                    format!(
                        "{} must be in quotes to be a text",
                        self.node.kind.describe()
                    ),
                    allowed,
                );
                None
            }
            Kind::Null | Kind::List(_) | Kind::Map(_) => {
                self.wrong(allowed);
                None
            }
        }
    }

    /// A text that `parse` accepts.
    pub fn parse<T, E: std::fmt::Display>(
        &self,
        allowed: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(allowed)?;
        parse(text)
            .map_err(|error| self.problem(error.to_string(), allowed))
            .ok()
    }

    /// A word of letters and digits that `parse` accepts. Unlike a text it needs no quotes where it could be taken for a
    /// number, as a digest of nothing but digits.
    pub fn word<T, E: std::fmt::Display>(
        &self,
        allowed: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match (&self.node.kind, self.reading.word(self.node.at)) {
            (Kind::Integer(_) | Kind::Float(_), Some(word)) => parse(word)
                .map_err(|error| self.problem(error.to_string(), allowed))
                .ok(),
            _ => self.parse(allowed, parse),
        }
    }

    /// `true` or `false`.
    pub fn boolean(&self) -> Option<bool> {
        if let Kind::Bool(value) = self.node.kind {
            return Some(value);
        }
        self.wrong("true, false");
        None
    }

    /// A whole number from `min` to `max`.
    pub fn number(&self, min: u32, max: u32) -> Option<u32> {
        if let Kind::Integer(value) = self.node.kind
            && let Ok(value) = u32::try_from(value)
            && (min..=max).contains(&value)
        {
            return Some(value);
        }
        self.wrong(&format!("a whole number from {min} to {max}"));
        None
    }
}

/// The known word a person most likely meant.
fn closest<'w>(word: &str, known: &[&'w str]) -> Option<&'w str> {
    let wanted = word.to_lowercase();
    known
        .iter()
        .map(|candidate| (distance(&wanted, &candidate.to_lowercase()), *candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 5)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edit distance, of words no longer than a field's name.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<_>, Vec<_>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let substituted = diagonal + usize::from(x != y);
            diagonal = *cell;
            *cell = substituted.min(diagonal + 1).min(left + 1);
            left = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "", 3),
            ("", "abc", 3),
            ("vcpu", "vcpus", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }

    #[test]
    fn the_closest_word_is_close() {
        assert_eq!(
            closest("kubernetesversion", &["name", "kubernetesVersion"]),
            Some("kubernetesVersion")
        );
        assert_eq!(closest("memroy", &["memory", "vcpus"]), Some("memory"));
        assert_eq!(closest("colour", &["memory", "vcpus"]), None);
    }
}
