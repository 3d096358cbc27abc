//! Named bits of fields of 64, and lists of names.

use std::collections::BTreeSet;
use std::fmt::Debug;

use crate::yaml::{Section, Value};

/// Named bits of one field.
pub trait Flag: Copy + Ord + Debug + 'static {
    /// Every bit that has a name.
    const ALL: &'static [Self];

    /// Its name in documents.
    fn as_str(self) -> &'static str;

    /// Its place, from 0.
    fn bit(self) -> u32;

    /// The bit by its name.
    fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|flag| flag.as_str() == name)
    }
}

/// The field with these bits and no other.
#[must_use]
pub fn mask<F: Flag>(flags: &BTreeSet<F>) -> u64 {
    flags.iter().fold(0, |mask, flag| {
        mask | 1_u64.checked_shl(flag.bit()).unwrap_or(0)
    })
}

/// Names in order.
pub(crate) fn names<'f, F: Flag>(flags: impl IntoIterator<Item = &'f F>) -> Vec<&'static str> {
    flags.into_iter().map(|flag| flag.as_str()).collect()
}

/// Reads a list of names, which may be left out.
pub(crate) fn list<F: Flag>(section: &mut Section<'_>, field: &'static str) -> Option<BTreeSet<F>> {
    let allowed = names(F::ALL).join(", ");
    match section.optional(field) {
        None => Some(BTreeSet::new()),
        Some(value) => set(&value, &allowed, |text| {
            F::of(text).ok_or_else(|| match text {
                "debug" | "migrationAgent" | "migratable" => format!("{text} is never accepted"),
                _ => format!("{text:?} is not known here"),
            })
        }),
    }
}

/// Reads a list of different words.
pub(crate) fn set<T: Ord>(
    value: &Value<'_>,
    allowed: &str,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Option<BTreeSet<T>> {
    let items = value.list(allowed)?;
    let mut all = Some(BTreeSet::new());
    for item in items {
        match (item.word(allowed, &parse), &mut all) {
            (Some(one), Some(set)) => {
                if !set.insert(one) {
                    item.problem("is listed twice", allowed);
                }
            }
            _ => all = None,
        }
    }
    all
}
