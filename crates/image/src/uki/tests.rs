use super::*;

pub(crate) const STUB_SECTIONS: [(&str, &[u8]); 2] = [
    (".text", b"the boot stub's code"),
    (".sbat", b"sbat,1,example\n"),
];

/// A PE32+ file with the two sections above and room for more headers.
pub(crate) fn stub() -> Vec<u8> {
    const PE: usize = 0x40;
    const OPTIONAL: usize = PE + 24;
    const OPTIONAL_LEN: usize = 112 + 16 * 8;
    let mut out = vec![0; 1024];
    let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &[0x40, 0, 0, 0]);
    put(PE, b"PE\0\0\x64\x86\x02\0");
    put(PE + 20, &u16::try_from(OPTIONAL_LEN).unwrap().to_le_bytes());
    put(OPTIONAL, &0x20b_u16.to_le_bytes());
    put(OPTIONAL + 32, &4096_u32.to_le_bytes());
    put(OPTIONAL + 36, &512_u32.to_le_bytes());
    put(OPTIONAL + 56, &0x3000_u32.to_le_bytes());
    put(OPTIONAL + 60, &1024_u32.to_le_bytes());
    put(OPTIONAL + 108, &16_u32.to_le_bytes());
    for (index, (name, content)) in STUB_SECTIONS.into_iter().enumerate() {
        let at = OPTIONAL + OPTIONAL_LEN + index * 40;
        let index = u32::try_from(index).unwrap();
        put(at, name.as_bytes());
        let len = u32::try_from(content.len()).unwrap();
        for (field, value) in [len, 0x1000 * (index + 1), 512, 1024 + 512 * index]
            .into_iter()
            .enumerate()
        {
            put(at + 8 + 4 * field, &value.to_le_bytes());
        }
    }
    for (_, content) in STUB_SECTIONS {
        out.extend_from_slice(content);
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out
}

#[test]
fn appends_sections_behind_those_of_the_stub() {
    let long = vec![7; 5000];
    let uki = build(&stub(), &[(".cmdline", b"quiet"), (".linux", &long)]).unwrap();
    let pe = Pe::parse(&uki).unwrap();
    assert_eq!(pe.section(".text"), Ok(Some(STUB_SECTIONS[0].1)));
    assert_eq!(pe.section(".cmdline"), Ok(Some(&b"quiet"[..])));
    assert_eq!(pe.section(".linux"), Ok(Some(&long[..])));
    let ranges: Vec<_> = pe
        .sections()
        .iter()
        .map(|section| (section.virtual_address, section.virtual_size))
        .collect();
    assert_eq!(
        ranges,
        [(0x1000, 20), (0x2000, 15), (0x3000, 5), (0x4000, 5000)]
    );
    let optional = pe.layout().optional;
    assert_eq!(
        uki[optional + 56..optional + 60],
        0x6000_u32.to_le_bytes(),
        "size of the image in memory"
    );
    assert_eq!(uki.len() % 512, 0);
}

#[test]
fn is_the_same_each_time() {
    let make = || build(&stub(), &[(".cmdline", b"a"), (".initrd", b"b")]).unwrap();
    assert_eq!(make(), make());
}

#[test]
fn refuses_a_stub_it_can_not_extend() {
    let many: Vec<_> = (0..20).map(|_| (".a", &b"x"[..])).collect();
    assert!(matches!(build(&stub(), &many), Err(BuildError::NoRoom(20))));
    assert!(
        matches!(build(&stub(), &[(".sbat", b"x")]), Err(BuildError::Duplicate(name)) if name == ".sbat")
    );
    assert!(matches!(
        build(&stub(), &[(".toolongname", b"x")]),
        Err(BuildError::TooLarge(_))
    ));
    assert!(matches!(build(b"MZ", &[]), Err(BuildError::Stub(_))));
}
