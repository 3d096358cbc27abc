//! A reader of DER (ITU-T X.690, section 10) over foreign bytes: definite minimal lengths, one-byte tags, no copies.
//!
//! It reads what certificates, CRLs and the vendors' extensions are made of, and bounds itself: an element is never longer
//! than what holds it, so a loop over elements ends with its bytes.

use jiff::Timestamp;
use jiff::civil;
use jiff::tz::Offset;
use thiserror::Error;

use super::oid::Oid;

/// Identifier octets (X.690, 8.1.2) of the types that X.509 uses.
pub(crate) mod tag {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const BIT_STRING: u8 = 0x03;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const OID: u8 = 0x06;
    pub(crate) const UTF8_STRING: u8 = 0x0c;
    pub(crate) const PRINTABLE_STRING: u8 = 0x13;
    pub(crate) const IA5_STRING: u8 = 0x16;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;

    /// `[number]`, primitive: an implicit tag of a simple type.
    pub(crate) const fn context(number: u8) -> u8 {
        0x80 | number
    }

    /// `[number]`, constructed: an explicit tag, or an implicit one of a sequence.
    pub(crate) const fn context_constructed(number: u8) -> u8 {
        0xa0 | number
    }
}

/// Why bytes are not the DER they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DerError {
    /// The bytes end inside an element.
    #[error("{field} is cut off")]
    Truncated {
        /// What was being read.
        field: &'static str,
    },
    /// Another type than the structure has there.
    #[error("{field} has the tag {found:#04x}, expected {expected:#04x}")]
    Tag {
        /// What was being read.
        field: &'static str,
        /// The identifier octet of the type.
        expected: u8,
        /// The identifier octet found.
        found: u8,
    },
    /// A length that is indefinite, longer than it need be, or beyond any bound of ours.
    #[error("{field} has a length that is not DER")]
    Length {
        /// What was being read.
        field: &'static str,
    },
    /// Bytes after the last element of a structure.
    #[error("{left} bytes follow the end of {field}")]
    Trailing {
        /// What was read completely.
        field: &'static str,
        /// How much is left over.
        left: usize,
    },
    /// More members than any structure of ours has.
    #[error("{field} has more than {most} members")]
    TooMany {
        /// What was being read.
        field: &'static str,
        /// The bound.
        most: usize,
    },
    /// A value that its type does not allow.
    #[error("{field} is not a valid {kind}")]
    Value {
        /// What was being read.
        field: &'static str,
        /// The type.
        kind: &'static str,
    },
}

/// One element: its identifier octet, its contents, and both with the length between them.
#[derive(Clone, Copy)]
pub(crate) struct Element<'a> {
    pub(crate) tag: u8,
    pub(crate) contents: &'a [u8],
    pub(crate) encoding: &'a [u8],
}

