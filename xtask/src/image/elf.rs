//! Which libraries a program is linked to: the `DT_NEEDED` entries of its dynamic section.

/// Names of the libraries `elf` needs; none if it is no 64-bit ELF file.
pub(super) fn needed(elf: &[u8]) -> Vec<String> {
    read(elf).unwrap_or_default()
}

fn read(elf: &[u8]) -> Option<Vec<String>> {
    const DYNAMIC: u32 = 6;
    if elf.get(..5)? != b"\x7fELF\x02" {
        return None;
    }
    let (table, entry_len, count) = (
        number(elf, 40, 8)?,
        number(elf, 58, 2)?,
        number(elf, 60, 2)?,
    );
    let header =
        |index: usize| Some(table + index * entry_len).filter(|&at| at + entry_len <= elf.len());
    let dynamic = (0..count)
        .filter_map(header)
        .find(|&at| number(elf, at + 4, 4) == usize::try_from(DYNAMIC).ok())?;
    let strings = header(number(elf, dynamic + 40, 4)?)?;
    let strings = elf.get(number(elf, strings + 24, 8)?..)?;
    let (start, len) = (number(elf, dynamic + 24, 8)?, number(elf, dynamic + 32, 8)?);
    let entries = elf.get(start..start + len)?.chunks_exact(16);
    let names = entries
        .filter(|entry| number(entry, 0, 8) == Some(1))
        .filter_map(|entry| {
            let name = strings
                .get(number(entry, 8, 8)?..)?
                .split(|&byte| byte == 0)
                .next()?;
            String::from_utf8(name.to_vec()).ok()
        });
    Some(names.collect())
}

fn number(bytes: &[u8], at: usize, len: usize) -> Option<usize> {
    bytes
        .get(at..at + len)?
        .iter()
        .rev()
        .try_fold(0_usize, |value, &byte| Some(value << 8 | usize::from(byte)))
}
