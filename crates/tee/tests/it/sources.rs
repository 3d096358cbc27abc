//! What clouds keep in their vTPMs and answer by their metadata services: swtpm in the place of the vTPM, a local
//! server in the place of the service, with the bytes of real machines.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tee::azure::{AzureError, HclReport, REPORT_AREA, amd_certificates, td_quote};
use tee::detect::{Detected, Places, Source, State, detect};
use tee::devices::DeviceFiles;
use tee::gcp::{AkKind, certified_aks};
use tee::metadata::{Metadata, MetadataError};
use tee::quote_service::QuoteService;
use tee::tpm::NitroError;
use tee::{Tpm, TpmAddress};
use testkit::swtpm::Swtpm;

fn sample(path: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../attest/testdata/evidence")
        .join(path);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Answers one request with these bytes, and returns the request.
fn serve(answer: Vec<u8>) -> (Metadata, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let metadata = Metadata::new(&listener.local_addr().unwrap().to_string());
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        let mut chunk = [0; 1024];
        loop {
            let text = String::from_utf8_lossy(&request).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("Content-Length: "))
                    .map_or(0, |length| length.parse().unwrap());
                if body.len() >= length {
                    stream.write_all(&answer).unwrap();
                    return text;
                }
            }
            let read = stream.read(&mut chunk).unwrap();
            assert!(read > 0, "the request was cut off");
            request.extend_from_slice(&chunk[..read]);
        }
    });
    (metadata, served)
}

fn ok(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.as_bytes().chunks(1000) {
        answer.extend(format!("{:x}\r\n", chunk.len()).bytes());
        answer.extend_from_slice(chunk);
        answer.extend_from_slice(b"\r\n");
    }
    answer.extend_from_slice(b"0\r\n\r\n");
    answer
}

// ---- Azure

fn tdx_report() -> HclReport {
    HclReport::parse(sample("azure-tdx-vtpm/trustee/tdx/hcl-report.bin")).unwrap()
}

#[test]
fn reports_of_azure_name_their_hardware() {
    assert!(matches!(tdx_report(), HclReport::Tdx(_)));
    let snp = sample("azure-snp-vtpm/trustee/milan-v3/hcl-report.bin");
    assert!(matches!(HclReport::parse(snp.clone()), Ok(HclReport::Snp(bytes)) if bytes == snp));
    let mut other = snp.clone();
    other[0] = b'h';
    assert!(matches!(
        HclReport::parse(other),
        Err(AzureError::Report("it does not begin with HCLA"))
    ));
    let mut other = snp.clone();
    other[1224] = 3;
    assert!(HclReport::parse(other).is_err());
    assert!(HclReport::parse(snp[..1227].to_vec()).is_err());
}

#[test]
fn azures_host_makes_a_quote_of_the_td_report() {
    let quote = sample("azure-tdx-vtpm/trustee/tdx/quote.bin");
    for answer in [ok, chunked] {
        let body = format!("{{\"quote\":\"{}\"}}", URL_SAFE_NO_PAD.encode(&quote));
        let (metadata, served) = serve(answer(&body));
        assert_eq!(td_quote(&metadata, &tdx_report()).unwrap(), quote);
        let request = served.join().unwrap();
        assert!(
            request.starts_with("POST /acc/tdquote HTTP/1.1\r\n"),
            "{request}"
        );
        let body: serde_json::Value =
            serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
        let sent = URL_SAFE_NO_PAD
            .decode(body["report"].as_str().unwrap())
            .unwrap();
        assert_eq!(sent, &tdx_report().as_bytes()[32..32 + 1024]);
    }
}

#[test]
fn a_quote_is_not_asked_for_snp() {
    let snp = HclReport::parse(sample("azure-snp-vtpm/trustee/milan-v3/hcl-report.bin")).unwrap();
    // nobody listens there
    let refused = td_quote(&Metadata::new("127.0.0.1:1"), &snp).unwrap_err();
    assert!(matches!(refused, AzureError::Report(_)), "{refused}");
}

