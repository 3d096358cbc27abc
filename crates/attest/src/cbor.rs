//! A cursor over CBOR (RFC 8949), for the few documents in that form. Borrows, allocates nothing, indexes nothing.
//!
//! Takes less than CBOR allows, as a signed document has no use for more: integers and lengths in their shortest form
//! only, strings of definite length only. Arrays and maps may be of indefinite length, because AWS writes them so;
//! whoever walks them says how many entries at most. No floats and no text that is not UTF-8.

use thiserror::Error;

/// How deep arrays, maps and tags may lie in one another in a value that is only stepped over.
const MAX_DEPTH: usize = 6;
/// How many entries an array or a map that is only stepped over may have.
const MAX_SKIPPED: usize = 64;
/// What ends an array or a map of indefinite length.
const BREAK: u8 = 0xff;
const NULL: u8 = 22;
const UNDEFINED: u8 = 23;

/// Why bytes are not the CBOR they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CborError {
    /// The bytes end inside a value.
    #[error("{field} is cut off")]
    Truncated {
        /// What was being read.
        field: &'static str,
    },
    /// Bytes after the end of the value.
    #[error("{left} bytes follow the end of {structure}")]
    Trailing {
        /// What was read completely.
        structure: &'static str,
        /// How much is left over.
        left: usize,
    },
    /// Another type than the field has.
    #[error("{field} is {found}, and must be {wanted}")]
    Type {
        /// The field.
        field: &'static str,
        /// What it must be.
        wanted: &'static str,
        /// What it is.
        found: &'static str,
    },
    /// A length or a count beyond its bound.
    #[error("{field} has more than {bound} {unit}")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// The bound.
        bound: usize,
        /// Of what.
        unit: &'static str,
    },
    /// Values inside values beyond any document of ours.
    #[error("{field} is nested deeper than {MAX_DEPTH}")]
    TooDeep {
        /// The field.
        field: &'static str,
    },
    /// A form that is not the only one of its value, or that no document needs.
    #[error("{field} is written in a form that is not accepted: {form}")]
    Form {
        /// The field.
        field: &'static str,
        /// Which.
        form: &'static str,
    },
}

/// The eight major types (RFC 8949, 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Major {
    Unsigned,
    Negative,
    Bytes,
    Text,
    Array,
    Map,
    Tag,
    Simple,
}

impl Major {
    const fn of(initial: u8) -> Self {
        match initial >> 5 {
            0 => Self::Unsigned,
            1 => Self::Negative,
            2 => Self::Bytes,
            3 => Self::Text,
            4 => Self::Array,
            5 => Self::Map,
            6 => Self::Tag,
            _ => Self::Simple,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Unsigned => "a number",
            Self::Negative => "a negative number",
            Self::Bytes => "a byte string",
            Self::Text => "a text",
            Self::Array => "an array",
            Self::Map => "a map",
            Self::Tag => "a tagged value",
            Self::Simple => "a simple value",
        }
    }
}

/// What the head of a value says beside its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Argument {
    Definite(u64),
    Indefinite,
}

#[derive(Clone, Debug)]
pub(crate) struct Cbor<'a> {
    left: &'a [u8],
}

/// How many entries of an array or a map are still to come.
#[derive(Debug)]
pub(crate) struct Entries {
    field: &'static str,
    bound: usize,
    read: usize,
    /// Nothing for an indefinite length: a break ends it.
    count: Option<usize>,
}

