//! Evidence of the clouds' machines, from the TPM to the verdict: swtpm in the place of the vTPM, with keys, certificates and reports of
//! vendors in the shape of the real ones, whose roots the verifier of the test has.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use attest::sev_snp::{ProductLine, VekKind};
use attest::x509::{Certificate, PathCache};
use attest::{
    Binding, ClusterMark, Endorsements, Evidence, Issue, Policy, Refusal, RefusalCode, Role, Trust,
    Variant, Verified, appraise,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use tee::azure::{AK_CERTIFICATE_AREA, AK_HANDLE, REPORT_AREA};
use tee::detect::Places;
use tee::devices::{CallFailure, GuestDevice, GuestDevices, REPORT_DATA, SNP_RESPONSE, TD_REPORT};
use tee::gcp::AkKind;
use tee::metadata::Metadata;
use tee::quote_service::QuoteService;
use tee::{NoIssuer, Part, Tpm, TpmAddress, issuer_for};
use testkit::amd::{self, Amd, ReportBytes, offset};
use testkit::boot::Image;
use testkit::cloud::{
    AkCertificate, HclParts, InstanceParts, Makers, RuntimeParts, td_report_over,
};
use testkit::guest::{ASK, QuoteAnswer, QuoteServer, VCEK, certificate_table, snp_response};
use testkit::intel::{self, PckParts, QuoteParts, TdParts, Vendor};
use testkit::swtpm::Swtpm;

use crate::tsm::Kernel;

const LINE: ProductLine = ProductLine::Milan;
/// The first slot of a TPM.
const SLOT: u32 = 0x8000_0000;
/// RSA 2048 with RSASSA and SHA-256; fixed to its TPM, restricted, for signatures.
const TEMPLATE: [u8; 24] = [
    0x00, 0x01, 0x00, 0x0b, 0x00, 0x05, 0x04, 0x72, 0x00, 0x00, 0x00, 0x10, 0x00, 0x14, 0x00, 0x0b,
    0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
];

/// ECC P-256 with ECDSA and SHA-256, otherwise the same.
const ECC_TEMPLATE: [u8; 24] = [
    0x00, 0x23, 0x00, 0x0b, 0x00, 0x05, 0x04, 0x72, 0x00, 0x00, 0x00, 0x10, 0x00, 0x18, 0x00, 0x0b,
    0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00,
];

fn binding(session: u8) -> Binding {
    Binding::for_channel(Role::Node, &[session; 64], &[2; 32], b"server", None)
}

// ---- who vouches

/// What a verifier has besides what the makers state about their processors: no machine keeps its authorities.
fn endorsements(makers: &Makers) -> Endorsements {
    let mut endorsements = makers.endorsements();
    for authority in [&makers.microsoft, &makers.google] {
        endorsements
            .add_certificate(authority.intermediate())
            .unwrap();
    }
    endorsements
}

fn snp_report(data: &[u8; 64]) -> Vec<u8> {
    let mut report = ReportBytes::new(LINE, 3);
    report.set(offset::REPORT_DATA, data);
    report.sign(amd::vek_key());
    report.0.to_vec()
}

fn td_quote(vendor: &Vendor, report_data: [u8; 64]) -> Vec<u8> {
    vendor.platform(&PckParts::default()).quote(&QuoteParts {
        td: TdParts {
            report_data,
            ..TdParts::default()
        },
        ..QuoteParts::default()
    })
}

fn vcek() -> Vec<u8> {
    Amd::new(LINE).issue(&Amd::new(LINE).vek(VekKind::Vcek))
}

fn names(ders: &[Vec<u8>]) -> Vec<String> {
    ders.iter()
        .map(|der| {
            let certificate = Certificate::parse(der).unwrap();
            certificate.subject().common_name().unwrap().to_owned()
        })
        .collect()
}

fn pem(ders: &[Vec<u8>]) -> String {
    ders.iter()
        .map(|der| {
            format!(
                "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
                STANDARD.encode(der)
            )
        })
        .collect()
}

/// The devices of a kernel before 6.7, over whatever data.
#[derive(Default)]
struct Kernel61 {
    there: Vec<GuestDevice>,
    table: Vec<u8>,
}

impl fmt::Debug for Kernel61 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kernel61")
    }
}

