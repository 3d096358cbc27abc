//! Extensions of certificates and CRLs (RFC 5280, 4.2 and 5.2): all are kept, two are read here.

use super::der::{DerError, Oid, Reader, tag};

pub(crate) const KEY_USAGE: &str = "2.5.29.15";
pub(crate) const BASIC_CONSTRAINTS: &str = "2.5.29.19";
pub(crate) const NAME_CONSTRAINTS: &str = "2.5.29.30";

/// Extensions that one certificate, CRL or entry of a CRL may have. Each is compared with the ones
/// before it.
const MAX_EXTENSIONS: usize = 64;

/// One extension as it was found.
#[derive(Clone, Debug)]
pub(crate) struct Extension {
    oid: Box<[u8]>,
    pub(crate) critical: bool,
    pub(crate) value: Box<[u8]>,
}

impl Extension {
    /// Reads `Extensions`, the whole of `reader`, at most [`MAX_EXTENSIONS`].
    pub(crate) fn read_all(
        mut reader: Reader<'_>,
        field: &'static str,
    ) -> Result<Box<[Self]>, DerError> {
        let mut extensions: Vec<Self> = Vec::new();
        let mut list = reader.sequence(field)?;
        reader.finish(field)?;
        while !list.is_empty() {
            if extensions.len() == MAX_EXTENSIONS {
                return Err(DerError::TooMany {
                    field,
                    most: MAX_EXTENSIONS,
                });
            }
            let mut extension = list.sequence(field)?;
            let oid = extension.oid(field)?.contents();
            let critical = extension.boolean_or_false(field)?;
            let value = extension.contents(field, tag::OCTET_STRING)?;
            extension.finish(field)?;
            // two of a kind could be read in two ways (4.2)
            if extensions.iter().any(|known| *known.oid == *oid) {
                return Err(DerError::Value {
                    field,
                    kind: "set of different extensions",
                });
            }
            extensions.push(Self {
                oid: oid.into(),
                critical,
                value: value.into(),
            });
        }
        Ok(extensions.into())
    }

    /// The object identifier, dotted.
    pub(crate) fn oid(&self) -> String {
        Oid::new(&self.oid).map_or_else(String::new, |oid| oid.to_string())
    }

    pub(crate) fn find<'a>(extensions: &'a [Self], oid: &str) -> Option<&'a Self> {
        extensions.iter().find(|extension| extension.oid() == oid)
    }
}

/// Whether a certificate may issue others, and how long the path below it may be (4.2.1.9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BasicConstraints {
    /// The subject is an authority.
    pub is_ca: bool,
    /// How many authorities may stand between this one and the leaf; `None`: any number.
    pub path_length: Option<u32>,
}

impl BasicConstraints {
    pub(crate) fn parse(value: &[u8]) -> Result<Self, DerError> {
        const FIELD: &str = "the basic constraints";
        let mut outer = Reader::new(value);
        let mut fields = outer.sequence(FIELD)?;
        outer.finish(FIELD)?;
        let is_ca = fields.boolean_or_false(FIELD)?;
        let path_length = match fields.is_empty() {
            true => None,
            false => Some(fields.small_integer(FIELD)?),
        };
        fields.finish(FIELD)?;
        Ok(Self { is_ca, path_length })
    }
}

/// What a key may be used for (4.2.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUsage(u16);

impl KeyUsage {
    pub(crate) fn parse(value: &[u8]) -> Result<Self, DerError> {
        const FIELD: &str = "the key usage";
        let refused = DerError::Value {
            field: FIELD,
            kind: "bit string",
        };
        let mut outer = Reader::new(value);
        let bits = outer.contents(FIELD, tag::BIT_STRING)?;
        outer.finish(FIELD)?;
        let (unused, octets) = match bits {
            [unused @ 0..=7, octets @ ..] => (*unused, octets),
            _ => return Err(refused),
        };
        let bits = match octets {
            [] if unused == 0 => [0, 0],
            [first] => [*first, 0],
            [first, second] => [*first, *second],
            _ => return Err(refused),
        };
        Ok(Self(u16::from_be_bytes(bits)))
    }

    const fn has(self, bit: u16) -> bool {
        self.0 & (0x8000 >> bit) != 0
    }

    /// `digitalSignature`.
    #[must_use]
    pub const fn digital_signature(self) -> bool {
        self.has(0)
    }

    /// `keyEncipherment`.
    #[must_use]
    pub const fn key_encipherment(self) -> bool {
        self.has(2)
    }

    /// `keyAgreement`.
    #[must_use]
    pub const fn key_agreement(self) -> bool {
        self.has(4)
    }

    /// `keyCertSign`.
    #[must_use]
    pub const fn key_cert_sign(self) -> bool {
        self.has(5)
    }

    /// `cRLSign`.
    #[must_use]
    pub const fn crl_sign(self) -> bool {
        self.has(6)
    }
}
