//! Extensions of certificates and CRLs (RFC 5280, 4.2 and 5.2): all are kept, two are read here.

use super::der::{DerError, Reader, tag};
use super::oid::Oid;

pub(crate) const KEY_USAGE: [u8; 3] = id_ce(15);
pub(crate) const BASIC_CONSTRAINTS: [u8; 3] = id_ce(19);
pub(crate) const NAME_CONSTRAINTS: [u8; 3] = id_ce(30);

/// The contents octets of `id-ce` (2.5.29) and an arc below 128.
pub(crate) const fn id_ce(arc: u8) -> [u8; 3] {
    [0x55, 0x1d, arc]
}

/// Extensions that one certificate, CRL or entry of a CRL may have. Each is compared with the ones
/// before it.
const MAX_EXTENSIONS: usize = 64;

/// One extension as it was found, in the bytes it was read from or in its own.
#[derive(Clone, Debug)]
pub(crate) struct Extension<B> {
    /// Contents octets.
    pub(crate) oid: B,
    pub(crate) critical: bool,
    pub(crate) value: B,
}

impl<'a> Extension<&'a [u8]> {
    /// Reads `Extensions`, the whole of `reader`, at most [`MAX_EXTENSIONS`].
    pub(crate) fn read_all(
        mut reader: Reader<'a>,
        field: &'static str,
    ) -> Result<Vec<Self>, DerError> {
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
            if Self::find(&extensions, oid).is_some() {
                return Err(DerError::Value {
                    field,
                    kind: "set of different extensions",
                });
            }
            extensions.push(Self {
                oid,
                critical,
                value,
            });
        }
        Ok(extensions)
    }

    pub(crate) fn to_owned(&self) -> Extension<Box<[u8]>> {
        Extension {
            oid: self.oid.into(),
            critical: self.critical,
            value: self.value.into(),
        }
    }
}

impl<B: AsRef<[u8]>> Extension<B> {
    /// The object identifier, dotted.
    pub(crate) fn dotted(&self) -> String {
        Oid::new(self.oid.as_ref()).map_or_else(String::new, |oid| oid.to_string())
    }

    /// The one with these contents octets of an object identifier.
    pub(crate) fn find<'e>(extensions: &'e [Self], oid: &[u8]) -> Option<&'e Self> {
        extensions.iter().find(|it| it.oid.as_ref() == oid)
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
