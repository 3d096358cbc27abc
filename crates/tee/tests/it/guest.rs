//! The guest devices of older kernels: recorded exchanges in the place of the drivers, a unix socket in the place of the host's service,
//! over reports of real machines.

use std::collections::VecDeque;
use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use attest::certificate_table::{CertificateTable, Entry};
use tee::TpmAddress;
use tee::detect::{Places, Source, State, detect};
use tee::devices::{
    CallFailure, DeviceFiles, GuestDevice, GuestDevices, REPORT_DATA, SNP_RESPONSE, TD_REPORT,
};
use tee::hardware::{self, HardwareError};
use tee::metadata::Metadata;
use tee::quote_service::{QuoteService, QuoteServiceError};
use tee::sev_guest::{SevGuest, SevGuestError};
use tee::tdx_guest::{self, TdxGuestError};
use tee::tsm::{Provider, TsmReport};
use testkit::guest::{ASK, QuoteAnswer, QuoteServer, VLEK, certificate_table, snp_response};

const EIO: i32 = 5;
const EINTR: i32 = 4;
const EAGAIN: i32 = 11;
const EACCES: i32 = 13;
const ENOENT: i32 = 2;
const EINVAL: i32 = 22;
const ENOTTY: i32 = 25;
const ETIMEDOUT: i32 = 110;
const VMM: u64 = 1 << 32;
const TOO_SHORT: u64 = VMM;
const BUSY: u64 = 2 * VMM;
const DATA: [u8; REPORT_DATA] = [9; REPORT_DATA];

fn sample(path: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../attest/testdata/evidence")
        .join(path);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn report() -> Vec<u8> {
    sample("snp-vlek/trustee/aws-us-east-2-v3/report.bin")
}

fn vlek() -> Vec<u8> {
    sample("snp-vlek/trustee/aws-us-east-2-v3/vek.der")
}

/// What a driver was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Report,
    Extended { buffer: usize },
    TdReport,
}

/// What a driver answers.
#[derive(Clone, Debug)]
enum Answer {
    /// The response, and what is written to the buffer for certificates.
    Snp(Box<[u8; SNP_RESPONSE]>, Vec<u8>),
    Td(Box<[u8; TD_REPORT]>),
    /// `errno`, `exitinfo2`, `certs_len`.
    Failed(i32, u64, u32),
    /// The device cannot be opened, by `errno`.
    NotOpened(i32),
}

fn snp(table: &[u8]) -> Answer {
    Answer::Snp(Box::new(snp_response(0, &report())), table.to_vec())
}

const fn failed(errno: i32, exit_info2: u64) -> Answer {
    Answer::Failed(errno, exit_info2, 0)
}

/// Devices that answer from a list, and note what they were asked.
struct Recorded {
    there: Option<GuestDevice>,
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<Asked>>,
}

impl fmt::Debug for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Recorded")
    }
}

impl Recorded {
    fn new(device: GuestDevice, answers: impl IntoIterator<Item = Answer>) -> Self {
        Self {
            there: Some(device),
            answers: Mutex::new(answers.into_iter().collect()),
            asked: Mutex::default(),
        }
    }

    fn sev(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::new(GuestDevice::Sev, answers)
    }

    fn tdx(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::new(GuestDevice::Tdx, answers)
    }

