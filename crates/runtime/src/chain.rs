//! The one printer of error chains: `operation: cause: cause`. Sources are never part of an error's own text.

use std::{error::Error, fmt};

/// An error with all its causes, for a log field: `tracing::warn!(error = %runtime::chain(&error))`.
pub struct Chain<'a>(&'a (dyn Error + 'static));

/// Borrows an error for printing with its causes.
#[must_use]
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> Chain<'a> {
    Chain(error)
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut previous = self.0.to_string();
        let mut next = self.0.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            // Foreign libraries repeat their source in their own text; once is enough.
            if !previous.ends_with(&text) {
                write!(f, ": {text}")?;
            }
            previous = text;
            next = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("read the policy")]
    struct Outer(#[source] Middle);

    #[derive(Debug, thiserror::Error)]
    #[error("parse line 3: {0}")]
    struct Middle(#[source] std::num::ParseIntError);

    #[test]
    fn prints_every_cause_once() {
        let error = Outer(Middle("x".parse::<u8>().unwrap_err()));
        assert_eq!(
            chain(&error).to_string(),
            "read the policy: parse line 3: invalid digit found in string"
        );
    }
}