/// A cursor over elements.
#[derive(Clone)]
pub(crate) struct Reader<'a> {
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// What was not read yet.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.left
    }

    /// The identifier octet of the next element.
    pub(crate) fn peek(&self) -> Option<u8> {
        self.left.first().copied()
    }

    /// The next element, of any type.
    pub(crate) fn any(&mut self, field: &'static str) -> Result<Element<'a>, DerError> {
        let truncated = || DerError::Truncated { field };
        let bytes = self.left;
        let [tag, first, after @ ..] = bytes else {
            return Err(truncated());
        };
        // tag numbers from 31 on take more octets; nothing in X.509 has one
        if tag & 0x1f == 0x1f {
            return Err(DerError::Value { field, kind: "tag" });
        }
        let (length, body) = match *first {
            short @ 0..0x80 => (usize::from(short), after),
            long => {
                let octets = usize::from(long & 0x7f);
                // none is the indefinite form, and four would be beyond every bound of ours
                if octets == 0 || octets > 3 {
                    return Err(DerError::Length { field });
                }
                let (digits, body) = after.split_at_checked(octets).ok_or_else(truncated)?;
                let length = digits
                    .iter()
                    .fold(0_usize, |length, digit| length << 8 | usize::from(*digit));
                let is_minimal = length >= 0x80 && digits.first() != Some(&0);
                if !is_minimal {
                    return Err(DerError::Length { field });
                }
                (length, body)
            }
        };
        let (contents, left) = body.split_at_checked(length).ok_or_else(truncated)?;
        let encoding = bytes
            .get(..bytes.len() - left.len())
            .ok_or_else(truncated)?;
        self.left = left;
        Ok(Element {
            tag: *tag,
            contents,
            encoding,
        })
    }

    /// The next element, which has this type.
    pub(crate) fn element(
        &mut self,
        field: &'static str,
        expected: u8,
    ) -> Result<Element<'a>, DerError> {
        let mut ahead = self.clone();
        let element = ahead.any(field)?;
        if element.tag != expected {
            return Err(DerError::Tag {
                field,
                expected,
                found: element.tag,
            });
        }
        *self = ahead;
        Ok(element)
    }

    /// The contents of the next element, which has this type.
    pub(crate) fn contents(
        &mut self,
        field: &'static str,
        expected: u8,
    ) -> Result<&'a [u8], DerError> {
        Ok(self.element(field, expected)?.contents)
    }

    /// The contents of the next element if it has this type; another type leaves the cursor where it is.
    pub(crate) fn optional(
        &mut self,
        field: &'static str,
        expected: u8,
    ) -> Result<Option<&'a [u8]>, DerError> {
        if self.peek() != Some(expected) {
            return Ok(None);
        }
        self.contents(field, expected).map(Some)
    }

    /// A cursor over the elements of the next element, a SEQUENCE.
    pub(crate) fn sequence(&mut self, field: &'static str) -> Result<Self, DerError> {
        self.contents(field, tag::SEQUENCE).map(Reader::new)
    }

    /// An object identifier.
    pub(crate) fn oid(&mut self, field: &'static str) -> Result<Oid<'a>, DerError> {
        let contents = self.contents(field, tag::OID)?;
        Oid::new(contents).ok_or(DerError::Value {
            field,
            kind: "object identifier",
        })
    }

    /// A BOOLEAN with `DEFAULT FALSE`. That default spelled out is not DER, but authorities do it.
    pub(crate) fn boolean_or_false(&mut self, field: &'static str) -> Result<bool, DerError> {
        match self.optional(field, tag::BOOLEAN)? {
            None | Some([0x00]) => Ok(false),
            Some([0xff]) => Ok(true),
            Some(_) => Err(DerError::Value {
                field,
                kind: "boolean",
            }),
        }
    }

    /// A non-negative INTEGER of at most 32 bits.
    pub(crate) fn small_integer(&mut self, field: &'static str) -> Result<u32, DerError> {
        let contents = self.contents(field, tag::INTEGER)?;
        small(contents).ok_or(DerError::Value {
            field,
            kind: "small number",
        })
    }

    /// A positive INTEGER of any length, big endian without a leading zero.
    pub(crate) fn positive_integer(&mut self, field: &'static str) -> Result<&'a [u8], DerError> {
        match digits(self.contents(field, tag::INTEGER)?) {
            Some(digits) if !digits.is_empty() => Ok(digits),
            _ => Err(DerError::Value {
                field,
                kind: "positive number",
            }),
        }
    }

    /// The octets of a BIT STRING that has no unused bits.
    pub(crate) fn bit_octets(&mut self, field: &'static str) -> Result<&'a [u8], DerError> {
        match self.contents(field, tag::BIT_STRING)? {
            [0, octets @ ..] => Ok(octets),
            _ => Err(DerError::Value {
                field,
                kind: "string of octets",
            }),
        }
    }

    /// A `Time` (RFC 5280, 4.1.2.5). One after the last that a [`Timestamp`] can hold, as the `99991231235959Z` that stands for no
    /// end, becomes that last one.
    pub(crate) fn time(&mut self, field: &'static str) -> Result<Timestamp, DerError> {
        let refused = || DerError::Value {
            field,
            kind: "time",
        };
        let element = self.any(field)?;
        match element.tag {
            tag::UTC_TIME => utc_time(element.contents).ok_or_else(refused),
            tag::GENERALIZED_TIME => generalized_time(element.contents).ok_or_else(refused),
            _ => Err(refused()),
        }
    }

    /// Nothing may be left.
    pub(crate) fn finish(self, field: &'static str) -> Result<(), DerError> {
        match self.left.len() {
            0 => Ok(()),
            left => Err(DerError::Trailing { field, left }),
        }
    }
}

/// The digits of an INTEGER that is not negative, without leading zeros: none for zero.
fn digits(contents: &[u8]) -> Option<&[u8]> {
    match contents {
        [0] => Some(&[]),
        // a zero only where the first digit would make the number negative (X.690, 8.3.2)
        [0, rest @ ..] => rest
            .first()
            .is_some_and(|first| *first >= 0x80)
            .then_some(rest),
        [first, ..] => (*first < 0x80).then_some(contents),
        [] => None,
    }
}

fn small(contents: &[u8]) -> Option<u32> {
    let digits = digits(contents)?;
    if digits.len() > 4 {
        return None;
    }
    Some(
        digits
            .iter()
            .fold(0, |number, digit| number << 8 | u32::from(*digit)),
    )
}

fn utc_time(text: &[u8]) -> Option<Timestamp> {
    let (year, rest) = text.split_first_chunk::<2>()?;
    let year = decimal(year)?;
    // RFC 5280, 4.1.2.5.1
    let century = if year >= 50 { 1900 } else { 2000 };
    time_of(century + year, rest)
}

fn generalized_time(text: &[u8]) -> Option<Timestamp> {
    let (year, rest) = text.split_first_chunk::<4>()?;
    time_of(decimal(year)?, rest)
}

/// Month to second and the `Z`: RFC 5280 allows no fraction and no other zone.
fn time_of(year: i16, rest: &[u8]) -> Option<Timestamp> {
    let (fields, [b'Z']) = rest.split_first_chunk::<10>()? else {
        return None;
    };
    let mut fields = fields
        .chunks_exact(2)
        .map(|pair| decimal(pair).and_then(|number| i8::try_from(number).ok()));
    let mut next = || fields.next().flatten();
    let (month, day, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?);
    let time = civil::DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
    Some(Offset::UTC.to_timestamp(time).unwrap_or(Timestamp::MAX))
}

fn decimal(digits: &[u8]) -> Option<i16> {
    digits.iter().try_fold(0_i16, |number, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        Some(number * 10 + i16::try_from(digit).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELD: &str = "a field";

    /// A length of many octets could come around to a small one.
    #[test]
    fn lengths_have_three_octets_at_most() {
        for octets in 1..=9_u8 {
            let mut bytes = vec![tag::SEQUENCE, 0x80 | octets];
            let mut digits = vec![0; usize::from(octets)];
            digits[0] = 1;
            digits[usize::from(octets) - 1] |= 0x80;
            bytes.extend(digits);
            bytes.extend([0; 0x200]);
            let read = Reader::new(&bytes).any(FIELD).map(|_| ());
            match octets {
                // 0x81, 0x180, and 0x10080, which is cut off
                1 | 2 => assert_eq!(read, Ok(()), "{octets}"),
                3 => assert_eq!(read, Err(DerError::Truncated { field: FIELD })),
                _ => assert_eq!(read, Err(DerError::Length { field: FIELD }), "{octets}"),
            }
        }
        let indefinite = [tag::SEQUENCE, 0x80, 0, 0];
        assert_eq!(
            Reader::new(&indefinite).any(FIELD).map(|_| ()),
            Err(DerError::Length { field: FIELD })
        );
    }

    #[test]
    fn the_first_bit_of_an_integer_is_its_sign() {
        let read = |contents: &[u8]| {
            let length = u8::try_from(contents.len()).unwrap();
            let bytes = [&[tag::INTEGER, length][..], contents].concat();
            Reader::new(&bytes)
                .positive_integer(FIELD)
                .map(<[u8]>::to_vec)
        };
        assert_eq!(read(&[0x7f]), Ok(vec![0x7f]));
        assert_eq!(read(&[0, 0x80]), Ok(vec![0x80]));
        for negative_or_long in [&[0x80][..], &[0xff], &[0, 0x7f], &[]] {
            assert!(read(negative_or_long).is_err(), "{negative_or_long:x?}");
        }
    }
}
