//! TDX appraisal beside `dcap-qvl`, in one run, round by round in turn: time, memory, signature verifications.
//!
//! What is compared: a quote and the collateral as bytes in, the verdict out. Each round of ours that is called cold reads all
//! collateral again and knows no signature; warm is what a service does that keeps what it has read and verified.
//! `dcap-qvl` keeps nothing between calls.

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use attest::Findings;
use attest::tdx::{
    Accepted, Collateral, Endorsements, Launch, Quote, ReportData, Requirements, Roots, Trust,
};
use attest::x509::{Certificate, PathCache, PublicKey, SignatureScheme};
use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::config::{Config, CryptoProvider};
use dcap_qvl::verify::QuoteVerifier;
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm};
use serde::Deserialize;
use serde_json::value::RawValue;

/// Counts what is allocated now, and the most there was at once.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);
static COUNT: AtomicUsize = AtomicUsize::new(0);

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        COUNT.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Signature verifications of `dcap-qvl`.
static VERIFICATIONS: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug)]
struct CountedAlgorithm;

impl SignatureVerificationAlgorithm for CountedAlgorithm {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        VERIFICATIONS.fetch_add(1, Ordering::Relaxed);
        dcap_qvl::crypto::RingCrypto::sig_algo().verify_signature(public_key, message, signature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        dcap_qvl::crypto::RingCrypto::sig_algo().public_key_alg_id()
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        dcap_qvl::crypto::RingCrypto::sig_algo().signature_alg_id()
    }
}

struct CountedCrypto;

impl CryptoProvider for CountedCrypto {
    fn sig_algo() -> &'static dyn SignatureVerificationAlgorithm {
        &CountedAlgorithm
    }

    fn sha256(data: &[u8]) -> [u8; 32] {
        dcap_qvl::crypto::RingCrypto::sha256(data)
    }

    fn sha384(data: &[u8]) -> [u8; 48] {
        dcap_qvl::crypto::RingCrypto::sha384(data)
    }
}

struct Counted;

impl Config for Counted {
    type X509 = dcap_qvl::x509::X509CertBackend;
    type SigEncoder = dcap_qvl::signature::DerSigEncoder;
    type Crypto = CountedCrypto;
}

/// Times and memory of one way.
#[derive(Default)]
struct Figures {
    times: Vec<Duration>,
    peak: usize,
    allocations: usize,
}

impl Figures {
    fn measure<T>(&mut self, run: impl FnOnce() -> T) {
        let before = NOW.load(Ordering::Relaxed);
        let count = COUNT.load(Ordering::Relaxed);
        PEAK.store(before, Ordering::Relaxed);
        let start = Instant::now();
        let result = std::hint::black_box(run());
        self.times.push(start.elapsed());
        self.peak = self.peak.max(PEAK.load(Ordering::Relaxed) - before);
        self.allocations = COUNT.load(Ordering::Relaxed) - count;
        drop(result);
    }

    fn print(&mut self, name: &str, verifications: usize) {
        self.times.sort_unstable();
        let at = |share: usize| self.times[self.times.len() * share / 100].as_secs_f64() * 1e6;
        println!(
            "{name:<42} {:>9.1} {:>9.1} {:>9.1} {:>9.1} {:>7} {verifications:>6}",
            at(0),
            at(50),
            at(90),
            self.peak as f64 / 1024.0,
            self.allocations,
        );
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, rename = "tcbInfo", alias = "enclaveIdentity")]
    body: &'a RawValue,
    signature: String,
}

fn statement(bytes: &[u8]) -> (String, Vec<u8>) {
    let envelope: Envelope<'_> = serde_json::from_slice(bytes).expect("a statement of Intel's");
    (
        envelope.body.get().to_owned(),
        hex::decode(envelope.signature).expect("hexadecimal digits"),
    )
}

fn main() {
    let rounds = std::env::args()
        .nth(1)
        .map_or(1000, |text| text.parse().expect("a number of rounds"));
    let evidence =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/attest/testdata/evidence");
    let samples = [
        (
            "v4",
            "tdx/dcap-qvl/v4-b0c06f",
            "b0c06f-2025-06-dcap-qvl",
            "2025-07-04T10:16:31Z",
        ),
        (
            "v5",
            "tdx/go-tdx-guest/v5-90c06f",
            "90c06f-2026-02-dcap-qvl",
            "2026-03-05T10:50:03Z",
        ),
    ];
    println!("{rounds} rounds, in turn");
    println!(
        "{:<42} {:>9} {:>9} {:>9} {:>9} {:>7} {:>6}",
        "", "min us", "p50 us", "p90 us", "peak KiB", "allocs", "verify"
    );
    for (name, quote, collateral, at) in samples {
        let file = |file: &str| {
            std::fs::read(evidence.join("tdx-collateral").join(collateral).join(file))
                .expect("a file of the evidence")
        };
        let quote = std::fs::read(evidence.join(quote).join("quote.bin")).expect("a quote");
        compare(name, &quote, &file, at, rounds);
    }
}