impl<'a> Cbor<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    fn take(&mut self, field: &'static str, count: usize) -> Result<&'a [u8], CborError> {
        let (head, tail) = self
            .left
            .split_at_checked(count)
            .ok_or(CborError::Truncated { field })?;
        self.left = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], CborError> {
        let (head, tail) = self
            .left
            .split_first_chunk::<N>()
            .ok_or(CborError::Truncated { field })?;
        self.left = tail;
        Ok(*head)
    }

    fn head(&mut self, field: &'static str) -> Result<(Major, Argument), CborError> {
        let [initial] = self.array(field)?;
        let major = Major::of(initial);
        let short = initial & 0x1f;
        // the argument, and the smallest value that needs as many bytes
        let (value, least) = match short {
            0..=23 => (u64::from(short), 0),
            24 => (u64::from(self.array::<1>(field)?[0]), 24),
            25 => (u64::from(u16::from_be_bytes(self.array(field)?)), 1 << 8),
            26 => (u64::from(u32::from_be_bytes(self.array(field)?)), 1 << 16),
            27 => (u64::from_be_bytes(self.array(field)?), 1 << 32),
            31 if matches!(major, Major::Array | Major::Map) => {
                return Ok((major, Argument::Indefinite));
            }
            31 => {
                return Err(CborError::Form {
                    field,
                    form: "indefinite length",
                });
            }
            _ => {
                return Err(CborError::Form {
                    field,
                    form: "reserved head",
                });
            }
        };
        if major == Major::Simple && short > 23 {
            return Err(CborError::Form {
                field,
                form: "float or long simple value",
            });
        }
        if value < least {
            return Err(CborError::Form {
                field,
                form: "not the shortest",
            });
        }
        Ok((major, Argument::Definite(value)))
    }

    fn definite(&mut self, field: &'static str, wanted: Major) -> Result<u64, CborError> {
        match self.head(field)? {
            (major, Argument::Definite(value)) if major == wanted => Ok(value),
            (major, _) => Err(CborError::Type {
                field,
                wanted: wanted.name(),
                found: major.name(),
            }),
        }
    }

    /// A number that is not negative.
    pub(crate) fn unsigned(&mut self, field: &'static str) -> Result<u64, CborError> {
        self.definite(field, Major::Unsigned)
    }

    /// A whole number of at most 63 bits.
    pub(crate) fn integer(&mut self, field: &'static str) -> Result<i64, CborError> {
        let too_large = |_| CborError::TooLarge {
            field,
            bound: 63,
            unit: "bits",
        };
        match self.head(field)? {
            (Major::Unsigned, Argument::Definite(value)) => i64::try_from(value).map_err(too_large),
            (Major::Negative, Argument::Definite(value)) => i64::try_from(value)
                .map_err(too_large)
                .map(|value| -1 - value),
            (major, _) => Err(CborError::Type {
                field,
                wanted: "a whole number",
                found: major.name(),
            }),
        }
    }

    /// A byte string of at most `bound` bytes.
    pub(crate) fn bytes(
        &mut self,
        field: &'static str,
        bound: usize,
    ) -> Result<&'a [u8], CborError> {
        let length = self.definite(field, Major::Bytes)?;
        let length = within(field, length, bound, "bytes")?;
        self.take(field, length)
    }

    /// A byte string of at most `bound` bytes, or null.
    pub(crate) fn bytes_or_null(
        &mut self,
        field: &'static str,
        bound: usize,
    ) -> Result<Option<&'a [u8]>, CborError> {
        let mut ahead = self.clone();
        if let Ok((Major::Simple, Argument::Definite(value))) = ahead.head(field)
            && value == u64::from(NULL)
        {
            *self = ahead;
            return Ok(None);
        }
        self.bytes(field, bound).map(Some)
    }

    /// A text of at most `bound` bytes.
    pub(crate) fn text(&mut self, field: &'static str, bound: usize) -> Result<&'a str, CborError> {
        let length = self.definite(field, Major::Text)?;
        let length = within(field, length, bound, "bytes")?;
        let bytes = self.take(field, length)?;
        str::from_utf8(bytes).map_err(|_| CborError::Form {
            field,
            form: "not UTF-8",
        })
    }

    /// Opens an array; its entries follow.
    pub(crate) fn open_array(
        &mut self,
        field: &'static str,
        bound: usize,
    ) -> Result<Entries, CborError> {
        self.open(field, Major::Array, bound)
    }

    /// Opens a map; its keys and values follow in turn.
    pub(crate) fn open_map(
        &mut self,
        field: &'static str,
        bound: usize,
    ) -> Result<Entries, CborError> {
        self.open(field, Major::Map, bound)
    }

    fn open(
        &mut self,
        field: &'static str,
        wanted: Major,
        bound: usize,
    ) -> Result<Entries, CborError> {
        let (major, argument) = self.head(field)?;
        if major != wanted {
            return Err(CborError::Type {
                field,
                wanted: wanted.name(),
                found: major.name(),
            });
        }
        let count = match argument {
            Argument::Definite(count) => Some(within(field, count, bound, "entries")?),
            Argument::Indefinite => None,
        };
        Ok(Entries {
            field,
            bound,
            read: 0,
            count,
        })
    }

    /// The number of a tag in front of the next value, if there is one.
    pub(crate) fn tag(&mut self, field: &'static str) -> Result<Option<u64>, CborError> {
        let mut ahead = self.clone();
        match ahead.head(field) {
            Ok((Major::Tag, Argument::Definite(tag))) => {
                *self = ahead;
                Ok(Some(tag))
            }
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Steps over one value of whatever type.
    pub(crate) fn skip(&mut self, field: &'static str) -> Result<(), CborError> {
        self.skip_within(field, MAX_DEPTH)
    }

    fn skip_within(&mut self, field: &'static str, depth: usize) -> Result<(), CborError> {
        let deeper = depth.checked_sub(1).ok_or(CborError::TooDeep { field })?;
        let mut ahead = self.clone();
        let (major, argument) = ahead.head(field)?;
        match (major, argument) {
            (Major::Unsigned | Major::Negative, Argument::Definite(_)) => {}
            (Major::Simple, Argument::Definite(value)) => {
                if value > u64::from(UNDEFINED) {
                    return Err(CborError::Form {
                        field,
                        form: "unknown simple value",
                    });
                }
            }
            (Major::Bytes | Major::Text, Argument::Definite(length)) => {
                let length = within(field, length, ahead.left.len(), "bytes")?;
                ahead.take(field, length)?;
            }
            (Major::Tag, Argument::Definite(_)) => ahead.skip_within(field, deeper)?,
            (Major::Array | Major::Map, _) => {
                let mut entries = self.open(field, major, MAX_SKIPPED)?;
                while entries.next(self)? {
                    self.skip_within(field, deeper)?;
                    if major == Major::Map {
                        self.skip_within(field, deeper)?;
                    }
                }
                return Ok(());
            }
            (_, Argument::Indefinite) => {
                return Err(CborError::Form {
                    field,
                    form: "indefinite length",
                });
            }
        }
        *self = ahead;
        Ok(())
    }

    /// Ends a value: nothing may be left.
    pub(crate) const fn finish(self, structure: &'static str) -> Result<(), CborError> {
        match self.left.len() {
            0 => Ok(()),
            left => Err(CborError::Trailing { structure, left }),
        }
    }
}

impl Entries {
    /// Whether another entry follows. Takes the break of an indefinite length.
    pub(crate) fn next(&mut self, cbor: &mut Cbor<'_>) -> Result<bool, CborError> {
        let more = match self.count {
            Some(count) => self.read < count,
            None => match cbor.left.split_first() {
                None => return Err(CborError::Truncated { field: self.field }),
                Some((&BREAK, tail)) => {
                    cbor.left = tail;
                    false
                }
                Some(_) => true,
            },
        };
        if more && self.read >= self.bound {
            return Err(CborError::TooLarge {
                field: self.field,
                bound: self.bound,
                unit: "entries",
            });
        }
        self.read += usize::from(more);
        Ok(more)
    }

    /// How many were read.
    pub(crate) const fn read(&self) -> usize {
        self.read
    }
}

fn within(
    field: &'static str,
    value: u64,
    bound: usize,
    unit: &'static str,
) -> Result<usize, CborError> {
    usize::try_from(value)
        .ok()
        .filter(|value| *value <= bound)
        .ok_or(CborError::TooLarge { field, bound, unit })
}

/// Appends a byte string, its length in the shortest form.
pub(crate) fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = bytes.len() as u64;
    match u8::try_from(length) {
        Ok(short @ 0..=23) => out.push(0x40 | short),
        Ok(byte) => out.extend([0x58, byte]),
        Err(_) => match u16::try_from(length) {
            Ok(word) => {
                out.push(0x59);
                out.extend(word.to_be_bytes());
            }
            Err(_) => match u32::try_from(length) {
                Ok(long) => {
                    out.push(0x5a);
                    out.extend(long.to_be_bytes());
                }
                Err(_) => {
                    out.push(0x5b);
                    out.extend(length.to_be_bytes());
                }
            },
        },
    }
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skipped(bytes: &[u8]) -> Result<(), CborError> {
        let mut cbor = Cbor::new(bytes);
        cbor.skip("value")?;
        cbor.finish("value")
    }

    #[test]
    fn values_of_every_type_are_stepped_over() {
        for text in [
            "00",
            "1818",
            "190100",
            "1a00010000",
            "1b0000000100000000",
            "20",
            "3818",
            "40",
            "4101",
            "60",
            "6161",
            "80",
            "820102",
            "9fff",
            "9f01ff",
            "a0",
            "a10102",
            "bf0102ff",
            "c000",
            "d81800",
            "f4",
            "f6",
            "f7",
        ] {
            assert_eq!(skipped(&hex::decode(text).unwrap()), Ok(()), "{text}");
        }
    }

    #[test]
    fn forms_that_no_document_needs_are_refused() {
        for (text, form) in [
            ("1817", "not the shortest"),
            ("1900ff", "not the shortest"),
            ("1a0000ffff", "not the shortest"),
            ("1b00000000ffffffff", "not the shortest"),
            ("5801ff", "not the shortest"),
            ("5f4100ff", "indefinite length"),
            ("7f6100ff", "indefinite length"),
            ("1f", "indefinite length"),
            ("ff", "indefinite length"),
            ("1c", "reserved head"),
            ("f93c00", "float or long simple value"),
            ("fb3ff0000000000000", "float or long simple value"),
            ("f820", "float or long simple value"),
        ] {
            let expected = CborError::Form {
                field: "value",
                form,
            };
            assert_eq!(
                skipped(&hex::decode(text).unwrap()),
                Err(expected),
                "{text}"
            );
        }
        let mut text = Cbor::new(&[0x61, 0xff]);
        assert_eq!(
            text.text("name", 8),
            Err(CborError::Form {
                field: "name",
                form: "not UTF-8"
            })
        );
    }

    #[test]
    fn depth_and_count_are_bounded() {
        let nested = |depth: usize| [vec![0x81; depth], vec![0]].concat();
        assert_eq!(skipped(&nested(MAX_DEPTH - 1)), Ok(()));
        assert_eq!(
            skipped(&nested(MAX_DEPTH)),
            Err(CborError::TooDeep { field: "value" })
        );
        assert!(skipped(&vec![0xc1; 100_000]).is_err());
        // four thousand million entries, none of them there
        let claimed = hex::decode("9affffffff").unwrap();
        assert_eq!(
            skipped(&claimed),
            Err(CborError::TooLarge {
                field: "value",
                bound: MAX_SKIPPED,
                unit: "entries"
            })
        );
        let endless = [vec![0x9f], vec![0; MAX_SKIPPED + 1], vec![0xff]].concat();
        assert!(skipped(&endless).is_err());
        assert!(skipped(&hex::decode("5affffffff").unwrap()).is_err());
    }

    #[test]
    fn cut_off_and_trailing_bytes_are_told() {
        for text in ["", "19", "42ff", "82", "9f", "bf01", "a101"] {
            assert!(skipped(&hex::decode(text).unwrap()).is_err(), "{text}");
        }
        assert_eq!(
            skipped(&[0, 0]),
            Err(CborError::Trailing {
                structure: "value",
                left: 1
            })
        );
    }

    #[test]
    fn a_pushed_byte_string_is_read_again() {
        for length in [0, 1, 23, 24, 255, 256, 65_535, 65_536] {
            let bytes = vec![7; length];
            let mut out = Vec::new();
            push_bytes(&mut out, &bytes);
            let mut cbor = Cbor::new(&out);
            assert_eq!(cbor.bytes("value", length), Ok(bytes.as_slice()));
            assert_eq!(cbor.finish("value"), Ok(()));
        }
    }

    #[test]
    fn integers_have_their_sign() {
        let read = |text: &str| Cbor::new(&hex::decode(text).unwrap()).integer("n");
        assert_eq!(read("3822"), Ok(-35));
        assert_eq!(read("1822"), Ok(34));
        assert!(read("1b8000000000000000").is_err());
        assert!(read("3b8000000000000000").is_err());
        assert!(read("40").is_err());
    }
}