    fn none() -> Self {
        Self {
            there: None,
            answers: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    fn next(&self, asked: Asked) -> Result<Answer, CallFailure> {
        self.asked.lock().unwrap().push(asked);
        let answer = self.answers.lock().unwrap().pop_front();
        match answer.unwrap_or_else(|| panic!("{asked:?} was not expected")) {
            Answer::Failed(errno, exit_info2, certificates_length) => Err(CallFailure::Call {
                error: io::Error::from_raw_os_error(errno),
                exit_info2,
                certificates_length,
            }),
            Answer::NotOpened(errno) => Err(CallFailure::Open(io::Error::from_raw_os_error(errno))),
            answer => Ok(answer),
        }
    }

    /// All that was asked; nothing recorded is left.
    fn asked(&self) -> Vec<Asked> {
        assert_eq!(self.answers.lock().unwrap().len(), 0, "not asked for");
        self.asked.lock().unwrap().clone()
    }
}

impl GuestDevices for Recorded {
    fn is_there(&self, device: GuestDevice) -> bool {
        self.there == Some(device)
    }

    fn can_be_opened(&self, device: GuestDevice) -> Result<(), CallFailure> {
        if self.is_there(device) {
            Ok(())
        } else {
            Err(CallFailure::Open(io::ErrorKind::NotFound.into()))
        }
    }

    fn snp_report(
        &self,
        data: &[u8; REPORT_DATA],
        vmpl: u32,
    ) -> Result<[u8; SNP_RESPONSE], CallFailure> {
        assert!(vmpl == 0 && (*data == DATA || *data == [0; REPORT_DATA]));
        match self.next(Asked::Report)? {
            Answer::Snp(response, _) => Ok(*response),
            other => panic!("{other:?} is not this device's"),
        }
    }

    fn snp_extended_report(
        &self,
        data: &[u8; REPORT_DATA],
        vmpl: u32,
        certificates: &mut [u8],
    ) -> Result<[u8; SNP_RESPONSE], CallFailure> {
        assert!(vmpl == 0 && (*data == DATA || *data == [0; REPORT_DATA]));
        let buffer = certificates.len();
        match self.next(Asked::Extended { buffer })? {
            Answer::Snp(response, table) => {
                certificates[..table.len()].copy_from_slice(&table);
                Ok(*response)
            }
            other => panic!("{other:?} is not this device's"),
        }
    }

    fn td_report(&self, data: &[u8; REPORT_DATA]) -> Result<[u8; TD_REPORT], CallFailure> {
        match self.next(Asked::TdReport)? {
            Answer::Td(report) if *data == DATA || *data == [0; REPORT_DATA] => Ok(*report),
            other => panic!("{other:?} is not this device's"),
        }
    }
}

fn asked(devices: &Recorded) -> Result<TsmReport, SevGuestError> {
    SevGuest::new(devices)
        .with_pause(Duration::from_millis(1))
        .report(&DATA)
}

const FIRST: Asked = Asked::Extended { buffer: 16384 };

// ---- sev-guest

#[test]
fn an_snp_report_comes_with_the_hosts_certificates() {
    let table = certificate_table(&[(VLEK, &vlek()), (ASK, &[7; 900])]);
    let devices = Recorded::sev([snp(&table)]);
    assert_eq!(
        asked(&devices).unwrap(),
        TsmReport {
            provider: Provider::SevGuest,
            report: report(),
            // without what the buffer holds behind it
            auxiliary: Some(table.clone()),
        }
    );
    let parsed = CertificateTable::parse(&table).unwrap();
    assert_eq!(parsed.get(Entry::Vlek), Some(vlek().as_slice()));
    assert_eq!(devices.asked(), [FIRST]);
}

#[test]
fn a_host_without_certificates_has_no_table() {
    let devices = Recorded::sev([snp(&[])]);
    assert_eq!(asked(&devices).unwrap().auxiliary, None);
    // as it stands: an end, and nothing before it
    let devices = Recorded::sev([snp(&certificate_table(&[]))]);
    assert_eq!(asked(&devices).unwrap().auxiliary, None);
}

#[test]
fn a_table_that_points_elsewhere_is_handed_on_within_its_bounds() {
    let mut table = certificate_table(&[(VLEK, &vlek())]);
    table[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
    let devices = Recorded::sev([snp(&table)]);
    let auxiliary = asked(&devices).unwrap().auxiliary.unwrap();
    assert_eq!(auxiliary.len(), 16384);
    assert!(CertificateTable::parse(&auxiliary).is_err());
}

#[test]
fn a_longer_table_is_asked_for_again() {
    let table = certificate_table(&[(VLEK, &vec![5; 20_000])]);
    let devices = Recorded::sev([Answer::Failed(EIO, TOO_SHORT, 20480), snp(&table)]);
    assert_eq!(asked(&devices).unwrap().auxiliary, Some(table));
    assert_eq!(devices.asked(), [FIRST, Asked::Extended { buffer: 20480 }]);
}

#[test]
fn without_room_for_the_table_there_is_a_report_alone() {
    // longer than this driver takes
    let devices = Recorded::sev([
        Answer::Failed(EIO, TOO_SHORT, 20480),
        failed(EINVAL, 0xff),
        snp(&[]),
    ]);
    let made = asked(&devices).unwrap();
    assert_eq!((made.report, made.auxiliary), (report(), None));
    assert_eq!(
        devices.asked(),
        [FIRST, Asked::Extended { buffer: 20480 }, Asked::Report]
    );
    // or than anybody's, or as long as what was too short, or in no whole pages
    for needed in [u32::MAX, 0, 16384, 20481, 64 * 1024 + 4096] {
        let devices = Recorded::sev([Answer::Failed(EIO, TOO_SHORT, needed), snp(&[])]);
        assert_eq!(asked(&devices).unwrap().report, report());
        assert_eq!(devices.asked(), [FIRST, Asked::Report], "{needed}");
    }
    // the longer one is too short as well: not for ever
    let devices = Recorded::sev([
        Answer::Failed(EIO, TOO_SHORT, 20480),
        Answer::Failed(EIO, TOO_SHORT, 24576),
        snp(&[]),
    ]);
    assert_eq!(asked(&devices).unwrap().report, report());
}

#[test]
fn a_busy_driver_is_asked_again() {
    for busy in [failed(EAGAIN, 0), failed(EINTR, 0xff)] {
        let devices = Recorded::sev([busy.clone(), busy.clone(), busy, snp(&[])]);
        assert_eq!(asked(&devices).unwrap().report, report());
        assert_eq!(devices.asked().len(), 4);
    }
}

#[test]
fn a_driver_that_stays_busy_is_not_waited_for_for_ever() {
    let devices = Recorded::sev(vec![failed(EAGAIN, 0); 5]);
    let refused = asked(&devices).unwrap_err();
    assert!(matches!(refused, SevGuestError::Busy(_)), "{refused:?}");
    assert!(refused.to_string().contains("5 times"), "{refused}");
    assert_eq!(devices.asked(), [FIRST; 5]);
}

/// A driver has no key to ask with any more, whether it waited itself (Linux 6.3) or not (6.1).
#[test]
fn a_hypervisor_that_puts_a_request_off_is_asked_once() {
    for put_off in [
        failed(EIO, BUSY),
        failed(ETIMEDOUT, BUSY),
        failed(EAGAIN, BUSY),
    ] {
        let devices = Recorded::sev([put_off]);
        let refused = asked(&devices).unwrap_err();
        assert!(matches!(refused, SevGuestError::TimedOut(_)), "{refused:?}");
        assert!(
            refused.to_string().contains("restart the machine"),
            "{refused}"
        );
        assert_eq!(devices.asked(), [FIRST]);
    }
}

#[test]
fn a_driver_that_gave_its_key_up_says_so() {
    let devices = Recorded::sev([failed(ENOTTY, 0xff)]);
    let refused = asked(&devices).unwrap_err();
    assert!(matches!(refused, SevGuestError::NoKey(_)), "{refused:?}");
    assert!(
        refused.to_string().contains("restart the machine"),
        "{refused}"
    );
}

#[test]
fn each_failure_has_its_words() {
    for (answer, words) in [
        (
            failed(EIO, 0x16),
            "AMD's firmware refuses the request for a report with code 0x16",
        ),
        (
            failed(EIO, 7 * VMM),
            "the hypervisor refuses the request for a report with code 0x7",
        ),
        (
            failed(EIO, 7 * VMM + 0x16),
            "the hypervisor refuses the request for a report with code 0x7",
        ),
        // of Linux 6.1 and of 6.3, when the firmware was not asked
        (failed(EIO, 0xff), "cannot ask sev-guest for a report"),
        (failed(EIO, u64::MAX), "cannot ask sev-guest for a report"),
        (
            failed(EIO, 0xffff_ffff),
            "cannot ask sev-guest for a report",
        ),
        (failed(EIO, 0), "cannot ask sev-guest for a report"),
        (failed(ETIMEDOUT, BUSY), "until the driver gave up"),
        (failed(ENOTTY, 0), "takes no request"),
        (
            Answer::NotOpened(ENOENT),
            "is no SEV-SNP guest, or its kernel lacks the driver (CONFIG_SEV_GUEST)",
        ),
        (Answer::NotOpened(EACCES), "only root may use it"),
    ] {
        let devices = Recorded::sev([answer.clone()]);
        let refused = asked(&devices).unwrap_err();
        assert!(refused.to_string().contains(words), "{answer:?}: {refused}");
        assert!(
            std::error::Error::source(&refused).is_some(),
            "{answer:?} keeps what the kernel said"
        );
    }
}

#[test]
fn an_answer_that_is_no_report_is_refused() {
    let answered = |response: [u8; SNP_RESPONSE]| {
        asked(&Recorded::sev([Answer::Snp(
            Box::new(response),
            Vec::new(),
        )]))
        .unwrap_err()
    };
    let refused = answered(snp_response(0x16, &report()));
    assert!(
        matches!(refused, SevGuestError::Status(0x16)),
        "{refused:?}"
    );
    assert!(
        refused.to_string().contains("does not run at VMPL 0"),
        "{refused}"
    );
    assert!(matches!(
        answered(snp_response(1, &report())),
        SevGuestError::Status(1)
    ));
    for wrong in [0, 1183, 1185, 3968] {
        let refused = answered(snp_response(0, &vec![1; wrong]));
        assert!(
            matches!(refused, SevGuestError::Size(size) if size as usize == wrong),
            "{refused:?}"
        );
    }
    let mut response = snp_response(0, &report());
    response[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(answered(response), SevGuestError::Size(u32::MAX)));
}

// ---- tdx_guest and the quote generation service

fn td_report_bytes() -> [u8; TD_REPORT] {
    let hcl = sample("azure-tdx-vtpm/trustee/tdx/hcl-report.bin");
    hcl[32..32 + TD_REPORT].try_into().unwrap()
}

fn td() -> Answer {
    Answer::Td(Box::new(td_report_bytes()))
}

fn td_quote() -> Vec<u8> {
    sample("azure-tdx-vtpm/trustee/tdx/quote.bin")
}

fn quoted(answer: &QuoteAnswer) -> Result<Vec<u8>, QuoteServiceError> {
    let bytes = answer.to_bytes();
    let server = QuoteServer::start(move |_| bytes).unwrap();
    QuoteService::Unix(server.socket()).quote(&td_report_bytes())
}

#[test]
fn a_td_quote_is_made_of_the_devices_report() {
    let answer = QuoteAnswer::of(td_quote()).to_bytes();
    let server = QuoteServer::start(move |_| answer).unwrap();
    let devices = Recorded::tdx([failed(EINTR, 0), td()]);
    let service = QuoteService::Unix(server.socket());
    assert_eq!(
        tdx_guest::quote(&devices, &service, &DATA).unwrap(),
        TsmReport {
            provider: Provider::TdxGuest,
            report: td_quote(),
            auxiliary: None
        }
    );
    // version 1.1, type 0, size, no error, size of the report, no list of keys
    let mut expected = vec![
        1, 0, 1, 0, 0, 0, 0, 0, 0x18, 4, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0,
    ];
    expected.extend([0; 4]);
    expected.extend(td_report_bytes());
    assert_eq!(server.request().unwrap(), expected);
}

#[test]
fn a_quote_may_come_with_the_id_of_its_key_and_from_a_later_minor_version() {
    let answer = QuoteAnswer {
        id: vec![3; 16],
        version: [1, 7],
        ..QuoteAnswer::of(td_quote())
    };
    assert_eq!(quoted(&answer).unwrap(), td_quote());
}

#[test]
fn a_service_that_makes_no_quote_is_told() {
    let refused = quoted(&QuoteAnswer {
        error: 0x12001,
        ..QuoteAnswer::of(Vec::new())
    })
    .unwrap_err();
    assert!(
        matches!(refused, QuoteServiceError::Refused(0x12001)),
        "{refused:?}"
    );
    assert!(
        refused.to_string().contains("unexpected error"),
        "{refused}"
    );
    let refused = quoted(&QuoteAnswer {
        version: [2, 1],
        ..QuoteAnswer::of(td_quote())
    });
    assert!(matches!(refused, Err(QuoteServiceError::Version(2))));
}

#[test]
fn what_is_no_answer_of_the_service_is_refused() {
    type Lie = fn(&mut QuoteAnswer);
    let lies: [(Lie, &str); 11] = [
        (|answer| answer.kind = 0, "no answer to this request"),
        (|answer| answer.kind = 3, "no answer to this request"),
        (|answer| answer.size = Some(24), "another size than it says"),
        (|answer| answer.size = Some(u32::MAX), "another size"),
        (
            |answer| answer.quote_size = Some(0),
            "its quote has another size",
        ),
        (
            |answer| answer.quote_size = Some(u32::MAX),
            "its quote has another size",
        ),
        (|answer| answer.quote = Vec::new(), "its quote is empty"),
        (
            |answer| answer.quote = vec![1; 64 * 1024 + 1],
            "longer than any quote",
        ),
        (
            |answer| answer.length = Some(24 + 256 + 64 * 1024 + 1),
            "longer than any quote",
        ),
        (
            |answer| answer.length = Some(u32::MAX),
            "longer than any quote",
        ),
        (|answer| answer.length = Some(15), "cut off"),
    ];
    for (number, (lie, words)) in lies.into_iter().enumerate() {
        let mut answer = QuoteAnswer::of(td_quote());
        lie(&mut answer);
        let refused = quoted(&answer).unwrap_err();
        assert!(
            matches!(refused, QuoteServiceError::Format(_)),
            "{number}: {refused:?}"
        );
        assert!(refused.to_string().contains(words), "{number}: {refused}");
    }
    // the header alone, and an id that takes all there is
    let mut header = QuoteAnswer::of(td_quote()).to_bytes()[..20].to_vec();
    header[..4].copy_from_slice(&16_u32.to_be_bytes());
    header[12..16].copy_from_slice(&16_u32.to_le_bytes());
    let server = QuoteServer::start(move |_| header).unwrap();
    let refused = QuoteService::Unix(server.socket()).quote(&td_report_bytes());
    assert!(matches!(
        refused,
        Err(QuoteServiceError::Format("it is cut off"))
    ));
    let mut bytes = QuoteAnswer::of(td_quote()).to_bytes();
    bytes[20..24].copy_from_slice(&u32::MAX.to_le_bytes());
    let server = QuoteServer::start(move |_| bytes).unwrap();
    let refused = QuoteService::Unix(server.socket()).quote(&td_report_bytes());
    assert!(matches!(
        refused,
        Err(QuoteServiceError::Format("it is cut off"))
    ));
}

#[test]
fn a_service_that_is_not_there_or_stops_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let nobody = QuoteService::Unix(directory.path().join("qgs.socket"));
    let refused = nobody.quote(&td_report_bytes()).unwrap_err();
    assert!(
        matches!(refused, QuoteServiceError::Connect { .. }),
        "{refused:?}"
    );
    assert!(refused.to_string().contains("qgsd"), "{refused}");
    for length in [0, 3, 4, 100] {
        let cut = QuoteAnswer::of(td_quote()).to_bytes()[..length].to_vec();
        let server = QuoteServer::start(move |_| cut).unwrap();
        let refused = QuoteService::Unix(server.socket()).quote(&td_report_bytes());
        assert!(
            matches!(refused, Err(QuoteServiceError::Transfer { .. })),
            "{length}"
        );
    }
}

/// Each read is answered in time; the whole is not.
#[test]
fn a_service_that_sends_a_byte_at_a_time_is_not_waited_for() {
    use std::io::Write as _;
    use std::os::unix::net::UnixListener;

    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("qgs.socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for byte in QuoteAnswer::of(td_quote()).to_bytes() {
            std::thread::sleep(Duration::from_millis(20));
            if stream.write_all(&[byte]).is_err() {
                return true;
            }
        }
        false
    });
    let started = Instant::now();
    let refused = QuoteService::Unix(socket)
        .quote_within(Duration::from_millis(400), &td_report_bytes())
        .unwrap_err();
    assert!(
        matches!(refused, QuoteServiceError::Transfer { .. }),
        "{refused:?}"
    );
    // its whole answer takes more than a minute
    assert!(started.elapsed() < Duration::from_secs(20));
    assert!(served.join().unwrap(), "it was waited for");
}

