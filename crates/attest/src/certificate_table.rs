//! The table of certificates that a host puts beside an SEV-SNP report: GUID, offset, length, and the certificates behind it.
//!
//! It comes from the host, so nothing in it is believed: a certificate out of it is one that still has to lead to a root.
//! Specification: AMD, "SEV Guest-Hypervisor Communication Block", 4.1.8.1 (SNP Extended Guest Request).

use thiserror::Error;

/// What a host may hand over: the page buffer of the request has no more.
pub const MAX_TABLE: usize = 64 * 1024;
/// Kinds of certificate that could be in one table, several times over.
const MAX_ENTRIES: usize = 16;
const ENTRY: usize = 24;

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// AMD's key of this chip and TCB.
    Vcek,
    /// AMD's key of the cloud and TCB.
    Vlek,
    /// What signed it.
    Ask,
    /// AMD's root, in the host's words.
    Ark,
    /// AMD's revocation list.
    Crl,
    /// Something else, by its GUID as it stands in the table.
    Other([u8; 16]),
}

impl Entry {
    const fn of(guid: [u8; 16]) -> Self {
        // the first three numbers of a GUID stand little endian (RFC 4122, appendix A as of Microsoft)
        match guid {
            // 63da758d-e664-4564-adc5-f4b93be8accd
            [
                0x8d,
                0x75,
                0xda,
                0x63,
                0x64,
                0xe6,
                0x64,
                0x45,
                0xad,
                0xc5,
                0xf4,
                0xb9,
                0x3b,
                0xe8,
                0xac,
                0xcd,
            ] => Self::Vcek,
            // a8074bc2-a25a-483e-aae6-39c045a0b8a1
            [
                0xc2,
                0x4b,
                0x07,
                0xa8,
                0x5a,
                0xa2,
                0x3e,
                0x48,
                0xaa,
                0xe6,
                0x39,
                0xc0,
                0x45,
                0xa0,
                0xb8,
                0xa1,
            ] => Self::Vlek,
            // 4ab7b379-bbac-4fe4-a02f-05aef327c782
            [
                0x79,
                0xb3,
                0xb7,
                0x4a,
                0xac,
                0xbb,
                0xe4,
                0x4f,
                0xa0,
                0x2f,
                0x05,
                0xae,
                0xf3,
                0x27,
                0xc7,
                0x82,
            ] => Self::Ask,
            // c0b406a4-a803-4952-9743-3fb6014cd0ae
            [
                0xa4,
                0x06,
                0xb4,
                0xc0,
                0x03,
                0xa8,
                0x52,
                0x49,
                0x97,
                0x43,
                0x3f,
                0xb6,
                0x01,
                0x4c,
                0xd0,
                0xae,
            ] => Self::Ark,
            // 92f81bc3-5811-4d3d-97ff-d19f88dc67ea
            [
                0xc3,
                0x1b,
                0xf8,
                0x92,
                0x11,
                0x58,
                0x3d,
                0x4d,
                0x97,
                0xff,
                0xd1,
                0x9f,
                0x88,
                0xdc,
                0x67,
                0xea,
            ] => Self::Crl,
            other => Self::Other(other),
        }
    }
}

/// Why bytes are not a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CertificateTableError {
    /// Longer than any.
    #[error("the certificate table has {0} bytes, more than {MAX_TABLE}")]
    TooLong(usize),
    /// No end of the entries.
    #[error("the certificate table ends before its list of entries does")]
    NoEnd,
    /// More entries than there are kinds.
    #[error("the certificate table has more than {MAX_ENTRIES} entries")]
    TooMany,
    /// An entry that points into the list of entries, or beyond the table.
    #[error(
        "entry {number} of the certificate table points to bytes {offset} to {end}, which are not behind its list"
    )]
    Range {
        /// Which, from 0.
        number: usize,
        /// The first byte.
        offset: u64,
        /// One behind the last.
        end: u64,
    },
    /// A kind given twice.
    #[error("entry {0} of the certificate table is of the kind of an earlier one")]
    Twice(usize),
}

/// The certificates of a table, as they stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateTable<'a>(Vec<(Entry, &'a [u8])>);