impl GuestDevices for Kernel61 {
    fn is_there(&self, device: GuestDevice) -> bool {
        self.there.contains(&device)
    }

    fn can_be_opened(&self, _: GuestDevice) -> Result<(), CallFailure> {
        unreachable!("an issuer asks for reports")
    }

    fn snp_report(&self, _: &[u8; REPORT_DATA], _: u32) -> Result<[u8; SNP_RESPONSE], CallFailure> {
        Err(CallFailure::Open(io::ErrorKind::NotFound.into()))
    }

    fn snp_extended_report(
        &self,
        data: &[u8; REPORT_DATA],
        _: u32,
        certificates: &mut [u8],
    ) -> Result<[u8; SNP_RESPONSE], CallFailure> {
        certificates[..self.table.len()].copy_from_slice(&self.table);
        Ok(snp_response(0, &snp_report(data)))
    }

    fn td_report(&self, data: &[u8; REPORT_DATA]) -> Result<[u8; TD_REPORT], CallFailure> {
        Ok(td_report_over(data).try_into().unwrap())
    }
}

/// A metadata service that answers every request; also connections without one.
fn metadata(answer: impl Fn(&str, &[u8]) -> Option<String> + Send + 'static) -> Metadata {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let metadata = Metadata::new(&listener.local_addr().unwrap().to_string());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut chunk = [0; 4096];
            let answered = loop {
                let text = String::from_utf8_lossy(&request).into_owned();
                if let Some((head, body)) = text.split_once("\r\n\r\n") {
                    let length = head
                        .lines()
                        .find_map(|line| line.strip_prefix("Content-Length: "))
                        .map_or(0, |length| length.parse().unwrap());
                    if body.len() >= length {
                        break answer(head.lines().next().unwrap(), body.as_bytes());
                    }
                }
                match stream.read(&mut chunk) {
                    Ok(read) if read > 0 => request.extend_from_slice(&chunk[..read]),
                    _ => break None,
                }
            };
            let text = match answered {
                Some(body) => format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                ),
                None => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_owned(),
            };
            // who only looked has gone
            drop(stream.write_all(text.as_bytes()));
        }
    });
    metadata
}

fn thim() -> Metadata {
    let line = Amd::new(LINE);
    let (vcek, chain) = (pem(&[vcek()]), pem(&[line.ask(), line.ark()]));
    metadata(move |request, _| {
        request
            .starts_with("GET /metadata/THIM/amd/certification ")
            .then(|| serde_json::json!({ "vcekCert": vcek, "certificateChain": chain }).to_string())
    })
}

fn quoting(makers: Arc<Makers>) -> Metadata {
    metadata(move |request, body| {
        if !request.starts_with("POST /acc/tdquote ") {
            return None;
        }
        let body: serde_json::Value = serde_json::from_slice(body).unwrap();
        let report = URL_SAFE_NO_PAD
            .decode(body["report"].as_str().unwrap())
            .unwrap();
        let quote = td_quote(&makers.intel, report[128..192].try_into().unwrap());
        Some(serde_json::json!({ "quote": URL_SAFE_NO_PAD.encode(quote) }).to_string())
    })
}

// ---- the machine

/// A machine that booted an image, with a TPM.
struct Machine {
    swtpm: Swtpm,
    image: Image,
    places: Places,
}

impl Machine {
    fn boot() -> Self {
        let image = Image::default();
        let swtpm = Swtpm::boot(&image).unwrap();
        let event_log = swtpm.write_event_log(&image).unwrap();
        let command_line = swtpm.directory().join("cmdline");
        fs::write(&command_line, image.command_line()).unwrap();
        let places = Places {
            tpm: TpmAddress::Unix(swtpm.socket()),
            configfs: swtpm.directory().join("config"),
            devices: Arc::new(Kernel61::default()),
            quote_service: QuoteService::Unix("/nonexistent/qgs".into()),
            metadata: Metadata::new("127.0.0.1:1"),
            event_log,
            command_line: Some(command_line),
        };
        Self {
            swtpm,
            image,
            places,
        }
    }

