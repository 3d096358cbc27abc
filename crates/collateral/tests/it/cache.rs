//! The directory: whole files or none, whoever is killed; other people's directories; bounds; damage.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use collateral::{Bounds, Cache, CacheError, Entry, Listed, Note, Written};

use crate::lab::{
    DEMAND, Lab, MILAN_CRL, NOW, QE_IDENTITY, QE_IDENTITY_TARGET, entries, evidence, of_set, time,
};

fn entry_at(at: &str) -> Entry {
    let crl = evidence("roots/amd-crl/crl-milan-2022-05-09.der");
    Entry::new(MILAN_CRL, time(at), &crl, None).unwrap()
}

#[test]
fn every_entry_is_read_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(&directory.path().join("a/b"), Bounds::default()).unwrap();
    let mut expected = entries();
    for entry in &expected {
        assert_eq!(cache.write(entry, time(NOW)).unwrap(), Written::New);
        assert_eq!(cache.read(entry.item()).unwrap().as_ref(), Some(entry));
    }
    let mut listed: Vec<Entry> = cache
        .list()
        .unwrap()
        .into_iter()
        .map(|listed| match listed {
            Listed::Entry(entry) => *entry,
            other => panic!("{other:?}"),
        })
        .collect();
    let key = |entry: &Entry| entry.item().to_string();
    listed.sort_by_key(key);
    expected.sort_by_key(key);
    assert_eq!(listed, expected);
}

#[test]
fn the_latest_fetch_stays_and_the_future_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::open(&directory.path().join("c"), Bounds::default()).unwrap();
    let now = time("2026-06-15T00:00:00Z");
    for (at, expected) in [
        ("2026-06-10T00:00:00Z", Written::New),
        ("2026-06-09T00:00:00Z", Written::Kept),
        ("2026-06-10T00:00:00Z", Written::Kept),
        ("2026-06-11T00:00:00Z", Written::Replaced),
    ] {
        assert_eq!(cache.write(&entry_at(at), now).unwrap(), expected, "{at}");
    }
    let error = cache.write(&entry_at("2026-06-16T00:00:00Z"), now);
    assert!(matches!(error, Err(CacheError::FromTheFuture { .. })));
    let there = cache.read(&MILAN_CRL).unwrap().unwrap();
    assert_eq!(there.fetched_at(), time("2026-06-11T00:00:00Z"));
}

#[test]
fn a_directory_that_others_may_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c");
    Cache::open(&path, Bounds::default()).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);
    for mode in [0o755, 0o770, 0o777, 0o701] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = Cache::open(&path, Bounds::default()).unwrap_err();
        assert!(matches!(error, CacheError::Permissions { .. }), "{error:?}");
    }
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(Cache::open(&file, Bounds::default()).is_err());
}

#[test]
fn what_is_beyond_the_bounds_goes_oldest_first() {
    let directory = tempfile::tempdir().unwrap();
    let bounds = Bounds {
        entries: 3,
        ..Bounds::default()
    };
    let cache = Cache::open(&directory.path().join("c"), bounds).unwrap();
    let entries = entries();
    for entry in &entries {
        cache.write(entry, time(NOW)).unwrap();
        std::thread::sleep(Duration::from_millis(20));
    }
    let left: Vec<_> = entries
        .iter()
        .filter(|entry| cache.read(entry.item()).unwrap().is_some())
        .collect();
    assert_eq!(
        left,
        entries[entries.len() - 3..].iter().collect::<Vec<_>>()
    );
    // an entry that alone is too much is there all the same
    let bounds = Bounds {
        entries: 1,
        bytes: 1,
    };
    let cache = Cache::open(&directory.path().join("d"), bounds).unwrap();
    cache.write(&entries[0], time(NOW)).unwrap();
    assert!(cache.read(entries[0].item()).unwrap().is_some());
}

/// A directory where an operator keeps archives of their own, and more than the cache may hold.
#[test]
fn files_of_others_are_neither_counted_nor_removed_nor_listed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c");
    let bounds = Bounds {
        entries: 2,
        bytes: 64 << 10,
    };
    let cache = Cache::open(&path, bounds).unwrap();
    let others = [
        "backup.tar",
        "amd-crl-milan-vcek.tar",
        "notes.collateral",
        "amd-crl-milan-vcek-2.collateral",
        "crl-0123.collateral",
        ".unfinished-letter",
        ".collateral-unfinished-letter",
    ];
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(48 * 3600);
    for name in others {
        let file = std::fs::File::create(path.join(name)).unwrap();
        file.set_len(1 << 20).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    for name in [
        ".collateral-unfinished-1-0-2",
        "amd-crl-genoa-vcek.collateral",
    ] {
        let file = std::fs::File::create(path.join(name)).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    let cache_again = Cache::open(&path, bounds).unwrap();
    let all = entries();
    // small ones; with the empty file of Genoa's name they are one too many
    for entry in &all[6..8] {
        cache.write(entry, time(NOW)).unwrap();
    }
    let mut names: Vec<_> = std::fs::read_dir(&path)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| !others.contains(&name.as_str()))
        .collect();
    names.sort();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0].starts_with("crl-"), "{names:?}");
    assert_eq!(names[1], "intel-root-crl.collateral");
    for name in others {
        assert!(path.join(name).exists(), "{name}");
    }
    let listed = cache_again.list().unwrap();
    assert!(
        matches!(listed.as_slice(), [Listed::Entry(_), Listed::Entry(_)]),
        "{listed:?}"
    );
}

