//! Object identifiers (ITU-T X.690, 8.19): octets in certificates, dotted text in code and for people.

use std::fmt;

/// Octets of the longest object identifier that is read: longer than any of the vendors'.
const MAX_OID: usize = 64;

/// An object identifier, as its contents octets.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Oid<'a>(&'a [u8]);

impl<'a> Oid<'a> {
    /// Contents octets (X.690, 8.19), at most [`MAX_OID`] of them: every arc ends, and none begins with padding.
    pub(crate) fn new(contents: &'a [u8]) -> Option<Self> {
        if contents.len() > MAX_OID {
            return None;
        }
        let mut at_start = true;
        for octet in contents {
            if at_start && *octet == 0x80 {
                return None;
            }
            at_start = *octet < 0x80;
        }
        (at_start && !contents.is_empty()).then_some(Self(contents))
    }

    pub(crate) const fn contents(self) -> &'a [u8] {
        self.0
    }

    /// Whether this is the identifier that the dotted text names.
    pub(crate) fn is(self, dotted: &str) -> bool {
        encoded(dotted).is_some_and(|octets| self.0 == octets)
    }
}

/// The contents octets of the object identifier that the dotted text names, if it names one: for who compares several with it.
pub(crate) fn encoded(dotted: &str) -> Option<Vec<u8>> {
    let mut arcs = dotted.split('.').map(|arc| arc.parse::<u64>().ok());
    let (root, second) = (arcs.next()??, arcs.next()??);
    if root > 2 || (root < 2 && second >= 40) {
        return None;
    }
    // the first two arcs share a number (X.690, 8.19.4)
    let first = second.checked_add(40 * root)?;
    let mut octets = Vec::with_capacity(dotted.len());
    for arc in std::iter::once(Some(first)).chain(arcs) {
        let arc = arc?;
        let septets = (u64::BITS - arc.leading_zeros()).div_ceil(7).max(1);
        for position in (0..septets).rev() {
            let [octet, ..] = (arc >> (7 * position)).to_le_bytes();
            let more = if position == 0 { 0 } else { 0x80 };
            octets.push(octet & 0x7f | more);
        }
    }
    Some(octets)
}

impl fmt::Display for Oid<'_> {
    /// Dotted, as `2.5.29.15`; in hex if an arc has more than 64 bits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arcs = || {
            self.0
                .split_inclusive(|octet| octet & 0x80 == 0)
                .map(number)
        };
        if arcs().any(|arc| arc.is_none()) {
            return write!(f, "oid:{}", hex::encode(self.0));
        }
        for (index, arc) in arcs().flatten().enumerate() {
            if index == 0 {
                let first = (arc / 40).min(2);
                write!(f, "{first}.{}", arc - first * 40)?;
            } else {
                write!(f, ".{arc}")?;
            }
        }
        Ok(())
    }
}

/// The number of one arc's octets, if it has at most 64 bits.
fn number(octets: &[u8]) -> Option<u64> {
    octets.iter().try_fold(0_u64, |number, octet| {
        (number >> 57 == 0).then_some(number << 7 | u64::from(octet & 0x7f))
    })
}

impl fmt::Debug for Oid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_text_and_octets_are_two_forms_of_one_identifier() {
        for (dotted, octets) in [
            ("0.0", &[0][..]),
            ("1.39.128", &[79, 0x81, 0]),
            ("2.5.29.15", &[0x55, 0x1d, 15]),
            ("2.999", &[0x88, 0x37]),
            (
                "1.3.6.1.4.1.3704.1.3.8",
                &[43, 6, 1, 4, 1, 0x9c, 0x78, 1, 3, 8],
            ),
            (
                "1.2.18446744073709551615",
                &[42, 0x81, 255, 255, 255, 255, 255, 255, 255, 255, 0x7f],
            ),
        ] {
            assert_eq!(encoded(dotted).as_deref(), Some(octets), "{dotted}");
            let oid = Oid::new(octets).unwrap();
            assert_eq!(oid.to_string(), dotted);
            assert!(oid.is(dotted) && !oid.is("2.5.29.16"), "{dotted}");
        }
    }

    #[test]
    fn what_is_no_identifier_names_none() {
        for text in [
            "",
            "1",
            "2.",
            ".1",
            "1.40",
            "3.1",
            "a.b",
            "2.5..1",
            "1.2.18446744073709551616",
        ] {
            assert_eq!(encoded(text), None, "{text}");
        }
        // an arc of 65 bits
        let long = [42, 0x82, 128, 128, 128, 128, 128, 128, 128, 128, 0];
        assert_eq!(
            Oid::new(&long).unwrap().to_string(),
            format!("oid:{}", hex::encode(long))
        );
    }
}