    fn tpm(&self) -> Tpm {
        Tpm::open(&self.places.tpm).unwrap()
    }

    fn write(&self, index: u32, bytes: &[u8]) {
        self.tpm().nv_write(index, bytes).unwrap();
    }

    /// The modulus of the key that the template makes, which a test certifies; kept at `handle`, if one is given.
    fn key(&self, handle: Option<u32>) -> Vec<u8> {
        let mut tpm = self.tpm();
        let key = tpm.create_key_of_template(&TEMPLATE).unwrap();
        let modulus = key.public[key.public.len() - 256..].to_vec();
        drop(tpm);
        if let Some(handle) = handle {
            self.swtpm.keep(SLOT, handle).unwrap();
        }
        self.tpm().flush_key(key).unwrap();
        modulus
    }

    fn on_azure(&self) -> Vec<u8> {
        self.key(Some(AK_HANDLE))
    }

    fn azure_sev_snp() -> Self {
        let mut machine = Self::boot();
        let runtime = RuntimeParts::of(machine.on_azure()).to_json();
        let data = HclParts::snp(Vec::new(), runtime.clone()).report_data();
        let hcl = HclParts::snp(snp_report(&data), runtime).to_bytes();
        machine.write(REPORT_AREA, &hcl);
        machine.places.metadata = thim();
        machine
    }

    fn azure_tdx(vendors: &Arc<Makers>) -> Self {
        let mut machine = Self::boot();
        let runtime = RuntimeParts::of(machine.on_azure()).to_json();
        machine.write(REPORT_AREA, &HclParts::tdx(runtime).to_bytes());
        machine.places.metadata = quoting(Arc::clone(vendors));
        machine
    }

    fn azure_trusted_launch(vendors: &Arc<Makers>) -> Self {
        let machine = Self::boot();
        let certificate = vendors
            .microsoft
            .certify_modulus(&machine.on_azure(), &AkCertificate::azure());
        // with the padding of its area
        machine.write(AK_CERTIFICATE_AREA, &[certificate, vec![0; 64]].concat());
        machine
    }

    fn google(vendors: &Arc<Makers>) -> Self {
        let machine = Self::boot();
        let certificate = vendors.google.certify_modulus(
            &machine.key(None),
            &AkCertificate::google(&InstanceParts::default()),
        );
        machine.write(AkKind::Rsa.certificate_area(), &certificate);
        machine.write(AkKind::Rsa.template_area(), &TEMPLATE);
        machine
    }

    /// With both keys, as Google makes machines today.
    fn google_with_both_keys(vendors: &Arc<Makers>) -> Self {
        let machine = Self::google(vendors);
        let mut tpm = machine.tpm();
        let key = tpm.create_key_of_template(&ECC_TEMPLATE).unwrap();
        // two sized coordinates end it
        let [x, y] = [66, 32].map(|from_end| {
            let at = key.public.len() - from_end;
            key.public[at..at + 32].try_into().unwrap()
        });
        tpm.flush_key(key).unwrap();
        drop(tpm);
        let certificate = vendors
            .google
            .certify_point([&x, &y], &AkCertificate::google(&InstanceParts::default()));
        machine.write(AkKind::Ecc.certificate_area(), &certificate);
        machine.write(AkKind::Ecc.template_area(), &ECC_TEMPLATE);
        machine
    }

    fn google_with(vendors: &Arc<Makers>, device: GuestDevice) -> Self {
        Self::google(vendors).with(device)
    }

    fn with(mut self, device: GuestDevice) -> Self {
        self.places.devices = Arc::new(Kernel61 {
            there: vec![device],
            table: certificate_table(&[(VCEK, &vcek()), (ASK, &Amd::new(LINE).ask())]),
        });
        self
    }

    fn issuer(&self, variant: Variant) -> Box<dyn Issue> {
        issuer_for(variant, &self.places).unwrap_or_else(|error| panic!("{error}"))
    }