#[test]
fn a_link_is_no_directory_to_use() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().join("real");
    Cache::open(&real, Bounds::default()).unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    for path in [link.clone(), link.join(""), link.join(".")] {
        let error = Cache::open(&path, Bounds::default()).unwrap_err();
        assert!(matches!(error, CacheError::NotADirectory(_)), "{error:?}");
    }
    Cache::open(&real.join(""), Bounds::default()).unwrap();
}

#[tokio::test]
async fn a_damaged_file_is_told_and_fetched_anew() {
    let lab = Lab::new().await;
    let collateral = lab.collateral();
    collateral.get(&QE_IDENTITY, DEMAND).await.unwrap();
    let path = lab
        .cache_path()
        .join("intel-td-qe-identity-standard.collateral");
    let whole = std::fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    let link = lab.directory.path().join("elsewhere");
    std::fs::write(&link, &whole).unwrap();
    for (what, damage) in [
        ("flipped", Some(flipped)),
        ("cut", Some(whole[..whole.len() - 600].to_vec())),
        ("empty", Some(Vec::new())),
        ("huge", Some(vec![0; 4 << 20])),
        ("link", None),
    ] {
        match damage {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => {
                std::fs::remove_file(&path).unwrap();
                std::os::unix::fs::symlink(&link, &path).unwrap();
            }
        }
        assert!(
            matches!(lab.cache().list().unwrap().as_slice(), [Listed::Damaged(_)]),
            "{what}"
        );
        let before = lab.vendors.count(QE_IDENTITY_TARGET);
        let answer = collateral.get(&QE_IDENTITY, DEMAND).await.unwrap();
        assert!(
            matches!(answer.notes.as_slice(), [Note::Unreadable(_)]),
            "{what}: {answer:?}"
        );
        assert_eq!(lab.vendors.count(QE_IDENTITY_TARGET), before + 1);
        assert_eq!(answer.entry.body(), of_set("qe_identity.json"));
        let again = collateral.get(&QE_IDENTITY, DEMAND).await.unwrap();
        assert!(!again.is_new && again.notes.is_empty(), "{what}: {again:?}");
    }
}

#[test]
fn a_file_under_anothers_name_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c");
    let cache = Cache::open(&path, Bounds::default()).unwrap();
    cache.write(&entry_at(NOW), time(NOW)).unwrap();
    std::fs::rename(
        path.join("amd-crl-milan-vcek.collateral"),
        path.join("amd-crl-genoa-vcek.collateral"),
    )
    .unwrap();
    let genoa = "amd-crl/genoa/vcek".parse().unwrap();
    assert!(matches!(
        cache.read(&genoa),
        Err(CacheError::Exchanged { .. })
    ));
}

const VICTIM: &str = "COLLATERAL_TEST_VICTIM";

/// Killed again and again in the middle of whatever it does, a writer leaves whole entries only.
#[test]
fn a_writer_that_is_killed_leaves_whole_entries() {
    if let Some(directory) = std::env::var_os(VICTIM) {
        let cache = Cache::open(directory.as_ref(), Bounds::default()).unwrap();
        let crl = evidence("roots/amd-crl/crl-milan-2022-05-09.der");
        // from where the one before was killed, so that every round writes
        let mut at = match cache.read(&MILAN_CRL).unwrap() {
            Some(there) => there.fetched_at(),
            None => time(NOW),
        };
        loop {
            at += jiff::SignedDuration::from_secs(1);
            let entry = Entry::new(MILAN_CRL, at, &crl, None).unwrap();
            assert_ne!(cache.write(&entry, at).unwrap(), Written::Kept);
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c");
    let cache = Cache::open(&path, Bounds::default()).unwrap();
    let mut seen = time(NOW);
    for round in 0..12 {
        let mut victim = Command::new(std::env::current_exe().unwrap())
            .args([
                "cache::a_writer_that_is_killed_leaves_whole_entries",
                "--exact",
            ])
            .env(VICTIM, &path)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // until it writes
        let begun = Instant::now();
        while cache.read(&MILAN_CRL).unwrap().is_none() && begun.elapsed() < Duration::from_secs(60)
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        // reads beside a writer see whole entries as well
        for _ in 0..50 {
            cache.read(&MILAN_CRL).unwrap().unwrap();
        }
        std::thread::sleep(Duration::from_millis(3 + 7 * round));
        victim.kill().unwrap();
        victim.wait().unwrap();
        let left = cache.read(&MILAN_CRL).unwrap().unwrap().fetched_at();
        assert!(left >= seen);
        seen = left;
        let others = cache.list().unwrap();
        assert!(
            others.iter().all(|one| matches!(one, Listed::Entry(_))),
            "{others:?}"
        );
    }
    assert!(seen > time(NOW));
}