/// It takes the request, and says nothing until it is left.
#[test]
fn a_silent_service_is_not_waited_for() {
    use std::io::Read as _;
    use std::os::unix::net::UnixListener;

    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("qgs.socket");
    let listener = UnixListener::bind(&socket).unwrap();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        request.len()
    });
    let started = Instant::now();
    let refused = QuoteService::Unix(socket)
        .quote_within(Duration::from_millis(300), &td_report_bytes())
        .unwrap_err();
    assert!(
        matches!(refused, QuoteServiceError::Transfer { .. }),
        "{refused:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(served.join().unwrap(), 4 + 1048);
}

#[test]
fn a_device_that_makes_no_td_report_is_told() {
    let nobody = QuoteService::Unix("/nonexistent/qgs".into());
    for (answer, words) in [
        (failed(EIO, 0), "the TDX module makes no TDREPORT"),
        (failed(ENOTTY, 0), "before Linux 6.2"),
        (failed(EINVAL, 0), "cannot ask tdx_guest"),
        (Answer::NotOpened(ENOENT), "CONFIG_TDX_GUEST_DRIVER"),
        (Answer::NotOpened(EACCES), "only root may use it"),
    ] {
        let devices = Recorded::tdx([answer.clone()]);
        let refused = tdx_guest::quote(&devices, &nobody, &DATA).unwrap_err();
        assert!(refused.to_string().contains(words), "{answer:?}: {refused}");
        assert_eq!(devices.asked(), [Asked::TdReport]);
    }
    let devices = Recorded::tdx(vec![failed(EINTR, 0); 5]);
    let refused = tdx_guest::quote(&devices, &nobody, &DATA).unwrap_err();
    assert!(matches!(refused, TdxGuestError::Call(_)), "{refused:?}");
    assert_eq!(devices.asked().len(), 5);
}