impl<'a> CertificateTable<'a> {
    /// Parses a table. No bytes at all are a table without entries, because a host may have none.
    ///
    /// # Errors
    /// When the list of entries does not end, is too long, names a kind twice, or points where no certificate can be.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, CertificateTableError> {
        if bytes.len() > MAX_TABLE {
            return Err(CertificateTableError::TooLong(bytes.len()));
        }
        if bytes.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let raw = entries(bytes)?;
        // the list's end is an entry too
        let first_free = ((raw.len() + 1) * ENTRY) as u64;
        let mut found: Vec<(Entry, &[u8])> = Vec::with_capacity(raw.len());
        for (number, (entry, offset, length)) in raw.into_iter().enumerate() {
            let offset = u64::from(offset);
            let end = offset + u64::from(length);
            let range = usize::try_from(offset).ok().zip(usize::try_from(end).ok());
            let content = range
                .filter(|_| offset >= first_free && length > 0)
                .and_then(|(offset, end)| bytes.get(offset..end))
                .ok_or(CertificateTableError::Range {
                    number,
                    offset,
                    end,
                })?;
            if found.iter().any(|(known, _)| *known == entry) {
                return Err(CertificateTableError::Twice(number));
            }
            found.push((entry, content));
        }
        Ok(Self(found))
    }

    /// What the table holds of a kind.
    #[must_use]
    pub fn get(&self, entry: Entry) -> Option<&'a [u8]> {
        self.0
            .iter()
            .find(|(known, _)| *known == entry)
            .map(|(_, content)| *content)
    }

    /// All of it, in the table's order.
    #[must_use]
    pub fn entries(&self) -> &[(Entry, &'a [u8])] {
        &self.0
    }
}

