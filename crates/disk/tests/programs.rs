//! The header guard and `set_key` with the real `cryptsetup`, on files in the place of devices.
//!
//! Everything but opening a device works without the kernel's device mapper; that is tested in machines. What comes after it is tested
//! here in a namespace (root, `unshare`, `mount`) in which a file stands for the mapping.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its world is not as it should be"
)]

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use disk::luks2::{DATA_OFFSET, HEADERS_SIZE, Kind, VerifiedHeader};
use disk::{Found, NewDisk, Progress, RunFiles, StateDisk, StateDiskError, Step, probe};
use keys::DiskKey;
use serde_json::{Value, json};
use tempfile::TempDir;

const KEY: [u8; 32] = [0x11; 32];
const FIRST_BOOT_KEY: [u8; 32] = [0x22; 32];
const DEVICE_SIZE: u64 = 256 * 1024 * 1024;
const COPY_SIZE: usize = HEADERS_SIZE / 2;
/// Where the child of a test that kills it works.
const DIRECTORY: &str = "DISK_TEST_DIRECTORY";

/// Runs cryptsetup with a key on its standard input; whether it succeeded, and what it said.
fn cryptsetup(arguments: &[&str], key: &[u8]) -> (bool, String) {
    let mut child = Command::new("cryptsetup")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("cryptsetup is needed (package cryptsetup-bin)");
    child.stdin.take().unwrap().write_all(key).unwrap();
    let output = child.wait_with_output().unwrap();
    (
        output.status.success(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn format(image: &Path, kdf: &[&str], key: &[u8]) {
    File::create(image)
        .unwrap()
        .set_len(DATA_OFFSET + 1024 * 1024)
        .unwrap();
    let mut arguments = vec![
        "luksFormat",
        "--batch-mode",
        "--type=luks2",
        "--cipher=aes-xts-plain64",
    ];
    arguments.extend(["--key-size=512", "--sector-size=4096", "--key-file=-"]);
    arguments.extend(kdf);
    arguments.push(text(image));
    let (formatted, complaint) = cryptsetup(&arguments, key);
    assert!(formatted, "{complaint}");
}

const CHEAP: [&str; 2] = ["--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"];
/// As the original formats.
const ORIGINAL: [&str; 4] = [
    "--pbkdf=argon2id",
    "--pbkdf-memory=65536",
    "--pbkdf-parallel=4",
    "--pbkdf-force-iterations=4",
];

fn opens(header: &Path, key: &[u8]) -> bool {
    cryptsetup(
        &[
            "open",
            "--type=luks2",
            "--test-passphrase",
            "--key-file=-",
            text(header),
        ],
        key,
    )
    .0
}

fn read(path: &Path, at: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    File::open(path)
        .unwrap()
        .read_exact_at(&mut bytes, at)
        .unwrap();
    bytes
}

/// What cryptsetup makes is accepted, and what is written anew from it is accepted by cryptsetup.
#[test]
fn a_header_written_anew_opens_with_the_same_key() {
    let directory = TempDir::new().unwrap();
    for (name, kdf) in [
        ("pbkdf2", CHEAP.as_slice()),
        ("argon2id", ORIGINAL.as_slice()),
    ] {
        let (image, copy) = (directory.path().join(name), directory.path().join("copy"));
        format(&image, kdf, &KEY);
        let header = VerifiedHeader::parse(Kind::Volume, &read(&image, 0, HEADERS_SIZE)).unwrap();

        let file = File::create(&copy).unwrap();
        file.write_all_at(&header.encode(), 0).unwrap();
        let area = header.keyslot_area();
        let length = usize::try_from(area.end - area.start).unwrap();
        file.write_all_at(&read(&image, area.start, length), area.start)
            .unwrap();
        file.set_len(DATA_OFFSET).unwrap();

        assert!(opens(&copy, &KEY), "{name}");
        assert!(!opens(&copy, &FIRST_BOOT_KEY), "{name}");
    }
}

/// A machine after its first boot's format, with files in the place of memory and of the device.
struct FirstBoot {
    directory: PathBuf,
}

impl FirstBoot {
    fn new(directory: &Path) -> Self {
        let boot = Self {
            directory: directory.to_owned(),
        };
        fs::create_dir_all(boot.run()).unwrap();
        File::create(boot.device())
            .unwrap()
            .set_len(DEVICE_SIZE)
            .unwrap();
        fs::write(boot.run().join("first-boot.key"), FIRST_BOOT_KEY).unwrap();
        boot.make_header();
        let uuid = VerifiedHeader::parse(Kind::StateDisk, &read(&boot.header(), 0, HEADERS_SIZE))
            .unwrap()
            .uuid();
        let description = json!({ "uuid": uuid, "device": boot.device(), "firstBoot": true });
        fs::write(boot.run().join("state-disk.json"), description.to_string()).unwrap();
        boot
    }

    fn run(&self) -> PathBuf {
        self.directory.join("run")
    }

    fn header(&self) -> PathBuf {
        self.run().join("state.luks2-header")
    }

    fn device(&self) -> PathBuf {
        self.directory.join("device")
    }

    fn load(&self) -> StateDisk {
        StateDisk::load(RunFiles::new(self.run())).unwrap()
    }

    /// A header of a disk with integrity. Formatting one needs the device mapper, so the keyslot for its longer volume key is
    /// made as one of no segment, and then put in the place of the first.
    fn make_header(&self) {
        let path = self.header();
        format(&path, &CHEAP, &KEY);
        let mut arguments = vec!["luksAddKey", "--batch-mode", "--unbound", "--key-slot=1"];
        arguments.extend(["--key-size=768"].iter().chain(&CHEAP));
        let first_boot_key = self.run().join("first-boot.key");
        arguments.extend([text(&path), text(&first_boot_key)]);
        let (added, complaint) = cryptsetup(&arguments, &[]);
        assert!(added, "{complaint}");

        let mut bytes = read(&path, 0, HEADERS_SIZE);
        let area = bytes[4096..COPY_SIZE].to_vec();
        let end = area.iter().position(|byte| *byte == 0).unwrap();
        let mut metadata: Value = serde_json::from_slice(&area[..end]).unwrap();
        for part in ["keyslots", "digests"] {
            let second = metadata[part]["1"].take();
            metadata[part] = json!({ "0": second });
        }
        metadata["digests"]["0"]["keyslots"] = json!(["0"]);
        metadata["digests"]["0"]["segments"] = json!(["0"]);
        metadata["segments"]["0"]["integrity"] = json!({ "type": "hmac(sha256)", "journal_encryption": "none", "journal_integrity": "none" });
        let metadata = metadata.to_string();
        for copy in bytes.chunks_mut(COPY_SIZE) {
            copy[4096..].fill(0);
            copy[4096..4096 + metadata.len()].copy_from_slice(metadata.as_bytes());
            copy[448..512].fill(0);
            let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, copy);
            copy[448..480].copy_from_slice(sum.as_ref());
        }
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .write_all_at(&bytes, 0)
            .unwrap();
        assert!(opens(&path, &FIRST_BOOT_KEY));
    }

    fn key_is_set(&self) -> bool {
        match probe(&self.device()).unwrap() {
            Found::New(reason) => {
                assert_eq!(reason, NewDisk::NoHeader);
                false
            }
            Found::Initialized(_) => {
                assert!(
                    opens(&self.device(), &KEY),
                    "an initialised disk opens with its key"
                );
                assert!(
                    !opens(&self.device(), &FIRST_BOOT_KEY),
                    "and not with the first boot's"
                );
                true
            }
        }
    }
}

fn key() -> DiskKey {
    DiskKey::from_slice(&KEY).unwrap()
}

/// Also what the child of the next test runs, in a directory that is given to it.
#[test]
fn setting_the_key_initialises_the_disk() {
    let own = TempDir::new().unwrap();
    let given = std::env::var_os(DIRECTORY).map(PathBuf::from);
    let boot = match &given {
        Some(directory) => FirstBoot {
            directory: directory.clone(),
        },
        None => FirstBoot::new(own.path()),
    };
    let mut disk = boot.load();
    assert!(disk.is_first_boot());
    disk.set_key(&key()).unwrap();

    assert!(boot.key_is_set());
    assert!(!boot.run().join("first-boot.key").exists());
    assert!(!boot.load().is_first_boot());
    assert!(matches!(
        boot.load().set_key(&key()),
        Err(StateDiskError::HasKey(_))
    ));
}

/// The process is killed at many moments of `set_key`: the disk is new or initialised, and the same boot can try again.
#[test]
fn setting_the_key_can_be_killed_at_any_moment() {
    let directory = TempDir::new().unwrap();
    let child = |directory: &Path| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "setting_the_key_initialises_the_disk"])
            .env(DIRECTORY, directory)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let whole = FirstBoot::new(&directory.path().join("whole"));
    let start = Instant::now();
    assert!(child(&whole.directory).wait().unwrap().success());
    let duration = start.elapsed();

    const MOMENTS: u32 = 12;
    let mut cut_before = 0;
    for moment in 0..MOMENTS {
        let boot = FirstBoot::new(&directory.path().join(moment.to_string()));
        let mut child = child(&boot.directory);
        std::thread::sleep(duration * moment / MOMENTS);
        child.kill().unwrap();
        child.wait().unwrap();
        // A cryptsetup that the child has started works on the copy in memory; give it the time to end.
        std::thread::sleep(Duration::from_millis(200));
        if !boot.key_is_set() {
            cut_before += 1;
        }
        // The process that comes after it in the same boot tries again, whether the header was written or not.
        if boot.load().is_first_boot() {
            boot.load().set_key(&key()).unwrap();
        }
        assert!(boot.key_is_set());
        fs::remove_dir_all(&boot.directory).unwrap();
    }
    assert!(cut_before > 0, "no kill came before the header was written");
}

