//! Distinguished names (RFC 5280, 4.1.2.4).

use std::fmt;

use super::der::{DerError, Reader, tag};
use super::oid::{self, Oid};

/// Attributes of the longest name that is read: longer than any of the vendors'.
const MAX_ATTRIBUTES: usize = 64;

/// The name of a subject or an issuer.
///
/// Two names are equal if their encodings are: RFC 5280 (7.1) would also call names equal whose letters differ in case or whose string
/// types differ, but no authority of attestation relies on it, and the narrow reading cannot confuse two of them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Name {
    der: Box<[u8]>,
    attributes: Box<[Attribute]>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Attribute {
    /// Contents octets.
    oid: Box<[u8]>,
    /// `None`: of a string type that is not text of today.
    value: Option<String>,
}

impl Name {
    /// Reads the next element, a `Name` of at most [`MAX_ATTRIBUTES`].
    pub(crate) fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DerError> {
        let element = reader.element(field, tag::SEQUENCE)?;
        let mut attributes = Vec::new();
        let mut sets = Reader::new(element.contents);
        while !sets.is_empty() {
            let mut set = Reader::new(sets.contents(field, tag::SET)?);
            // DER wants the members of a set sorted; certificates of TPM makers are not, and nothing depends on it
            while !set.is_empty() {
                if attributes.len() == MAX_ATTRIBUTES {
                    return Err(DerError::TooMany {
                        field,
                        most: MAX_ATTRIBUTES,
                    });
                }
                let mut pair = set.sequence(field)?;
                let oid = pair.oid(field)?.contents();
                let value = pair.any(field)?;
                pair.finish(field)?;
                attributes.push(Attribute {
                    oid: oid.into(),
                    value: text(value.tag, value.contents),
                });
            }
        }
        Ok(Self {
            der: element.encoding.into(),
            attributes: attributes.into(),
        })
    }

    /// The encoding.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    /// Whether it has no attribute: subjects of TPM endorsement keys are empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.attributes.is_empty()
    }

    /// The first `commonName`.
    #[must_use]
    pub fn common_name(&self) -> Option<&str> {
        self.attribute("2.5.4.3")
    }

    /// The first attribute of this type, given as a dotted object identifier, if it is text.
    #[must_use]
    pub fn attribute(&self, oid: &str) -> Option<&str> {
        let octets = oid::encoded(oid)?;
        self.attributes
            .iter()
            .find(|attribute| *attribute.oid == *octets)?
            .value
            .as_deref()
    }
}

fn text(kind: u8, contents: &[u8]) -> Option<String> {
    const BMP_STRING: u8 = 0x1e;
    match kind {
        tag::UTF8_STRING | tag::PRINTABLE_STRING | tag::IA5_STRING => {
            String::from_utf8(contents.to_vec()).ok()
        }
        BMP_STRING => {
            let units = contents.chunks_exact(2);
            if !units.remainder().is_empty() {
                return None;
            }
            let units = units.map(|unit| match unit {
                [high, low] => u16::from_be_bytes([*high, *low]),
                _ => 0,
            });
            char::decode_utf16(units).collect::<Result<_, _>>().ok()
        }
        _ => None,
    }
}

impl fmt::Display for Attribute {
    /// The type as a person calls it, and the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.value.as_deref().unwrap_or("(not text)");
        let oid = Oid::new(&self.oid)
            .map(|oid| oid.to_string())
            .unwrap_or_default();
        let kind = match oid.as_str() {
            "2.5.4.3" => "CN",
            "2.5.4.5" => "serialNumber",
            "2.5.4.6" => "C",
            "2.5.4.7" => "L",
            "2.5.4.8" => "ST",
            "2.5.4.10" => "O",
            "2.5.4.11" => "OU",
            other => other,
        };
        write!(f, "{kind}={}", value.escape_debug())
    }
}

impl fmt::Display for Name {
    /// For a person: attributes in the order of the certificate, control characters escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("(empty name)");
        }
        for (index, attribute) in self.attributes.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            attribute.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
