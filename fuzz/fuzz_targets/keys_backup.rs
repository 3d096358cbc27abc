//! A backup's file: the bytes as they are, as parts behind a right header, and as the content of parts that are right.
#![cfg_attr(fuzzing, no_main)]

use k8s::backup::Content;
use keys::backup::{Header, Opener, PART, Sealer};
use keys::{BackupKey, ClusterId};

fuzz::fuzz_target!(|bytes: &[u8]| {
    open(bytes);
    let (mut sealer, head) = Sealer::begin(&key(), &header()).expect("a right header");
    let mut file = [&head, bytes].concat();
    open(&file);
    file.truncate(head.len());
    let (before, last) = bytes.split_at(bytes.len() / 2);
    for content in before.chunks(PART) {
        file.extend(sealer.part(content).expect("few parts"));
    }
    file.extend(sealer.last(&last[..last.len().min(PART)]));
    assert_eq!(
        open(&file).as_ref(),
        Some(&header()),
        "what is sealed opens"
    );
});

fn key() -> BackupKey {
    BackupKey::from_slice(&[7; 32]).expect("32 bytes")
}

fn header() -> Header {
    Header {
        cluster_id: ClusterId::from_slice(&[1; 32]).expect("32 bytes"),
        begun: 0,
        revision: 1,
        etcd_version: "3.5.16".to_owned(),
    }
}

/// The header of a file that is whole, whatever is in it.
fn open(file: &[u8]) -> Option<Header> {
    let (mut opener, mut content) = (Opener::new(key()), Some(Content::new()));
    for piece in file.chunks(1000) {
        let mut parts = Vec::new();
        opener.push(piece, |part| parts.push(part)).ok()?;
        for part in parts {
            if content
                .as_mut()
                .is_some_and(|content| content.push(&part).is_err())
            {
                content = None;
            }
        }
    }
    let header = opener.finish().ok()?;
    if let Some(content) = content {
        // anything but a panic
        drop(content.finish());
    }
    Some(header)
}