/// The machine stops as a step of the first boot begins, and the next boot finds what there was before, or a new disk. The steps after
/// these need the device mapper, which the machine of this test may not have, and write behind the place of the header.
#[test]
fn a_first_boot_that_stops_leaves_a_new_disk() {
    struct Stop;
    let directory = TempDir::new().unwrap();
    for (step, expected) in [
        (Step::Erase, NewDisk::NotInitialized),
        (Step::Key, NewDisk::NoHeader),
        (Step::Format, NewDisk::NoHeader),
    ] {
        let boot = FirstBoot::new(&directory.path().join(format!("{step:?}")));
        // as the original leaves a disk that no node has set its key on
        let device = OpenOptions::new().write(true).open(boot.device()).unwrap();
        device
            .write_all_at(&read(&boot.header(), 0, HEADERS_SIZE), 0)
            .unwrap();
        let Found::New(found) = probe(&boot.device()).unwrap() else {
            panic!("nobody has set a key");
        };
        let mut report = |progress| {
            if progress == Progress::Begin(step) {
                std::panic::resume_unwind(Box::new(Stop));
            }
        };
        let stopped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            StateDisk::format(
                &boot.device(),
                RunFiles::new(boot.run()),
                found,
                &mut report,
            )
        }));
        assert!(stopped.is_err_and(|stop| stop.is::<Stop>()), "{step:?}");
        match probe(&boot.device()).unwrap() {
            Found::New(reason) => assert_eq!(reason, expected, "{step:?}"),
            Found::Initialized(disk) => panic!("{step:?}: {disk:?}"),
        }
        fs::remove_dir_all(&boot.directory).unwrap();
    }
}