// ---- whichever a machine has

fn places(devices: Recorded, service: QuoteService) -> (tempfile::TempDir, Places) {
    let root = tempfile::tempdir().unwrap();
    let places = Places {
        tpm: TpmAddress::Device(root.path().join("tpmrm0")),
        configfs: root.path().join("config"),
        devices: Arc::new(devices),
        quote_service: service,
        metadata: Metadata::new("127.0.0.1:1"),
        event_log: "/nonexistent/log".into(),
        command_line: None,
    };
    (root, places)
}

fn nobody() -> QuoteService {
    QuoteService::Unix("/nonexistent/qgs".into())
}

#[test]
fn the_device_is_asked_where_configfs_is_missing() {
    let (_root, places) = places(Recorded::sev([snp(&[])]), nobody());
    assert_eq!(hardware::report(&places, &DATA).unwrap().report, report());

    let answer = QuoteAnswer::of(td_quote()).to_bytes();
    let server = QuoteServer::start(move |_| answer).unwrap();
    let (_root, places) = self::places(Recorded::tdx([td()]), QuoteService::Unix(server.socket()));
    let quote = hardware::report(&places, &DATA).unwrap();
    assert_eq!(quote.provider, Provider::TdxGuest);
    assert_eq!(quote.report, td_quote());
}

