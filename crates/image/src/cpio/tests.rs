use super::*;

#[test]
fn writes_the_new_ascii_format() {
    let mut archive = Archive::default();
    archive.push("dir", 0o755, Kind::Directory).unwrap();
    archive
        .push("dir/file", 0o644, Kind::File(b"hello"))
        .unwrap();
    archive.push("link", 0o777, Kind::Link("dir/file")).unwrap();
    let bytes = archive.finish().unwrap();
    let header = |ino: u32, mode: u32, links: u32, len: u32, name: u32| {
        format!(
            "070701{ino:08x}{mode:08x}0000000000000000{links:08x}00000000{len:08x}{:032x}{name:08x}00000000",
            0
        )
    };
    let expected = [
        header(1, 0o040_755, 2, 0, 4).as_bytes(),
        b"dir\0\0\0",
        header(2, 0o100_644, 1, 5, 9).as_bytes(),
        b"dir/file\0\0",
        b"hello\0\0\0",
        header(3, 0o120_777, 1, 8, 5).as_bytes(),
        b"link\0\0",
        b"dir/file",
        header(0, 0, 1, 0, 11).as_bytes(),
        b"TRAILER!!!\0\0\0\0",
    ]
    .concat();
    assert_eq!(
        String::from_utf8_lossy(&bytes),
        String::from_utf8_lossy(&expected)
    );
}
