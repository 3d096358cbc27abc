//! Bundles: the same bytes each time, and nothing in them that is not checked.

use std::io::Read;

use collateral::{Bundle, BundleError, TarError};

use crate::lab::{NOW, entries, time};

const BLOCK: usize = 512;

fn bundle() -> Vec<u8> {
    Bundle::new(time(NOW), entries())
        .unwrap()
        .to_bytes()
        .unwrap()
}

fn error(bytes: &[u8]) -> BundleError {
    Bundle::parse(bytes).unwrap_err()
}

#[test]
fn a_round_trip_gives_the_same_bytes_in_whatever_order_entries_come() {
    let bytes = bundle();
    let read = Bundle::parse(&bytes).unwrap();
    assert_eq!(read.made_at(), time(NOW));
    assert_eq!(read.to_bytes().unwrap(), bytes);
    let mut reversed = entries();
    reversed.reverse();
    let again = Bundle::new(time(NOW), reversed).unwrap();
    assert_eq!(again.to_bytes().unwrap(), bytes);
    assert_eq!(again.entries(), read.entries());
    let empty = Bundle::new(time(NOW), []).unwrap().to_bytes().unwrap();
    assert_eq!(Bundle::parse(&empty).unwrap().entries(), []);
}

#[test]
fn any_tar_reads_it_and_finds_the_files_as_published() {
    let bytes = bundle();
    let mut archive = tar::Archive::new(bytes.as_slice());
    let mut names = Vec::new();
    for file in archive.entries().unwrap() {
        let mut file = file.unwrap();
        assert_eq!(file.header().mtime().unwrap(), 0);
        assert_eq!(file.header().mode().unwrap(), 0o644);
        let name = file.path().unwrap().to_str().unwrap().to_owned();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        if name == "intel-root-crl.crl" {
            assert_eq!(content, crate::lab::of_set("root_ca_crl.der"));
        }
        names.push(name);
    }
    let (manifest, files) = names.split_first().unwrap();
    assert_eq!(manifest, "manifest.json");
    assert_eq!(files.len(), 8 + 3);
}

#[test]
fn an_item_twice_makes_no_bundle() {
    let twice = entries().into_iter().chain(entries());
    assert!(matches!(
        Bundle::new(time(NOW), twice),
        Err(BundleError::Order(_))
    ));
}

#[test]
fn no_cut_and_no_changed_byte_passes() {
    // two small ones, so that every byte has its turn
    let small = entries()
        .into_iter()
        .take(3)
        .filter(|entry| entry.size() < 2000);
    let bundle = Bundle::new(time(NOW), small).unwrap();
    assert_eq!(bundle.entries().len(), 2);
    let bytes = bundle.to_bytes().unwrap();
    for length in (0..bytes.len()).step_by(31).chain([bytes.len() - 1]) {
        error(&bytes[..length]);
    }
    // outside of the manifest's two times, which nothing else repeats
    let times: Vec<usize> = bytes
        .windows(NOW.len())
        .enumerate()
        .filter(|(_, window)| *window == NOW.as_bytes())
        .map(|(at, _)| at)
        .collect();
    for at in 0..bytes.len() {
        if times
            .iter()
            .any(|begin| (*begin..begin + NOW.len()).contains(&at))
        {
            continue;
        }
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        // a blank between the manifest's words may be another kind of blank
        if let Ok(read) = Bundle::parse(&changed) {
            assert_eq!(read.entries(), Bundle::parse(&bytes).unwrap().entries());
            assert!(bytes[at].is_ascii_whitespace(), "at {at}");
        }
    }
}

