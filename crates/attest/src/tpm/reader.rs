//! A cursor over foreign bytes. Every read is bounded by what is left; nothing is indexed.

use thiserror::Error;

/// Why bytes are not the structure they should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// The bytes end inside a field.
    #[error("{field} is cut off: {wanted} bytes wanted, {left} left")]
    Truncated {
        /// The field that was being read.
        field: &'static str,
        /// What it needs.
        wanted: usize,
        /// What there is.
        left: usize,
    },
    /// Bytes after the end of the structure.
    #[error("{left} bytes follow the end of {structure}")]
    Trailing {
        /// What was read completely.
        structure: &'static str,
        /// How much is left over.
        left: usize,
    },
    /// A count or length beyond its bound.
    #[error("{field} is {value}, at most {bound} is allowed")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// Its value.
        value: usize,
        /// The bound.
        bound: usize,
    },
    /// A value that the structure does not allow, or this release does not know.
    #[error("{field} has the value {value:#x}, which is not supported")]
    Unsupported {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
}

/// Which end of an integer comes first: TPM structures are big endian, event logs little endian.
#[derive(Clone, Copy)]
enum Endian {
    Big,
    Little,
}

#[derive(Clone)]
pub(crate) struct Reader<'a> {
    left: &'a [u8],
    endian: Endian,
}

impl<'a> Reader<'a> {
    pub(crate) const fn big_endian(bytes: &'a [u8]) -> Self {
        Self {
            left: bytes,
            endian: Endian::Big,
        }
    }

    pub(crate) const fn little_endian(bytes: &'a [u8]) -> Self {
        Self {
            left: bytes,
            endian: Endian::Little,
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    pub(crate) fn bytes(
        &mut self,
        field: &'static str,
        count: usize,
    ) -> Result<&'a [u8], ParseError> {
        match self.left.split_at_checked(count) {
            Some((head, tail)) => {
                self.left = tail;
                Ok(head)
            }
            None => Err(ParseError::Truncated {
                field,
                wanted: count,
                left: self.left.len(),
            }),
        }
    }

    pub(crate) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], ParseError> {
        match self.left.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.left = tail;
                Ok(*head)
            }
            None => Err(ParseError::Truncated {
                field,
                wanted: N,
                left: self.left.len(),
            }),
        }
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, ParseError> {
        self.array::<1>(field).map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, ParseError> {
        let bytes = self.array(field)?;
        Ok(match self.endian {
            Endian::Big => u16::from_be_bytes(bytes),
            Endian::Little => u16::from_le_bytes(bytes),
        })
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, ParseError> {
        let bytes = self.array(field)?;
        Ok(match self.endian {
            Endian::Big => u32::from_be_bytes(bytes),
            Endian::Little => u32::from_le_bytes(bytes),
        })
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, ParseError> {
        let bytes = self.array(field)?;
        Ok(match self.endian {
            Endian::Big => u64::from_be_bytes(bytes),
            Endian::Little => u64::from_le_bytes(bytes),
        })
    }

    /// A 32-bit count or length, checked against its bound before anybody uses it.
    pub(crate) fn count(&mut self, field: &'static str, bound: usize) -> Result<usize, ParseError> {
        let value = usize::try_from(self.u32(field)?).unwrap_or(usize::MAX);
        if value > bound {
            return Err(ParseError::TooLarge {
                field,
                value,
                bound,
            });
        }
        Ok(value)
    }

    /// A TPM2B: 16-bit length and that many bytes.
    pub(crate) fn sized(
        &mut self,
        field: &'static str,
        bound: usize,
    ) -> Result<&'a [u8], ParseError> {
        let value = usize::from(self.u16(field)?);
        if value > bound {
            return Err(ParseError::TooLarge {
                field,
                value,
                bound,
            });
        }
        self.bytes(field, value)
    }

    /// What is left, for who reads it in another form.
    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.left
    }

    /// Ends a structure: nothing may be left.
    pub(crate) const fn finish(self, structure: &'static str) -> Result<(), ParseError> {
        match self.left.len() {
            0 => Ok(()),
            left => Err(ParseError::Trailing { structure, left }),
        }
    }
}
