//! What went wrong, for a person and for a script: one sentence, its causes, what to do next, and an exit code.

use std::error::Error;
use std::fmt;

/// The kind of a failure. It fixes the exit code; README and man page have this table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A defect of this program, or a system that behaves as none should.
    Internal,
    /// The command line is wrong. clap uses this code as well.
    Usage,
    /// A machine did not prove what it must, or a cluster is not the one it must be.
    Trust,
    /// A file of the workspace is wrong or missing.
    Config,
    /// This host or the provider lacks something: a program, memory, disk space, a port, a machine that runs.
    Infrastructure,
    /// The cluster does not do what it should, or not in time.
    Cluster,
    /// Stopped by a signal.
    Interrupted,
}

impl Kind {
    /// The exit code.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Usage => 2,
            Self::Trust => 3,
            Self::Config => 4,
            Self::Infrastructure => 5,
            Self::Cluster => 6,
            Self::Interrupted => 130,
        }
    }
}

/// A failure of a command.
#[derive(Debug)]
pub(crate) struct Failure(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: Kind,
    sentence: String,
    causes: Vec<String>,
    detail: Option<String>,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(kind: Kind, sentence: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            sentence: sentence.into(),
            causes: Vec::new(),
            detail: None,
            hint: None,
        }))
    }

    pub(crate) fn internal(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Internal, sentence)
    }

    pub(crate) fn usage(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Usage, sentence)
    }

    pub(crate) fn trust(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Trust, sentence)
    }

    pub(crate) fn config(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Config, sentence)
    }

    pub(crate) fn infrastructure(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Infrastructure, sentence)
    }

    pub(crate) fn cluster(sentence: impl Into<String>) -> Self {
        Self::new(Kind::Cluster, sentence)
    }

    /// The error behind it, with its own causes.
    pub(crate) fn because(mut self, error: impl Error) -> Self {
        self.0.causes.push(error.to_string());
        let mut source = error.source();
        while let Some(error) = source {
            self.0.causes.push(error.to_string());
            source = error.source();
        }
        self
    }

    /// Several lines that explain, such as a tree of checks.
    pub(crate) fn detail(mut self, text: impl fmt::Display) -> Self {
        self.0.detail = Some(text.to_string());
        self
    }

    /// What to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub(crate) fn kind(&self) -> Kind {
        self.0.kind
    }

    pub(crate) fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    pub(crate) fn detail_text(&self) -> Option<&str> {
        self.0.detail.as_deref()
    }
}

/// The sentence and its causes, on one line.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.sentence)?;
        for cause in &self.0.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_own_exit_code() {
        let kinds = [
            Kind::Internal,
            Kind::Usage,
            Kind::Trust,
            Kind::Config,
            Kind::Infrastructure,
            Kind::Cluster,
            Kind::Interrupted,
        ];
        let codes: std::collections::BTreeSet<_> = kinds.into_iter().map(Kind::exit_code).collect();
        assert_eq!(codes.len(), kinds.len());
        assert!(!codes.contains(&0));
    }

    #[test]
    fn causes_follow_the_sentence() {
        let io = std::io::Error::other("disk on fire");
        let failure = Failure::infrastructure("write the file")
            .because(io)
            .hint("pour water");
        assert_eq!(failure.to_string(), "write the file: disk on fire");
        assert_eq!(failure.hint_text(), Some("pour water"));
    }
}