/// A machine that failed on its way into a cluster, whenever that was: no header, and none that may still come.
#[test]
fn a_reset_disk_is_new_and_gets_no_key_any_more() {
    let directory = TempDir::new().unwrap();
    for key_comes_first in [false, true] {
        let boot = FirstBoot::new(&directory.path().join(key_comes_first.to_string()));
        let mut disk = boot.load();
        if key_comes_first {
            disk.set_key(&key()).unwrap();
            assert!(boot.key_is_set());
        }
        disk.reset().unwrap();
        assert!(!boot.key_is_set());
        disk.set_key(&key()).unwrap_err();
        // a process that comes after this one in the same boot does not take it for a node's disk either
        let mut again = boot.load();
        assert!(again.is_first_boot());
        again.set_key(&key()).unwrap_err();
        assert!(!boot.key_is_set());
    }
}

/// What is opened is the copy of what was looked at, whatever the host puts in its place meanwhile.
#[test]
fn a_header_that_is_exchanged_after_the_look_is_not_opened() {
    let directory = TempDir::new().unwrap();
    let boot = FirstBoot::new(directory.path());
    boot.load().set_key(&key()).unwrap();
    let Found::Initialized(found) = probe(&boot.device()).unwrap() else {
        panic!("its key is set");
    };
    let looked_at = read(&boot.device(), 0, HEADERS_SIZE);
    let device = OpenOptions::new().write(true).open(boot.device()).unwrap();
    device.write_all_at(&vec![0xff; HEADERS_SIZE], 0).unwrap();

    let run = directory.path().join("next-boot");
    // without the device mapper cryptsetup goes no further than the header
    if let Ok(disk) = StateDisk::open(&boot.device(), RunFiles::new(&run), &found, &key()) {
        disk.close().unwrap();
    }
    let opened = run.join("state.luks2-header");
    assert_eq!(read(&opened, 0, HEADERS_SIZE), looked_at);
    assert!(opens(&opened, &KEY) && !opens(&opened, &FIRST_BOOT_KEY));
}