    fn issued(&self, variant: Variant) -> Evidence {
        let issuer = self.issuer(variant);
        assert_eq!(issuer.variant(), variant);
        let evidence = issuer
            .issue(&binding(1))
            .unwrap_or_else(|error| panic!("{:?}", error.source));
        assert_eq!(evidence.variant(), variant);
        evidence
    }

    fn lacks(&self, variant: Variant) -> NoIssuer {
        match issuer_for(variant, &self.places) {
            Ok(issuer) => panic!("{} is issued", issuer.variant()),
            Err(error) => error,
        }
    }
}

// ---- the verifier

fn policy(variant: Variant, image: &Image) -> Policy {
    let value = |byte: u8| format!("{{ accepted: [{}], warnOnly: false }}", hex(&[byte; 48]));
    let (pinned, platform) = match variant {
        Variant::AzureSevSnp | Variant::GcpSevSnp => (
            format!("      launch: {}\n", value(0x3e)),
            "snp:\n  products:\n    Milan:\n      minimumTcb: { bootloader: 4, tee: 0, snp: 24, microcode: 219 }\n",
        ),
        Variant::AzureTdx | Variant::GcpTdx => (
            format!("      mrtd: {}\n", value(0x1d)),
            "tdx:\n  tcbStatuses: [UpToDate]\n",
        ),
        Variant::QemuVtpm | Variant::AzureTrustedLaunch | Variant::GcpSevEs => (String::new(), ""),
    };
    let pcrs: String = Policy::REQUIRED_PCRS
        .iter()
        .map(|index| {
            let value = image.pcrs().get(attest::PcrIndex::new(*index).unwrap());
            format!("        {index}: {{ expected: {value}, warnOnly: false }}\n")
        })
        .collect();
    let text = format!(
        "version: 2\nvariant: {variant}\nmeasurements:\n  generations:\n    - image: v0.1.0\n{pinned}      pcrs:\n{pcrs}{platform}"
    );
    Policy::from_yaml(&text).unwrap_or_else(|error| panic!("{error:?}\n{text}"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn judged(
    evidence: &Evidence,
    session: u8,
    machine: &Machine,
    vendors: &Arc<Makers>,
) -> Result<Verified, Refusal> {
    let trust = Trust {
        roots: &vendors.roots(),
        endorsements: &endorsements(vendors),
        cache: &PathCache::default(),
        now: intel::NOW.parse().unwrap(),
    };
    appraise(
        evidence,
        &binding(session),
        &policy(evidence.variant(), &machine.image),
        &ClusterMark::NotJoined,
        &trust,
    )
}

fn accepted(evidence: &Evidence, machine: &Machine, vendors: &Arc<Makers>) {
    let verified =
        judged(evidence, 1, machine, vendors).unwrap_or_else(|refusal| panic!("{refusal}"));
    assert_eq!(verified.variant(), evidence.variant());
    assert_eq!(verified.measurements(), &machine.image.pcrs());
    assert_eq!(
        verified.is_confidential(),
        evidence.variant().has_hardware_root()
    );
    // and in no other session
    let refusal = judged(evidence, 2, machine, vendors).unwrap_err();
    assert_ne!(refusal.code(), RefusalCode::Measurements, "{refusal}");
}

// ---- Azure

#[test]
fn a_machine_of_azure_sev_snp_proves_itself() {
    let vendors = Arc::new(Makers::new());
    let machine = Machine::azure_sev_snp();
    let evidence = machine.issued(Variant::AzureSevSnp);
    let document = attest::azure::SevSnpDocument::parse(evidence.document()).unwrap();
    // the root is the verifier's
    assert_eq!(names(&document.certificates), ["SEV-VCEK", "SEV-Milan"]);
    assert_eq!(
        document.tpm.command_line,
        Some(machine.image.command_line())
    );
    // the paravisor was told to make its report anew, over this session
    let user_data = machine.tpm().nv_read(tee::azure::USER_DATA_AREA).unwrap();
    assert_eq!(user_data.unwrap(), binding(1).as_bytes());
    accepted(&evidence, &machine, &vendors);
}

#[test]
fn a_machine_of_azure_tdx_proves_itself() {
    let vendors = Arc::new(Makers::new());
    let machine = Machine::azure_tdx(&vendors);
    let evidence = machine.issued(Variant::AzureTdx);
    accepted(&evidence, &machine, &vendors);
}

#[test]
fn a_machine_of_azure_trusted_launch_proves_itself() {
    let vendors = Arc::new(Makers::new());
    let machine = Machine::azure_trusted_launch(&vendors);
    let evidence = machine.issued(Variant::AzureTrustedLaunch);
    accepted(&evidence, &machine, &vendors);
}

#[test]
fn each_missing_part_of_azures_is_named() {
    let vendors = Arc::new(Makers::new());
    let bare = Machine::boot();
    for variant in [
        Variant::AzureSevSnp,
        Variant::AzureTdx,
        Variant::AzureTrustedLaunch,
    ] {
        let lacks = bare.lacks(variant);
        assert_eq!((lacks.variant, lacks.part), (variant, Part::AzureKey));
        assert!(
            lacks.to_string().starts_with(&format!(
                "{variant} needs Azure's attestation key in the TPM, which this machine lacks: start the machine on Azure"
            )),
            "{lacks}"
        );
        assert!(
            lacks.source.to_string().contains("0x81000003"),
            "{}",
            lacks.source
        );
    }
    bare.on_azure();
    for (variant, part) in [
        (Variant::AzureSevSnp, Part::AzureSnpReport),
        (Variant::AzureTdx, Part::AzureTdxReport),
        (Variant::AzureTrustedLaunch, Part::AzureCertificate),
    ] {
        assert_eq!(bare.lacks(variant).part, part);
    }
    // of the other processor
    let mut snp = Machine::azure_sev_snp();
    let lacks = snp.lacks(Variant::AzureTdx);
    assert_eq!(lacks.part, Part::AzureTdxReport);
    assert!(
        lacks.source.to_string().contains("of another processor"),
        "{}",
        lacks.source
    );
    let mut tdx = Machine::azure_tdx(&vendors);
    assert_eq!(tdx.lacks(Variant::AzureSevSnp).part, Part::AzureSnpReport);
    // and nobody answers
    for (machine, variant) in [
        (&mut snp, Variant::AzureSevSnp),
        (&mut tdx, Variant::AzureTdx),
    ] {
        machine.places.metadata = Metadata::new("127.0.0.1:1");
        assert_eq!(machine.lacks(variant).part, Part::AzureMetadata);
    }
}

/// What is there when the issuer is made may be gone when it issues.
#[test]
fn what_goes_wrong_on_azure_is_said() {
    let issued = |machine: &Machine, variant| {
        let error = machine.issuer(variant).issue(&binding(1)).unwrap_err();
        assert_eq!(error.variant, variant);
        error.source.to_string()
    };
    let vendors = Arc::new(Makers::new());
    for (variant, mut machine) in [
        (Variant::AzureSevSnp, Machine::azure_sev_snp()),
        (Variant::AzureTdx, Machine::azure_tdx(&vendors)),
    ] {
        machine.places.metadata = metadata(|_, _| None);
        let said = issued(&machine, variant);
        assert!(said.contains("with status 404"), "{said}");
    }
    let mut machine = Machine::azure_sev_snp();
    machine.places.metadata = metadata(|_, _| {
        Some(r#"{"vcekCert":"-----BEGIN CERTIFICATE-----","certificateChain":""}"#.into())
    });
    let said = issued(&machine, Variant::AzureSevSnp);
    assert!(said.contains("AMD's certificates"), "{said}");
    let many = pem(&vec![Amd::new(LINE).ask(); 4]);
    machine.places.metadata = metadata(move |_, _| {
        Some(
            serde_json::json!({ "vcekCert": pem(&[vcek()]), "certificateChain": many }).to_string(),
        )
    });
    let said = issued(&machine, Variant::AzureSevSnp);
    assert!(said.contains("more than evidence may hold"), "{said}");
    machine.places.event_log = "/nonexistent/log".into();
    let said = issued(&machine, Variant::AzureSevSnp);
    assert!(said.contains("cannot read the event log"), "{said}");
}

// ---- Google

#[test]
fn a_machine_of_gcp_sev_es_proves_itself() {
    let vendors = Arc::new(Makers::new());
    let machine = Machine::google(&vendors);
    let evidence = machine.issued(Variant::GcpSevEs);
    accepted(&evidence, &machine, &vendors);
}

/// Google certifies two keys of a machine; the one on P-256 is used.
#[test]
fn a_machine_of_google_with_both_keys_proves_itself_by_the_better_one() {
    let vendors = Arc::new(Makers::new());
    let machine = Machine::google_with_both_keys(&vendors).with(GuestDevice::Sev);
    for variant in [Variant::GcpSevEs, Variant::GcpSevSnp] {
        let evidence = machine.issued(variant);
        let tpm = match variant {
            Variant::GcpSevEs => {
                attest::gcp::SevEsDocument::parse(evidence.document())
                    .unwrap()
                    .tpm
            }
            _ => {
                attest::gcp::SevSnpDocument::parse(evidence.document())
                    .unwrap()
                    .tpm
            }
        };
        let area = attest::tpm::PublicArea::parse(&tpm.ak_public).unwrap();
        assert!(
            matches!(area.key(), attest::tpm::PublicKey::P256(_)),
            "{:?}",
            area.key()
        );
        accepted(&evidence, &machine, &vendors);
    }
}

#[test]
fn a_machine_of_gcp_sev_snp_proves_itself_by_the_guest_device() {
    let vendors = Arc::new(Makers::new());
    let machine = Machine::google_with(&vendors, GuestDevice::Sev);
    let evidence = machine.issued(Variant::GcpSevSnp);
    let document = attest::gcp::SevSnpDocument::parse(evidence.document()).unwrap();
    assert_eq!(names(&document.snp_certificates), ["SEV-VCEK", "SEV-Milan"]);
    accepted(&evidence, &machine, &vendors);
}

/// The kernel's newer interface, with a host that has no certificates: the verifier has them.
#[test]
fn a_machine_of_gcp_sev_snp_proves_itself_by_configfs() {
    let vendors = Arc::new(Makers::new());
    let machine = Machine::google(&vendors);
    let (evidence, data) = by_configfs(&machine, Variant::GcpSevSnp, "sev_guest", snp_report);
    let document = attest::gcp::SevSnpDocument::parse(evidence.document()).unwrap();
    assert_eq!(document.snp_certificates, Vec::<Vec<u8>>::new());
    let ak = attest::tpm::PublicArea::parse(&document.tpm.ak_public).unwrap();
    assert_eq!(data, attest::gcp::report_data(&binding(1), ak.key()));
    let refusal = judged(&evidence, 1, &machine, &vendors).unwrap_err();
    assert_eq!(refusal.code(), RefusalCode::NotAuthentic, "{refusal}");
    let mut endorsements = endorsements(&vendors);
    for der in [vcek(), Amd::new(LINE).ask()] {
        endorsements
            .add_certificate(Certificate::parse(&der).unwrap())
            .unwrap();
    }
    let trust = Trust {
        roots: &vendors.roots(),
        endorsements: &endorsements,
        cache: &PathCache::default(),
        now: intel::NOW.parse().unwrap(),
    };
    appraise(
        &evidence,
        &binding(1),
        &policy(Variant::GcpSevSnp, &machine.image),
        &ClusterMark::NotJoined,
        &trust,
    )
    .unwrap_or_else(|refusal| panic!("{refusal}"));
}

fn by_configfs(
    machine: &Machine,
    variant: Variant,
    provider: &'static str,
    make: impl FnOnce(&[u8; 64]) -> Vec<u8> + Send + 'static,
) -> (Evidence, Vec<u8>) {
    let reports = machine.places.configfs.join("tsm/report");
    fs::create_dir_all(&reports).unwrap();
    let served: JoinHandle<Vec<u8>> = Kernel {
        provider,
        report: Vec::new(),
        auxiliary: None,
        others: 0,
    }
    .serve_made(reports, move |data| make(data.try_into().unwrap()));
    let evidence = machine.issued(variant);
    (evidence, served.join().unwrap())
}

#[test]
fn a_machine_of_gcp_tdx_proves_itself() {
    let vendors = Arc::new(Makers::new());
    let machine = Machine::google(&vendors);
    let makers = Arc::clone(&vendors);
    let (evidence, _) = by_configfs(&machine, Variant::GcpTdx, "tdx_guest", move |data| {
        td_quote(&makers.intel, *data)
    });
    accepted(&evidence, &machine, &vendors);
}

#[test]
fn a_machine_of_gcp_tdx_proves_itself_by_the_guest_device() {
    let vendors = Arc::new(Makers::new());
    let mut machine = Machine::google_with(&vendors, GuestDevice::Tdx);
    let makers = Arc::clone(&vendors);
    let server = QuoteServer::start(move |request| {
        // the request's head, and where a TDREPORT has its data
        let data = request[24 + 128..24 + 192].try_into().unwrap();
        QuoteAnswer::of(td_quote(&makers.intel, data)).to_bytes()
    })
    .unwrap();
    machine.places.quote_service = QuoteService::Unix(server.socket());
    let evidence = machine.issued(Variant::GcpTdx);
    accepted(&evidence, &machine, &vendors);
}

#[test]
fn each_missing_part_of_googles_is_named() {
    let vendors = Arc::new(Makers::new());
    let bare = Machine::boot();
    for variant in [Variant::GcpSevEs, Variant::GcpSevSnp, Variant::GcpTdx] {
        let lacks = bare.lacks(variant);
        assert_eq!((lacks.variant, lacks.part), (variant, Part::GoogleKey));
        assert!(lacks.to_string().contains("Shielded VM"), "{lacks}");
    }
    let plain = Machine::google(&vendors);
    assert_eq!(plain.lacks(Variant::GcpSevSnp).part, Part::SnpReports);
    assert_eq!(plain.lacks(Variant::GcpTdx).part, Part::TdQuotes);
    let snp = Machine::google_with(&vendors, GuestDevice::Sev);
    assert_eq!(snp.lacks(Variant::GcpTdx).part, Part::TdQuotes);
    // nobody makes quotes: that shows when one is asked for
    let tdx = Machine::google_with(&vendors, GuestDevice::Tdx);
    let error = tdx.issuer(Variant::GcpTdx).issue(&binding(1)).unwrap_err();
    assert!(
        error
            .source
            .to_string()
            .contains("no quote generation service"),
        "{:?}",
        error.source
    );
}

#[test]
fn a_report_of_another_processor_is_not_sent() {
    let vendors = Arc::new(Makers::new());
    let machine = Machine::google(&vendors);
    let reports = machine.places.configfs.join("tsm/report");
    fs::create_dir_all(&reports).unwrap();
    let issuer = machine.issuer(Variant::GcpTdx);
    let served = Kernel {
        provider: "sev_guest",
        report: vec![1; 1184],
        auxiliary: None,
        others: 0,
    }
    .serve_made(reports, |_| vec![1; 1184]);
    let error = issuer.issue(&binding(1)).unwrap_err();
    assert!(
        error
            .source
            .to_string()
            .contains("reports are made by AMD SEV-SNP"),
        "{:?}",
        error.source
    );
    served.join().unwrap();
}

/// The TPM has three slots, and each failure and each success leaves them as they were.
#[test]
fn no_issue_keeps_a_slot() {
    let vendors = Arc::new(Makers::new());
    let google = Machine::google_with(&vendors, GuestDevice::Sev);
    let failing = Machine::google_with(&vendors, GuestDevice::Tdx);
    let azure = Machine::azure_trusted_launch(&vendors);
    for _ in 0..4 {
        google.issued(Variant::GcpSevSnp);
        azure.issued(Variant::AzureTrustedLaunch);
        let error = failing
            .issuer(Variant::GcpTdx)
            .issue(&binding(1))
            .unwrap_err();
        assert!(
            error
                .source
                .to_string()
                .contains("no quote generation service"),
            "{:?}",
            error.source
        );
    }
}

#[test]
fn a_template_that_is_none_is_told() {
    let vendors = Arc::new(Makers::new());
    let machine = Machine::google(&vendors);
    machine.write(AkKind::Rsa.template_area(), &[0xee; 24]);
    let error = machine
        .issuer(Variant::GcpSevEs)
        .issue(&binding(1))
        .unwrap_err();
    assert!(
        error
            .source
            .to_string()
            .contains("the template of an attestation key"),
        "{:?}",
        error.source
    );
}

/// The certificate is of another key than the template makes.
#[test]
fn the_certificate_of_another_machine_helps_nobody() {
    let vendors = Arc::new(Makers::new());
    let (machine, other) = (Machine::google(&vendors), Machine::google(&vendors));
    let certificate = other
        .tpm()
        .nv_read(AkKind::Rsa.certificate_area())
        .unwrap()
        .unwrap();
    let spliced = Machine::boot();
    spliced.write(AkKind::Rsa.certificate_area(), &certificate);
    spliced.write(AkKind::Rsa.template_area(), &TEMPLATE);
    drop(machine);
    let evidence = spliced.issued(Variant::GcpSevEs);
    let refusal = judged(&evidence, 1, &spliced, &vendors).unwrap_err();
    assert_eq!(refusal.code(), RefusalCode::NotAuthentic, "{refusal}");
}

// ---- every variant

#[test]
fn a_machine_without_a_tpm_says_so_for_every_variant() {
    let mut machine = Machine::boot();
    machine.places.tpm = TpmAddress::Unix(PathBuf::from("/nonexistent/tpm"));
    for variant in Variant::ALL {
        let lacks = machine.lacks(variant);
        assert_eq!((lacks.variant, lacks.part), (variant, Part::Tpm));
        assert!(lacks.to_string().contains("give the machine a TPM 2.0"));
    }
}

#[test]
fn any_machine_with_a_tpm_issues_qemu_vtpm() {
    let vendors = Arc::new(Makers::new());
    let machine = Machine::boot();
    let evidence = machine.issued(Variant::QemuVtpm);
    accepted(&evidence, &machine, &vendors);
}

/// Stands between a TPM and who uses it: whose commands came, in their order.
fn listen_in(tpm: &Path, socket: PathBuf) -> Arc<Mutex<Vec<usize>>> {
    let listener = UnixListener::bind(&socket).unwrap();
    let commands: Arc<Mutex<Vec<usize>>> = Arc::default();
    let (tpm, log) = (tpm.to_owned(), Arc::clone(&commands));
    std::thread::spawn(move || {
        for (connection, stream) in listener.incoming().enumerate() {
            let (mut user, tpm, log) = (stream.unwrap(), tpm.clone(), Arc::clone(&log));
            std::thread::spawn(move || {
                let mut tpm = UnixStream::connect(tpm).unwrap();
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = user.read(&mut buffer) {
                    log.lock().unwrap().push(connection);
                    tpm.write_all(&buffer[..read]).unwrap();
                    let read = tpm.read(&mut buffer).unwrap();
                    user.write_all(&buffer[..read]).unwrap();
                }
            });
        }
    });
    commands
}

/// A TPM has three slots for keys: the commands of two statements do not mix.
#[test]
fn statements_at_once_wait_for_each_other() {
    let vendors = Arc::new(Makers::new());
    let mut machine = Machine::google(&vendors);
    let between = machine.swtpm.directory().join("between");
    let commands = listen_in(&machine.swtpm.socket(), between.clone());
    machine.places.tpm = TpmAddress::Unix(between);
    for variant in [Variant::GcpSevEs, Variant::QemuVtpm] {
        let issuer: Arc<dyn Issue> = Arc::from(machine.issuer(variant));
        commands.lock().unwrap().clear();
        let threads: Vec<_> = (0..4)
            .map(|session| {
                let issuer = Arc::clone(&issuer);
                std::thread::spawn(move || issuer.issue(&binding(session)).map(drop))
            })
            .collect();
        for thread in threads {
            thread.join().unwrap().unwrap();
        }
        let mut turns = commands.lock().unwrap().clone();
        turns.dedup();
        let users: BTreeSet<usize> = turns.iter().copied().collect();
        assert_eq!(users.len(), 4, "{variant}: {turns:?}");
        assert_eq!(turns.len(), users.len(), "{variant}: {turns:?}");
    }
}