/// Kind, offset and length of each entry, up to the one that is all zeros.
fn entries(bytes: &[u8]) -> Result<Vec<(Entry, u32, u32)>, CertificateTableError> {
    let mut found = Vec::with_capacity(MAX_ENTRIES);
    let (rows, _) = bytes.as_chunks::<ENTRY>();
    for row in rows {
        if row.iter().all(|byte| *byte == 0) {
            return Ok(found);
        }
        if found.len() == MAX_ENTRIES {
            return Err(CertificateTableError::TooMany);
        }
        let (guid, rest) = row
            .split_first_chunk::<16>()
            .ok_or(CertificateTableError::NoEnd)?;
        let (offset, rest) = rest
            .split_first_chunk::<4>()
            .ok_or(CertificateTableError::NoEnd)?;
        let length = rest
            .first_chunk::<4>()
            .ok_or(CertificateTableError::NoEnd)?;
        found.push((
            Entry::of(*guid),
            u32::from_le_bytes(*offset),
            u32::from_le_bytes(*length),
        ));
    }
    Err(CertificateTableError::NoEnd)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VLEK: &str = "c24b07a85aa23e48aae639c045a0b8a1";
    const ASK: &str = "79b3b74aacbbe44fa02f05aef327c782";
    const OTHER: &str = "000102030405060708090a0b0c0d0e0f";

    fn row(guid: &str, offset: u32, length: u32) -> Vec<u8> {
        let mut row = hex::decode(guid).unwrap();
        row.extend(offset.to_le_bytes());
        row.extend(length.to_le_bytes());
        row
    }

    /// Rows, the list's end, and 100 bytes of content.
    fn table(rows: &[Vec<u8>]) -> Vec<u8> {
        let content: Vec<u8> = (0..100).collect();
        [rows.concat(), vec![0; ENTRY], content].concat()
    }

    /// The real certificate of AWS, in a table as the kernel hands it over.
    #[test]
    fn certificates_are_found_by_their_kind() {
        let vlek = include_bytes!("../testdata/evidence/snp-vlek/trustee/aws-us-east-2-v3/vek.der");
        let ask = include_bytes!("../testdata/evidence/roots/amd/asvk-milan.der");
        let start = u32::try_from(3 * ENTRY).unwrap();
        let length = u32::try_from(vlek.len()).unwrap();
        let mut bytes = [
            row(VLEK, start, length),
            row(ASK, start + length, u32::try_from(ask.len()).unwrap()),
            vec![0; ENTRY],
        ]
        .concat();
        bytes.extend_from_slice(vlek);
        bytes.extend_from_slice(ask);
        // the kernel's buffer is whole pages
        bytes.resize(8192, 0);
        let table = CertificateTable::parse(&bytes).unwrap();
        assert_eq!(table.get(Entry::Vlek), Some(&vlek[..]));
        assert_eq!(table.get(Entry::Ask), Some(&ask[..]));
        assert_eq!(table.get(Entry::Vcek), None);
        assert_eq!(table.entries().len(), 2);
        assert!(crate::x509::Certificate::parse(table.get(Entry::Vlek).unwrap()).is_ok());
    }

    #[test]
    fn guids_are_those_of_the_specification() {
        for (text, entry) in [
            ("63da758d-e664-4564-adc5-f4b93be8accd", Entry::Vcek),
            ("a8074bc2-a25a-483e-aae6-39c045a0b8a1", Entry::Vlek),
            ("4ab7b379-bbac-4fe4-a02f-05aef327c782", Entry::Ask),
            ("c0b406a4-a803-4952-9743-3fb6014cd0ae", Entry::Ark),
            ("92f81bc3-5811-4d3d-97ff-d19f88dc67ea", Entry::Crl),
        ] {
            let mut bytes =
                <[u8; 16]>::try_from(hex::decode(text.replace('-', "")).unwrap()).unwrap();
            bytes[0..4].reverse();
            bytes[4..6].reverse();
            bytes[6..8].reverse();
            assert_eq!(Entry::of(bytes), entry);
        }
    }

    #[test]
    fn no_bytes_and_no_entries_are_an_empty_table() {
        assert_eq!(CertificateTable::parse(&[]).unwrap().entries(), []);
        assert_eq!(CertificateTable::parse(&table(&[])).unwrap().entries(), []);
        let unknown = table(&[row(OTHER, 48, 10)]);
        let unknown = CertificateTable::parse(&unknown).unwrap();
        assert!(matches!(unknown.entries(), [(Entry::Other(_), content)] if content.len() == 10));
    }

    #[test]
    fn entries_that_point_elsewhere_are_refused() {
        // one entry and the end: content from byte 48 to 148
        assert!(CertificateTable::parse(&table(&[row(VLEK, 48, 100)])).is_ok());
        for (offset, length) in [
            (48, 101),
            (47, 10),
            (0, 24),
            (148, 1),
            (48, 0),
            (u32::MAX, 1),
            (48, u32::MAX),
            (u32::MAX, u32::MAX),
        ] {
            let bytes = table(&[row(VLEK, offset, length)]);
            let refused = CertificateTable::parse(&bytes);
            assert!(
                matches!(refused, Err(CertificateTableError::Range { number: 0, .. })),
                "{offset} {length}: {refused:?}"
            );
        }
    }

    #[test]
    fn a_table_has_a_bound() {
        let padded = |size: usize| vec![0; size];
        assert!(CertificateTable::parse(&padded(MAX_TABLE)).is_ok());
        assert_eq!(
            CertificateTable::parse(&padded(MAX_TABLE + 1)),
            Err(CertificateTableError::TooLong(MAX_TABLE + 1))
        );
    }

    #[test]
    fn lists_that_do_not_end_or_repeat_are_refused() {
        let endless = row(VLEK, 48, 1).repeat(MAX_ENTRIES + 1);
        assert_eq!(
            CertificateTable::parse(&endless),
            Err(CertificateTableError::TooMany)
        );
        assert_eq!(
            CertificateTable::parse(&row(VLEK, 48, 1)),
            Err(CertificateTableError::NoEnd)
        );
        assert_eq!(
            CertificateTable::parse(&[0; ENTRY - 1]),
            Err(CertificateTableError::NoEnd)
        );
        let twice = table(&[row(VLEK, 72, 1), row(VLEK, 73, 1)]);
        assert_eq!(
            CertificateTable::parse(&twice),
            Err(CertificateTableError::Twice(1))
        );
        assert_eq!(
            CertificateTable::parse(&vec![0; MAX_TABLE + 1]),
            Err(CertificateTableError::TooLong(MAX_TABLE + 1))
        );
    }
}