/// A key that is set with a wrong first-boot key changes nothing on the disk.
#[test]
fn a_wrong_first_boot_key_leaves_the_disk_as_it_is() {
    let directory = TempDir::new().unwrap();
    let boot = FirstBoot::new(directory.path());
    fs::write(boot.run().join("first-boot.key"), [0x33; 32]).unwrap();
    let error = boot.load().set_key(&key()).unwrap_err();
    assert_eq!(error.to_string(), "cannot change the state disk's key");
    assert_eq!(
        std::error::Error::source(&error).unwrap().to_string(),
        "the key does not open this disk"
    );
    assert!(!boot.key_is_set());
    assert!(
        read(&boot.device(), 0, HEADERS_SIZE)
            .iter()
            .all(|byte| *byte == 0)
    );
}

/// A host that changes the header on the disk afterwards, with right checksums, is refused.
#[test]
fn a_changed_header_of_an_initialised_disk_is_refused() {
    let directory = TempDir::new().unwrap();
    let boot = FirstBoot::new(directory.path());
    boot.load().set_key(&key()).unwrap();
    let mut bytes = read(&boot.device(), 0, HEADERS_SIZE);
    for copy in bytes.chunks_mut(COPY_SIZE) {
        let at = copy
            .windows(15)
            .position(|window| window == b"aes-xts-plain64")
            .unwrap();
        copy[at..at + 15].copy_from_slice(b"cipher_null-ecb");
        copy[448..512].fill(0);
        let sum = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, copy);
        copy[448..480].copy_from_slice(sum.as_ref());
    }
    OpenOptions::new()
        .write(true)
        .open(boot.device())
        .unwrap()
        .write_all_at(&bytes, 0)
        .unwrap();
    let error = probe(&boot.device()).unwrap_err();
    let refusal = std::error::Error::source(&error).unwrap().to_string();
    assert!(
        refusal.contains(r#"is "cipher_null-ecb", only "aes-xts-plain64" is accepted"#),
        "{refusal}"
    );
}

/// Set in the process whose cryptsetup needs no device mapper.
const OWN_MOUNTS: &str = "CONSTELLATION_TEST_OWN_MOUNTS";

/// After the key has opened the disk something fails; the next try must not find it open. Both tries are made with the real header and
/// the real key, by [`testkit::luks::without_device_mapper`].
#[test]
fn a_disk_that_fails_after_it_was_opened_can_be_opened_again() {
    if std::env::var_os(OWN_MOUNTS).is_none() {
        let directory = TempDir::new().unwrap();
        let program = testkit::luks::without_device_mapper(directory.path()).unwrap();
        let output = Command::new("unshare")
            .args([
                "--mount",
                "sh",
                "-ec",
                "mount --bind \"$1\" \"$(command -v cryptsetup)\"; shift; exec \"$@\"",
                "sh",
            ])
            .arg(program)
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_disk_that_fails_after_it_was_opened_can_be_opened_again",
                "--nocapture",
            ])
            .env(OWN_MOUNTS, "1")
            .output()
            .expect("unshare (this test needs root)");
        let said = String::from_utf8_lossy(&output.stdout);
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && said.contains("1 passed"),
            "{said}\n{complained}"
        );
        return;
    }
    let directory = TempDir::new().unwrap();
    let boot = FirstBoot::new(directory.path());
    boot.load().set_key(&key()).unwrap();
    let Found::Initialized(found) = probe(&boot.device()).unwrap() else {
        panic!("its key is set");
    };
    let run = directory.path().join("next-boot");
    let open = || StateDisk::open(&boot.device(), RunFiles::new(&run), &found, &key());
    // nothing can be written where the description is to be
    let in_the_way = run.join("state-disk.new");
    fs::create_dir_all(&in_the_way).unwrap();
    let error = open().unwrap_err();
    assert!(error.to_string().starts_with("cannot remove"), "{error}");

    fs::remove_dir(&in_the_way).unwrap();
    let disk = open().unwrap();
    // as long as it is open nobody else opens it
    let twice = open().unwrap_err();
    let reason = std::error::Error::source(&twice).unwrap().to_string();
    assert!(reason.contains("already exists"), "{reason}");
    disk.close().unwrap();
    open().unwrap().close().unwrap();
}
