//! configfs-tsm, with a thread in the place of the kernel, over reports of real machines.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use attest::certificate_table::{CertificateTable, Entry};
use tee::tsm::{Provider, Tsm, TsmError, TsmReport};
use tempfile::TempDir;

fn sample(path: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../attest/testdata/evidence")
        .join(path);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the kernel of a test does with a request.
#[derive(Clone)]
pub(crate) struct Kernel {
    pub(crate) provider: &'static str,
    pub(crate) report: Vec<u8>,
    pub(crate) auxiliary: Option<Vec<u8>>,
    /// Writes of others during the request.
    pub(crate) others: u64,
}

impl Kernel {
    /// Serves one request, and returns what was written to `inblob`.
    fn serve(self, reports: PathBuf) -> JoinHandle<Vec<u8>> {
        let report = self.report.clone();
        self.serve_made(reports, move |_| report)
    }

    /// The same, with a report that is made over what was written.
    pub(crate) fn serve_made(
        self,
        reports: PathBuf,
        make: impl FnOnce(&[u8]) -> Vec<u8> + Send + 'static,
    ) -> JoinHandle<Vec<u8>> {
        std::thread::spawn(move || {
            let request = wait_for_entry(&reports);
            let file = |name: &str| request.join(name);
            // pipes, so that a reader waits as it waits for the kernel
            for name in ["inblob", "outblob"] {
                let made = Command::new("mkfifo").arg(file(name)).status().unwrap();
                assert!(made.success());
            }
            if let Some(auxiliary) = &self.auxiliary {
                fs::write(file("auxblob"), auxiliary).unwrap();
            }
            put(&request, "generation", "7\n");
            // last, because it is read first
            put(&request, "provider", &format!("{}\n", self.provider));
            let mut data = Vec::new();
            File::open(file("inblob"))
                .unwrap()
                .read_to_end(&mut data)
                .unwrap();
            put(&request, "generation", &format!("{}\n", 8 + self.others));
            // who is refused does not read to the end
            drop(
                File::options()
                    .write(true)
                    .open(file("outblob"))
                    .unwrap()
                    .write_all(&make(&data)),
            );
            data
        })
    }
}

/// Whole or not at all, as in the kernel.
fn put(request: &Path, name: &str, text: &str) {
    let new = request.join(".new");
    fs::write(&new, text).unwrap();
    fs::rename(new, request.join(name)).unwrap();
}

fn wait_for_entry(reports: &Path) -> PathBuf {
    let started = Instant::now();
    loop {
        if let Some(entry) = fs::read_dir(reports).unwrap().next() {
            return entry.unwrap().path();
        }
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "no request came"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn configfs() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let reports = directory.path().join("tsm/report");
    fs::create_dir_all(&reports).unwrap();
    (directory, reports)
}

fn asked(kernel: Kernel) -> (Result<TsmReport, TsmError>, Vec<u8>) {
    let (directory, reports) = configfs();
    let served = kernel.serve(reports);
    let report = Tsm::new(directory.path()).report(&[9; 64]);
    (report, served.join().unwrap())
}

fn table(vlek: &[u8]) -> Vec<u8> {
    let mut table = vec![
        0xc2, 0x4b, 0x07, 0xa8, 0x5a, 0xa2, 0x3e, 0x48, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8,
        0xa1,
    ];
    table.extend(48_u32.to_le_bytes());
    table.extend(u32::try_from(vlek.len()).unwrap().to_le_bytes());
    table.extend([0; 24]);
    table.extend_from_slice(vlek);
    table
}

fn snp() -> Kernel {
    Kernel {
        provider: "sev_guest",
        report: sample("snp-vlek/trustee/aws-us-east-2-v3/report.bin"),
        auxiliary: Some(table(&sample("snp-vlek/trustee/aws-us-east-2-v3/vek.der"))),
        others: 0,
    }
}

#[test]
fn an_snp_report_comes_with_the_hosts_certificates() {
    let (report, data) = asked(snp());
    let report = report.unwrap();
    assert_eq!(data, [9; 64]);
    assert_eq!(report.provider, Provider::SevGuest);
    assert_eq!(report.report, snp().report);
    let table = report.auxiliary.unwrap();
    let table = CertificateTable::parse(&table).unwrap();
    assert_eq!(
        table.get(Entry::Vlek),
        Some(sample("snp-vlek/trustee/aws-us-east-2-v3/vek.der").as_slice())
    );
}

#[test]
fn a_td_quote_comes_alone() {
    let quote = sample("azure-tdx-vtpm/trustee/tdx/quote.bin");
    let (report, _) = asked(Kernel {
        provider: "tdx_guest",
        report: quote.clone(),
        auxiliary: None,
        others: 0,
    });
    assert_eq!(
        report.unwrap(),
        TsmReport {
            provider: Provider::TdxGuest,
            report: quote,
            auxiliary: None
        }
    );
}

#[test]
fn a_host_without_certificates_has_an_empty_table() {
    let (report, _) = asked(Kernel {
        auxiliary: Some(Vec::new()),
        ..snp()
    });
    assert_eq!(report.unwrap().auxiliary, None);
}

#[test]
fn a_provider_that_is_not_known_is_named() {
    let (report, _) = asked(Kernel {
        provider: "arm-cca-guest",
        ..snp()
    });
    assert_eq!(
        report.unwrap().provider,
        Provider::Other("arm-cca-guest".into())
    );
}

#[test]
fn a_report_that_may_be_over_other_data_is_refused() {
    let (report, _) = asked(Kernel { others: 1, ..snp() });
    assert!(matches!(
        report,
        Err(TsmError::Raced {
            expected: 8,
            found: 9
        })
    ));
}

#[test]
fn an_empty_report_and_one_beyond_its_bound_are_refused() {
    let (report, _) = asked(Kernel {
        report: Vec::new(),
        ..snp()
    });
    assert!(matches!(report, Err(TsmError::Empty { .. })));
    let (report, _) = asked(Kernel {
        report: vec![0; 64 * 1024 + 1],
        ..snp()
    });
    assert!(matches!(report, Err(TsmError::TooLong { .. })));
}

#[test]
fn a_machine_without_the_interface_says_what_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let tsm = Tsm::new(directory.path());
    assert!(!tsm.is_there());
    let refused = tsm.report(&[9; 64]).unwrap_err().to_string();
    assert!(
        refused.contains("its kernel is older than 6.7"),
        "{refused}"
    );
}

#[test]
fn an_entry_without_files_is_told_and_removed() {
    let (directory, reports) = configfs();
    let refused = Tsm::new(directory.path()).report(&[9; 64]).unwrap_err();
    assert!(matches!(refused, TsmError::File { .. }), "{refused}");
    assert_eq!(fs::read_dir(reports).unwrap().count(), 0);
}