#[test]
fn a_machine_without_any_interface_says_which_it_lacks() {
    let (_root, places) = places(Recorded::none(), nobody());
    let refused = hardware::report(&places, &DATA).unwrap_err();
    assert!(matches!(refused, HardwareError::None(_)), "{refused:?}");
    assert!(
        refused
            .to_string()
            .contains("neither configfs-tsm nor sev-guest nor tdx_guest"),
        "{refused}"
    );
}

/// Both are one driver, and a device that answers otherwise would hide what is wrong with configfs-tsm.
#[test]
fn the_device_is_not_asked_where_configfs_fails() {
    let (root, places) = places(Recorded::sev([]), nobody());
    // an entry can be made, and the kernel puts no files in it
    fs::create_dir_all(root.path().join("config/tsm/report")).unwrap();
    let refused = hardware::report(&places, &DATA).unwrap_err();
    assert!(matches!(refused, HardwareError::Tsm(_)), "{refused:?}");

    // there, and not to be used
    let (root, places) = self::places(Recorded::sev([]), nobody());
    fs::create_dir_all(root.path().join("config/tsm")).unwrap();
    fs::write(root.path().join("config/tsm/report"), b"").unwrap();
    let refused = hardware::report(&places, &DATA).unwrap_err();
    assert!(matches!(refused, HardwareError::Tsm(_)), "{refused:?}");
}

