//! YAML documents as trees that remember where each value stood, and a reader that collects every problem of a
//! document instead of stopping at the first.
//!
//! For what people write: policies and presets here, the config and state files elsewhere. Bounded in size, depth and
//! number of nodes; no aliases, no merge keys, no tags: such a file says what it means.

mod reader;
mod tree;

use std::fmt;

pub use reader::{Section, Value};
pub use tree::{Kind, Node, parse};

/// The largest document that is read.
pub const MAX_DOCUMENT: usize = 256 * 1024;

/// What a field without a value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Null {
    /// That it is not there, as in the files that people leave half filled.
    IsAbsent,
    /// A mistake: a field that is there has a value.
    IsWrong,
}

/// A place in a document, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: u64,
    /// Column.
    pub column: u64,
}

/// One thing that is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub at: Position,
    /// The path of the field, `provider.qemu.vcpus`; empty when the document can not be read at all.
    pub field: String,
    /// What is wrong.
    pub what: String,
    /// What would be right; empty when there is nothing to say.
    pub allowed: String,
}

/// Everything that is wrong with a document, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems {
    file: String,
    list: Vec<Problem>,
}

impl Problems {
    /// The problems of the document that messages call `file`.
    #[must_use]
    pub fn new(file: &str, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|problem| problem.at);
        Self {
            file: file.to_owned(),
            list,
        }
    }

    /// The problems, in the order of the document.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.list
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (
            index,
            Problem {
                at,
                field,
                what,
                allowed,
            },
        ) in self.list.iter().enumerate()
        {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:{}:{}: ", self.file, at.line, at.column)?;
            if !field.is_empty() {
                write!(f, "{field}: ")?;
            }
            write!(f, "{what}")?;
            if !allowed.is_empty() {
                write!(f, "; allowed: {allowed}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Reads a document with `read`, which gets its root as a section. Whatever `read` returns counts only if no problem
/// was found on the way.
///
/// # Errors
/// With everything that is wrong with it.
pub fn document<T>(
    file: &str,
    text: &str,
    null: Null,
    read: impl FnOnce(&mut Section<'_>) -> Option<T>,
) -> Result<T, Problems> {
    let root = parse(text).map_err(|problem| Problems::new(file, vec![problem]))?;
    let reading = reader::Reading::new(text, null);
    let value = Section::root(&root, &reading).and_then(|mut section| {
        let value = read(&mut section);
        section.finish();
        value
    });
    let problems = reading.into_problems();
    match value {
        Some(value) if problems.is_empty() => Ok(value),
        _ => Err(Problems::new(file, problems)),
    }
}