#[test]
fn azures_certificates_are_read() {
    let body = r#"{"vcekCert":"one","tcbm":"DB18000000000004","certificateChain":"two","cacheControl":"86400"}"#;
    let (metadata, served) = serve(ok(body));
    let certificates = amd_certificates(&metadata).unwrap();
    assert_eq!(certificates.vcek, "one");
    assert_eq!(certificates.chain, "two");
    let request = served.join().unwrap();
    assert!(
        request.starts_with("GET /metadata/THIM/amd/certification HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(request.contains("\r\nMetadata: true\r\n"), "{request}");
}

#[test]
fn what_is_no_answer_of_azures_is_told() {
    let asked = |answer: Vec<u8>| {
        let (metadata, served) = serve(answer);
        let error = td_quote(&metadata, &tdx_report()).unwrap_err();
        served.join().unwrap();
        error
    };
    assert!(matches!(
        asked(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n".to_vec()),
        AzureError::Metadata(MetadataError::Status { status: 429, .. })
    ));
    assert!(matches!(asked(ok("{}")), AzureError::Document(_)));
    assert!(matches!(
        asked(ok("{\"quote\":\"*\"}")),
        AzureError::Quote(_)
    ));
    assert!(matches!(
        asked(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}".to_vec()),
        AzureError::Metadata(MetadataError::Format("its body is cut off"))
    ));
    assert!(matches!(
        td_quote(&Metadata::new("127.0.0.1:1"), &tdx_report()),
        Err(AzureError::Metadata(MetadataError::Connect { .. }))
    ));
}

#[test]
fn the_paravisors_report_is_read_from_its_area() {
    let swtpm = Swtpm::start().unwrap();
    let mut tpm = Tpm::connect_swtpm(&swtpm.socket()).unwrap();
    assert!(matches!(
        HclReport::read_over(&mut tpm, &[3; 64]),
        Err(AzureError::NoReport)
    ));
    // and nothing was written
    assert_eq!(tpm.nv_read(tee::azure::USER_DATA_AREA).unwrap(), None);
    let report = sample("azure-snp-vtpm/attestation-service/milan-v2-old/hcl-report.bin");
    tpm.nv_write(REPORT_AREA, &report).unwrap();
    assert_eq!(HclReport::read(&mut tpm).unwrap().as_bytes(), report);
    assert!(HclReport::read_over(&mut tpm, &[3; 64]).is_ok());
    assert_eq!(
        tpm.nv_read(tee::azure::USER_DATA_AREA).unwrap(),
        Some(vec![3; 64])
    );
}

// ---- Google and AWS

#[test]
fn googles_certified_keys_are_read_from_their_areas() {
    let swtpm = Swtpm::start().unwrap();
    let mut tpm = Tpm::connect_swtpm(&swtpm.socket()).unwrap();
    assert_eq!(certified_aks(&mut tpm).unwrap(), []);
    let certificate = sample("tpm-ek/gcp/pca-ecc-sign/cert.der");
    tpm.nv_write(AkKind::Ecc.certificate_area(), &certificate)
        .unwrap();
    // a certificate without the template that makes its key is of no use
    assert_eq!(certified_aks(&mut tpm).unwrap(), []);
    tpm.nv_write(AkKind::Ecc.template_area(), &[1; 88]).unwrap();
    let aks = certified_aks(&mut tpm).unwrap();
    assert_eq!(aks.len(), 1);
    assert_eq!(aks[0].kind, AkKind::Ecc);
    assert_eq!(aks[0].certificate, certificate);
    assert_eq!(aks[0].template, [1; 88]);
}

#[test]
fn a_tpm_that_is_no_nitrotpm_says_so_and_keeps_no_area() {
    let swtpm = Swtpm::start().unwrap();
    let mut tpm = Tpm::connect_swtpm(&swtpm.socket()).unwrap();
    for _ in 0..2 {
        let refused = tpm.nitro_document(Some(&[1; 32]), None, None).unwrap_err();
        assert!(
            matches!(refused, NitroError::NoNitroTpm | NitroError::Tpm(_)),
            "{refused}"
        );
        assert_eq!(tpm.nv_length(0x0180_0000).unwrap(), None);
    }
    assert!(!tpm.has_nitro_command().unwrap());
}

// ---- all of it

fn places(tpm: TpmAddress, root: &std::path::Path) -> Places {
    Places {
        tpm,
        configfs: root.join("config"),
        devices: Arc::new(DeviceFiles::new(&root.join("dev"))),
        quote_service: QuoteService::Unix(root.join("qgs.socket")),
        metadata: Metadata::new("127.0.0.1:1"),
        event_log: "/nonexistent/log".into(),
        command_line: None,
    }
}

fn state(detected: &Detected, source: Source) -> (State, String) {
    let found = detected
        .sources
        .iter()
        .find(|found| found.source == source)
        .unwrap();
    (found.state, found.detail.clone())
}

#[test]
fn a_machine_that_has_nothing_says_what_it_lacks() {
    let root = tempfile::tempdir().unwrap();
    let detected = detect(&places(
        TpmAddress::Device(root.path().join("dev/tpmrm0")),
        root.path(),
    ));
    assert_eq!(detected.looks_like, None);
    assert_eq!(detected.sources.len(), 8);
    assert!(
        detected
            .sources
            .iter()
            .all(|found| matches!(found.state, State::Missing | State::NotLooked))
    );
    let text = detected.to_string();
    for words in [
        "its kernel is older than 6.7",
        "/dev/sev-guest    missing     no such device",
        "cannot open the TPM at",
        "NitroTPM          not looked  needs a TPM",
        "looks like: a machine that can prove nothing",
    ] {
        assert!(text.contains(words), "{words}\n{text}");
    }
}

#[test]
fn a_file_in_the_place_of_a_device_is_not_usable() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("dev")).unwrap();
    fs::write(root.path().join("dev/sev-guest"), b"").unwrap();
    let detected = detect(&places(
        TpmAddress::Device(root.path().join("dev/tpmrm0")),
        root.path(),
    ));
    let (found, detail) = state(&detected, Source::SevGuest);
    assert_eq!(found, State::Missing);
    assert!(detail.contains("no character device"), "{detail}");
    assert_eq!(detected.looks_like, None);
}

#[test]
fn a_machine_is_known_by_what_its_tpm_holds() {
    let root = tempfile::tempdir().unwrap();
    let swtpm = Swtpm::start().unwrap();
    let looked = || detect(&places(TpmAddress::Unix(swtpm.socket()), root.path()));
    let detected = looked();
    assert_eq!(detected.looks_like, Some("qemu-vtpm"), "{detected}");
    assert_eq!(state(&detected, Source::AzureMetadata).0, State::NotLooked);

    let write = |index: u32, bytes: &[u8]| {
        let mut tpm = Tpm::connect_swtpm(&swtpm.socket()).unwrap();
        tpm.nv_write(index, bytes).unwrap();
    };
    write(
        AkKind::Rsa.certificate_area(),
        &sample("tpm-ek/gcp/core-eso-ak/cert.der"),
    );
    write(AkKind::Rsa.template_area(), &[1; 88]);
    let detected = looked();
    assert_eq!(detected.looks_like, Some("gcp-sev-es"), "{detected}");
    assert_eq!(
        state(&detected, Source::GoogleAk),
        (State::Usable, "certified keys: Rsa".into())
    );

    write(
        REPORT_AREA,
        &sample("azure-snp-vtpm/attestation-service/milan-v2-old/hcl-report.bin"),
    );
    let detected = looked();
    assert_eq!(detected.looks_like, Some("azure-sev-snp"), "{detected}");
    // needed now, and nobody listens
    assert_eq!(state(&detected, Source::AzureMetadata).0, State::Missing);
    let json = serde_json::to_value(&detected).unwrap();
    assert_eq!(json["looksLike"], "azure-sev-snp");
    assert_eq!(json["sources"][4]["source"], "azure-report");
    assert_eq!(json["sources"][4]["state"], "usable");
}