fn compare(name: &str, quote: &[u8], file: &dyn Fn(&str) -> Vec<u8>, at: &str, rounds: usize) {
    let tcb_info = file("tcb_info.json");
    let qe_identity = file("qe_identity.json");
    let tcb_chain = file("tcb_signing_chain.pem");
    let qe_chain = file("qe_identity_signing_chain.pem");
    let pck_crl = file("pck_crl.der");
    let root_ca_crl = file("root_ca_crl.der");
    let crls = [&*pck_crl, &*root_ca_crl];
    let ours = Collateral {
        tcb_info: &tcb_info,
        tcb_info_chain: &tcb_chain,
        qe_identity: &qe_identity,
        qe_identity_chain: &qe_chain,
        crls: &crls,
    };
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("PEM");
    let (tcb_body, tcb_signature) = statement(&tcb_info);
    let (qe_body, qe_signature) = statement(&qe_identity);
    let theirs = QuoteCollateralV3 {
        pck_crl_issuer_chain: text(&file("pck_crl_issuer_chain.pem")),
        root_ca_crl: root_ca_crl.clone(),
        pck_crl: pck_crl.clone(),
        tcb_info_issuer_chain: text(&tcb_chain),
        tcb_info: tcb_body,
        tcb_info_signature: tcb_signature,
        qe_identity_issuer_chain: text(&qe_chain),
        qe_identity: qe_body,
        qe_identity_signature: qe_signature,
        pck_certificate_chain: None,
    };

    let body = Quote::parse(quote).expect("a quote").body().clone();
    let requirements = Requirements::new(Launch {
        mrtd: Accepted::AnyOf(vec![body.mrtd]),
        rtmrs: body.rtmrs.map(|rtmr| Accepted::AnyOf(vec![rtmr])),
    });
    let report_data = ReportData::new(*body.report_data.as_bytes());
    let roots = Roots::intel();
    let timestamp = at.parse().expect("a time");
    let appraise = |endorsements: &Endorsements, cache: &PathCache| {
        let mut findings = Findings::new();
        let trust = Trust {
            roots: &roots,
            cache,
            now: timestamp,
        };
        attest::tdx::appraise(
            quote,
            endorsements,
            &requirements,
            &report_data,
            &trust,
            &mut findings,
        )
        .unwrap_or_else(|_| panic!("{findings}"))
    };
    let seconds = u64::try_from(seconds(at)).expect("a time after 1970");
    let root = roots.certificates()[0].der().to_vec();

    // four beside the chains: two statements, the QE report, the quote
    let fresh = PathCache::default();
    appraise(&Endorsements::parse(&ours).expect("collateral"), &fresh);
    let cold_verifications = fresh.len() + 4;
    let counted = QuoteVerifier::<Counted>::new_with_config(root.clone());
    VERIFICATIONS.store(0, Ordering::Relaxed);
    counted.verify(quote, &theirs, seconds).expect("accepted");
    let their_verifications = VERIFICATIONS.load(Ordering::Relaxed);

    let certificate = Certificate::parse(&root).expect("a root");
    let bare = bare_signature(certificate.public_key());
    let kept = Endorsements::parse(&ours).expect("collateral");
    let warm = PathCache::default();
    appraise(&kept, &warm);

    let verifier = QuoteVerifier::new_prod().with_config::<dcap_qvl::configs::RingConfig>();
    let mut figures: [Figures; 5] = Default::default();
    let [bare_figures, cold, kept_figures, warm_figures, other] = &mut figures;
    for _ in 0..rounds {
        bare_figures.measure(&bare);
        cold.measure(|| {
            let endorsements = Endorsements::parse(&ours).expect("collateral");
            appraise(&endorsements, &PathCache::default())
        });
        kept_figures.measure(|| appraise(&kept, &PathCache::default()));
        warm_figures.measure(|| appraise(&kept, &warm));
        other.measure(|| verifier.verify(quote, &theirs, seconds).expect("accepted"));
    }
    bare_figures.print(&format!("{name}: one bare P-256 verification"), 1);
    other.print(
        &format!("{name}: dcap-qvl 0.7.1 (ring)"),
        their_verifications,
    );
    cold.print(&format!("{name}: ours, cold"), cold_verifications);
    kept_figures.print(
        &format!("{name}: ours, collateral kept, chain cold"),
        cold_verifications - 2,
    );
    warm_figures.print(&format!("{name}: ours, chain cached"), 2);
}

/// One verification that fails at the last step: as much work as one that succeeds.
fn bare_signature(key: &PublicKey) -> impl Fn() + '_ {
    let mut signature = [0x11; 64];
    signature[0] = 0x7f;
    move || {
        let verdict = key.verify(
            SignatureScheme::EcdsaP256Sha256Fixed,
            &[0x5a; 632],
            &signature,
        );
        assert!(verdict.is_err());
    }
}

/// Seconds since 1970 of `YYYY-MM-DDThh:mm:ssZ`.
fn seconds(at: &str) -> i64 {
    let part = |from: usize, to: usize| at[from..to].parse::<i64>().expect("digits");
    let (year, month, day) = (part(0, 4), part(5, 7), part(8, 10));
    // days of the civil calendar, with years that begin in March
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    days * 86_400 + part(11, 13) * 3600 + part(14, 16) * 60 + part(17, 19)
}
