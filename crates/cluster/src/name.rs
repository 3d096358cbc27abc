//! Names: of a cluster, of a node.
//!
//! Does not know any provider's own length limits beyond the two the original has (`config` applies those).
//! Facts: constellation-facts.md 2.4 (name at most 37 characters), RFC 1123 label.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest cluster name, as the original: a unique id and a suffix must still fit into 63 characters.
pub const CLUSTER_NAME_MAX: usize = 37;
/// The longest DNS label.
pub const NODE_NAME_MAX: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("the name is empty")]
    Empty,
    /// Longer than its kind allows.
    #[error("the name has {len} characters, at most {max} are allowed")]
    TooLong {
        /// Characters found.
        len: usize,
        /// Characters allowed.
        max: usize,
    },
    /// A character outside the alphabet, or a dash at an end.
    #[error(
        "character {character:?} at position {position} is not allowed: use a-z, 0-9 and '-' inside, beginning and ending with a letter or digit"
    )]
    Character {
        /// The first offending character.
        character: char,
        /// Its position, from 1.
        position: usize,
    },
}

fn check_label(text: &str, max: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    let len = text.chars().count();
    if len > max {
        return Err(NameError::TooLong { len, max });
    }
    for (index, character) in text.chars().enumerate() {
        let alphanumeric = character.is_ascii_lowercase() || character.is_ascii_digit();
        let inner_dash = character == '-' && index != 0 && index + 1 != len;
        if !alphanumeric && !inner_dash {
            return Err(NameError::Character {
                character,
                position: index + 1,
            });
        }
    }
    Ok(())
}

macro_rules! label {
    ($(#[$doc:meta])* $name:ident, $max:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text`.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                check_label(&text, $max)?;
                Ok(Self(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::new(text)
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

label! {
    /// Any lower-case DNS label (RFC 1123).
    Name, NODE_NAME_MAX
}
label! {
    /// The name of a node: what its metadata says, its kubelet registers as and its `NodeIdentity` is called.
    NodeName, NODE_NAME_MAX
}
label! {
    /// The name of a cluster, from the config file.
    ClusterName, CLUSTER_NAME_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_checked() {
        let long = "a".repeat(NODE_NAME_MAX + 1);
        let table: [(&str, Result<(), NameError>); 9] = [
            ("worker-0", Ok(())),
            ("a", Ok(())),
            ("", Err(NameError::Empty)),
            (
                "Mini",
                Err(NameError::Character {
                    character: 'M',
                    position: 1,
                }),
            ),
            (
                "-a",
                Err(NameError::Character {
                    character: '-',
                    position: 1,
                }),
            ),
            (
                "a-",
                Err(NameError::Character {
                    character: '-',
                    position: 2,
                }),
            ),
            (
                "a.b",
                Err(NameError::Character {
                    character: '.',
                    position: 2,
                }),
            ),
            (
                "kä",
                Err(NameError::Character {
                    character: 'ä',
                    position: 2,
                }),
            ),
            (&long, Err(NameError::TooLong { len: 64, max: 63 })),
        ];
        for (text, expected) in table {
            assert_eq!(NodeName::new(text).map(|_| ()), expected, "{text:?}");
        }
    }

    #[test]
    fn a_cluster_name_is_shorter() {
        assert!(ClusterName::new("a".repeat(37)).is_ok());
        assert_eq!(
            ClusterName::new("a".repeat(38)),
            Err(NameError::TooLong { len: 38, max: 37 })
        );
    }

    #[test]
    fn serde_checks_too() {
        assert!(serde_json::from_str::<NodeName>("\"../etc\"").is_err());
        assert_eq!(
            serde_json::to_string(&NodeName::new("n1").unwrap()).unwrap(),
            "\"n1\""
        );
    }
}