/// An archive of any entries, made with another program's library.
fn archive(files: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        let field = &mut header.as_mut_bytes()[..name.len()];
        field.copy_from_slice(name.as_bytes());
        if kind.is_symlink() || kind.is_hard_link() {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn links_directories_devices_and_paths_are_refused() {
    use tar::EntryType;
    let manifest = br#"{"version":1,"madeAt":"2026-06-15T00:00:00Z","items":[]}"#;
    for kind in [
        EntryType::Symlink,
        EntryType::Link,
        EntryType::Directory,
        EntryType::Char,
        EntryType::Block,
        EntryType::Fifo,
        EntryType::XHeader,
        EntryType::XGlobalHeader,
        EntryType::GNULongName,
        EntryType::GNUSparse,
    ] {
        let bytes = archive(&[("manifest.json", kind, b"")]);
        let refused = error(&bytes);
        assert!(
            matches!(refused, BundleError::Archive(TarError::NotAFile { .. })),
            "{kind:?}: {refused:?}"
        );
    }
    for name in [
        "../manifest.json",
        "/manifest.json",
        "a/b",
        ".hidden",
        "Manifest.json",
        "a b",
        "",
    ] {
        let bytes = archive(&[(name, EntryType::Regular, manifest)]);
        let refused = error(&bytes);
        assert!(
            matches!(refused, BundleError::Archive(TarError::Name(_))),
            "{name:?}: {refused:?}"
        );
    }
    // the archive without an attack differs from ours in nothing that is refused, but its header's spelling
    let bytes = archive(&[("manifest.json", EntryType::Regular, manifest)]);
    assert!(matches!(
        Bundle::parse(&bytes),
        Ok(_) | Err(BundleError::Archive(TarError::Header(_)))
    ));
}

/// Puts another manifest before the files of a bundle.
fn with_manifest(change: impl Fn(String) -> String) -> Vec<u8> {
    let bytes = bundle();
    let size = std::str::from_utf8(&bytes[124..135]).unwrap();
    let size = usize::from_str_radix(size, 8).unwrap();
    let text = String::from_utf8(bytes[BLOCK..BLOCK + size].to_vec()).unwrap();
    let text = change(text);
    let rest = &bytes[BLOCK + size.next_multiple_of(BLOCK)..];
    let mut header: [u8; BLOCK] = bytes[..BLOCK].try_into().unwrap();
    header[124..135].copy_from_slice(format!("{:011o}", text.len()).as_bytes());
    header[148..156].copy_from_slice(b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut out = header.to_vec();
    out.extend_from_slice(text.as_bytes());
    out.resize(out.len().next_multiple_of(BLOCK), 0);
    out.extend_from_slice(rest);
    out
}

#[test]
fn a_manifest_that_lies_is_refused_for_its_lie() {
    assert!(Bundle::parse(&with_manifest(|text| text)).is_ok());
    type Change = fn(String) -> String;
    type Expected = fn(&BundleError) -> bool;
    let cases: [(&str, Change, Expected); 9] = [
        (
            "version",
            |text| text.replacen("\"version\": 1", "\"version\": 2", 1),
            |error| matches!(error, BundleError::Version(2)),
        ),
        (
            "unknown field",
            |text| text.replacen("\"version\": 1", "\"version\": 1, \"more\": 1", 1),
            |error| matches!(error, BundleError::Manifest(_)),
        ),
        (
            "spelling",
            |text| text.replacen("90c06f", "90C06F", 1),
            |error| matches!(error, BundleError::Manifest(_)),
        ),
        (
            "unknown item",
            |text| text.replacen("\"intel-root-crl\"", "\"intel-leaf-crl\"", 1),
            |error| matches!(error, BundleError::Manifest(_)),
        ),
        (
            "item of another name",
            |text| text.replacen("\"amd-crl/milan/vcek\"", "\"amd-crl/milan/vlek\"", 1),
            |error| matches!(error, BundleError::Files(_)),
        ),
        (
            "a path as a file's name",
            |text| text.replacen("\"amd-crl-milan-vcek.crl\"", "\"../../etc/passwd\"", 1),
            |error| matches!(error, BundleError::Files(_)),
        ),
        (
            "an item twice",
            |text| text.replacen("\"intel-root-crl\"", "\"amd-crl/milan/vcek\"", 1),
            |error| matches!(error, BundleError::Order(_)),
        ),
        (
            "a length",
            |text| text.replacen("\"size\": ", "\"size\": 1", 1),
            |error| matches!(error, BundleError::Length(_)),
        ),
        (
            "a hash",
            |text| {
                let at = text.find("\"sha256\": \"").unwrap() + 11;
                let digit = if &text[at..=at] == "0" { "1" } else { "0" };
                format!("{}{digit}{}", &text[..at], &text[at + 1..])
            },
            |error| matches!(error, BundleError::Hash(_)),
        ),
    ];
    for (what, change, expected) in cases {
        let refused = error(&with_manifest(change));
        assert!(expected(&refused), "{what}: {refused:?}");
    }
}

#[test]
fn files_that_are_surplus_missing_or_exchanged_are_refused() {
    let all = entries();
    let one = Bundle::new(time(NOW), [all[6].clone()])
        .unwrap()
        .to_bytes()
        .unwrap();
    // the end, and the file before it
    let end = one.len() - 2 * BLOCK;
    let body = all[6].body().len().next_multiple_of(BLOCK) + BLOCK;
    let missing = [&one[..end - body], &one[end..]].concat();
    assert!(matches!(error(&missing), BundleError::Missing(_)));
    let surplus = [&one[..end], &one[end - body..]].concat();
    assert!(matches!(error(&surplus), BundleError::Surplus(_)));
    let behind = [&one[..], &[0; BLOCK]].concat();
    assert!(matches!(
        error(&behind),
        BundleError::Archive(TarError::Trailing)
    ));
    let other = Bundle::new(time(NOW), [all[2].clone()])
        .unwrap()
        .to_bytes()
        .unwrap();
    let other_body = all[2].body().len().next_multiple_of(BLOCK) + BLOCK;
    let other_end = other.len() - 2 * BLOCK;
    let exchanged = [
        &one[..end - body],
        &other[other_end - other_body..other_end],
        &one[end..],
    ]
    .concat();
    assert!(matches!(error(&exchanged), BundleError::Unexpected { .. }));
}

#[test]
fn the_fuzzers_seeds_are_bundles() {
    for (name, count) in [("bundle", 3), ("empty", 0)] {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../fuzz/seeds/collateral_bundle"
        );
        let bytes = std::fs::read(std::path::Path::new(path).join(name)).unwrap();
        assert_eq!(Bundle::parse(&bytes).unwrap().entries().len(), count);
    }
}
