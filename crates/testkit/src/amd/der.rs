//! As much DER as certificates of a test need.

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const PRINTABLE_STRING: u8 = 0x13;
pub(super) const IA5_STRING: u8 = 0x16;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
pub(super) const NULL: [u8; 2] = [0x05, 0];
pub(super) const TRUE: [u8; 3] = [0x01, 1, 0xff];

/// An explicit context tag.
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// Tag, length, parts one after the other.
pub(super) fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut der = vec![tag];
    let length = content.len().to_be_bytes();
    let length: Vec<u8> = length.into_iter().skip_while(|byte| *byte == 0).collect();
    match length.as_slice() {
        [] => der.push(0),
        [short @ ..=0x7f] => der.push(*short),
        long => {
            der.push(0x80 | u8::try_from(long.len()).expect("a length has at most eight bytes"));
            der.extend_from_slice(long);
        }
    }
    der.extend_from_slice(&content);
    der
}

/// An object identifier from its dotted form.
pub(super) fn oid(dotted: &str) -> Vec<u8> {
    let arcs: Vec<u64> = dotted
        .split('.')
        .map(|arc| arc.parse().expect("an arc is a number"))
        .collect();
    let (first, rest) = arcs.split_at(2);
    let mut content = Vec::new();
    for arc in [&[first[0] * 40 + first[1]], rest].concat() {
        let groups: Vec<u8> = (0..9)
            .rev()
            .map(|group| u8::try_from((arc >> (7 * group)) & 0x7f).expect("seven bits"))
            .skip_while(|group| *group == 0)
            .collect();
        match groups.split_last() {
            None => content.push(0),
            Some((last, more)) => {
                content.extend(more.iter().map(|group| group | 0x80));
                content.push(*last);
            }
        }
    }
    tlv(0x06, &[&content])
}

/// A positive integer from its big endian bytes.
pub(super) fn unsigned(bytes: &[u8]) -> Vec<u8> {
    let mut digits: Vec<u8> = bytes
        .iter()
        .copied()
        .skip_while(|byte| *byte == 0)
        .collect();
    if digits.first().is_none_or(|first| *first >= 0x80) {
        digits.insert(0, 0);
    }
    tlv(INTEGER, &[&digits])
}
