//! The reader: sections whose fields are taken by name, values that say what they should have been.

use std::cell::RefCell;

use super::tree::{Kind, Node};
use super::{Position, Problem};

type Sink<'a> = &'a RefCell<Vec<Problem>>;

/// A mapping of the document. Fields that were not asked for when it is finished are unknown fields.
pub(crate) struct Section<'a> {
    path: String,
    at: Position,
    entries: Vec<(&'a str, Position, &'a Node)>,
    asked: Vec<&'static str>,
    refused: Vec<&'static str>,
    open: bool,
    problems: Sink<'a>,
}

/// A value with its path.
pub(crate) struct Value<'a> {
    path: String,
    node: &'a Node,
    problems: Sink<'a>,
}

impl<'a> Section<'a> {
    pub(super) fn root(node: &'a Node, problems: Sink<'a>) -> Option<Self> {
        Value {
            path: String::new(),
            node,
            problems,
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
    pub(crate) fn problem(&self, what: impl Into<String>, allowed: impl Into<String>) {
        self.problems.borrow_mut().push(Problem {
            at: self.at,
            field: self.path.clone(),
            what: what.into(),
            allowed: allowed.into(),
        });
    }

    /// The field, if it is there. Null counts as absent, as in every YAML file people leave half filled.
    pub(crate) fn optional(&mut self, name: &'static str) -> Option<Value<'a>> {
        self.asked.push(name);
        let (_, _, node) = self.entries.iter().find(|(key, ..)| *key == name)?;
        if node.kind == Kind::Null {
            return None;
        }
        Some(Value {
            path: self.join(name),
            node,
            problems: self.problems,
        })
    }

    /// The field; a problem if it is not there.
    pub(crate) fn required(&mut self, name: &'static str, allowed: &str) -> Option<Value<'a>> {
        let value = self.optional(name);
        if value.is_none() {
            let at = self
                .entries
                .iter()
                .find(|(key, ..)| *key == name)
                .map_or(self.at, |(_, at, _)| *at);
            self.problems.borrow_mut().push(Problem {
                at,
                field: self.join(name),
                what: "missing".to_owned(),
                allowed: allowed.to_owned(),
            });
        }
        value
    }

    /// All fields, for sections whose keys are the user's.
    pub(crate) fn all(&mut self) -> Vec<(&'a str, Value<'a>)> {
        self.open = true;
        self.entries
            .iter()
            .map(|(key, _, node)| {
                (
                    *key,
                    Value {
                        path: self.join(key),
                        node,
                        problems: self.problems,
                    },
                )
            })
            .collect()
    }

    /// Refuses a field with a reason of its own, in place of calling it unknown. `allowed` is what to do instead.
    pub(crate) fn refuse(
        &mut self,
        name: &'static str,
        what: impl FnOnce() -> String,
        allowed: &str,
    ) {
        self.refused.push(name);
        if let Some((_, at, _)) = self.entries.iter().find(|(key, ..)| *key == name) {
            self.problems.borrow_mut().push(Problem {
                at: *at,
                field: self.join(name),
                what: what(),
                allowed: allowed.to_owned(),
            });
        }
    }

    /// Reports what nobody asked for.
    pub(crate) fn finish(self) {
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
            self.problems.borrow_mut().push(Problem {
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
    pub(crate) fn problem(&self, what: impl Into<String>, allowed: impl Into<String>) {
        self.problems.borrow_mut().push(Problem {
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
    pub(crate) fn section(&self) -> Option<Section<'a>> {
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
            problems: self.problems,
        })
    }

    /// A list.
    pub(crate) fn list(&self, allowed: &str) -> Option<Vec<Value<'a>>> {
        let Kind::List(list) = &self.node.kind else {
            self.wrong(allowed);
            return None;
        };
        let item = |(index, node)| Value {
            path: format!("{}[{index}]", self.path),
            node,
            problems: self.problems,
        };
        Some(list.iter().enumerate().map(item).collect())
    }

    /// An empty text, which generated files have in place of optional ones.
    pub(crate) fn is_empty_text(&self) -> bool {
        matches!(&self.node.kind, Kind::Text(text) if text.is_empty())
    }

    /// A text.
    pub(crate) fn text(&self, allowed: &str) -> Option<&'a str> {
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
    pub(crate) fn parse<T, E: std::fmt::Display>(
        &self,
        allowed: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(allowed)?;
        parse(text)
            .map_err(|error| self.problem(error.to_string(), allowed))
            .ok()
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self) -> Option<bool> {
        match self.node.kind {
            Kind::Bool(value) => Some(value),
            _ => {
                self.wrong("true, false");
                None
            }
        }
    }

    /// A whole number from `min` to `max`.
    pub(crate) fn number(&self, min: u32, max: u32) -> Option<u32> {
        match self.node.kind {
            Kind::Integer(value) => u32::try_from(value)
                .ok()
                .filter(|value| (min..=max).contains(value)),
            _ => None,
        }
        .or_else(|| {
            self.wrong(&format!("a whole number from {min} to {max}"));
            None
        })
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