fn found(places: &Places, source: Source) -> (State, String, Option<&'static str>) {
    let detected = detect(places);
    let found = detected
        .sources
        .iter()
        .find(|found| found.source == source)
        .unwrap();
    (found.state, found.detail.clone(), detected.looks_like)
}

#[test]
fn a_report_says_that_an_older_kernels_device_is_there_and_asks_an_snp_driver_nothing() {
    // one that is asked has no answer
    let (_root, places) = places(Recorded::sev([]), nobody());
    let (state, detail, looks_like) = found(&places, Source::SevGuest);
    assert_eq!((state, looks_like), (State::NotLooked, Some("sev-snp")));
    assert!(detail.contains("not asked"), "{detail}");
    let answer = QuoteAnswer::of(td_quote()).to_bytes();
    let server = QuoteServer::start(move |_| answer).unwrap();
    let (_root, places) = self::places(Recorded::tdx([td()]), QuoteService::Unix(server.socket()));
    let (state, _, looks_like) = found(&places, Source::TdxGuest);
    assert_eq!((state, looks_like), (State::Usable, Some("tdx")));
}

#[test]
fn a_report_says_what_is_wrong_with_a_device() {
    let (_root, places) = places(Recorded::tdx([td()]), nobody());
    let (state, detail, looks_like) = found(&places, Source::TdxGuest);
    assert_eq!((state, looks_like), (State::Missing, None));
    assert!(
        detail.contains("no quote generation service at /nonexistent/qgs"),
        "{detail}"
    );
}

/// The real system calls, on files that are no guest devices.
#[test]
fn files_that_are_no_devices_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let devices = DeviceFiles::new(root.path());
    assert!(!devices.is_there(GuestDevice::Sev));
    let refused = asked_of(&devices);
    assert!(refused.contains("is no SEV-SNP guest"), "{refused}");
    fs::write(root.path().join("sev-guest"), b"").unwrap();
    assert!(devices.is_there(GuestDevice::Sev));
    let refused = asked_of(&devices);
    assert!(refused.contains("it cannot be used"), "{refused}");
    fs::remove_file(root.path().join("sev-guest")).unwrap();
    for name in ["sev-guest", "tdx_guest"] {
        std::os::unix::fs::symlink("/dev/null", root.path().join(name)).unwrap();
    }
    let refused = asked_of(&devices);
    assert!(refused.contains("takes no request"), "{refused}");
    let refused = tdx_guest::td_report(&devices, &DATA).unwrap_err();
    assert!(matches!(refused, TdxGuestError::Unknown(_)), "{refused:?}");
}

fn asked_of(devices: &DeviceFiles) -> String {
    SevGuest::new(devices)
        .report(&DATA)
        .unwrap_err()
        .to_string()
}
