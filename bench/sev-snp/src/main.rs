//! What the appraisal of one SEV-SNP report costs, beside one bare P-384 verification of two libraries and beside the crate `sev`, in one run.
//!
//! The evidence is a real Genoa's. Rounds of each row take turns, so that whatever else the machine does meets all of them; a row's time is
//! the lowest of its rounds. Heap is what one call asks the Rust allocator for: what aws-lc takes with `malloc` is not in it. Signatures are
//! counted by the entries that a cache of ours gains, and for `sev` by reading its `Verifiable` for `Chain` (the root by itself, the signing
//! key, the chip's key) and for a report.

use std::alloc::System;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use attest::Findings;
use attest::sev_snp::{
    Accepted, AcceptedLine, AcceptedLines, Endorsements, IdKeyDigests, LaunchMeasurements,
    ProductLine, Report, ReportData, Requirements, RevocationDemand, Roots, Tcb, Trust, appraise,
};
use attest::x509::{Certificate, PathCache, PublicKey};
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use p384::ecdsa::signature::Verifier as _;
use sev::certs::snp::{Chain, Verifiable as _, builtin, ca};
use sev::firmware::guest::AttestationReport;
use sev::parser::ByteParser as _;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const REPORT: &[u8] =
    include_bytes!("../../../crates/attest/testdata/evidence/snp-vcek/oak/genoa-v5/report.bin");
const VEK: &[u8] =
    include_bytes!("../../../crates/attest/testdata/evidence/snp-vcek/oak/genoa-v5/vek.der");

const ROUNDS: u32 = 500;
/// Few enough that most rounds end before the scheduler gives the processor to somebody else.
const CALLS: u32 = 4;

struct Row<'a> {
    name: &'static str,
    signatures: usize,
    call: Box<dyn Fn() + 'a>,
    best: Duration,
}

fn main() {
    let report = Report::parse(REPORT).expect("the sample parses");
    let vek = Certificate::parse(VEK).expect("the sample parses");
    let PublicKey::P384(point) = vek.public_key() else {
        panic!("a chip's key is P-384");
    };
    let (signed, signature) = (report.signed(), report.signature());
    let ours = Ours::new(&report, &vek);

    let bare_key = UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point.as_slice());
    let rust_key = p384::ecdsa::VerifyingKey::from_sec1_bytes(point).expect("a point");
    let rust_signature = p384::ecdsa::Signature::from_slice(signature).expect("a signature");

    let chain = Chain {
        ca: ca::Chain {
            ark: builtin::genoa::ark().expect("built in"),
            ask: builtin::genoa::ask().expect("built in"),
        },
        vek: sev::certs::snp::Certificate::from_der(VEK).expect("the sample parses"),
    };

    let warm = PathCache::default();
    let cold = || PathCache::new(NonZeroUsize::new(8).expect("not zero"));
    let first = ours.signatures(&warm);
    let again = ours.signatures(&warm);
    let mut rows = vec![
        row("bare P-384, aws-lc-rs", 1, || {
            bare_key.verify(signed, signature).expect("AMD signed it");
        }),
        row("bare P-384, p384", 1, || {
            rust_key
                .verify(signed, &rust_signature)
                .expect("AMD signed it");
        }),
        row("ours, chain cached", again, || ours.appraise(&warm)),
        row("ours, nothing cached", first, || ours.appraise(&cold())),
        row("sev 8, chain believed", 1, || {
            let report = AttestationReport::from_bytes(REPORT).expect("parses");
            let vek = sev::certs::snp::Certificate::from_der(VEK).expect("parses");
            (&vek, &report).verify().expect("AMD signed it");
        }),
        row("sev 8, whole chain", 4, || {
            let report = AttestationReport::from_bytes(REPORT).expect("parses");
            (&chain, &report).verify().expect("AMD signed it");
        }),
    ];
    for round in 0..=ROUNDS {
        for row in &mut rows {
            let time = timed(&row.call);
            // the first warms up
            if round > 0 {
                row.best = row.best.min(time);
            }
        }
    }
    print(&rows);
}

/// Our appraisal, as a verifier makes it: roots and requirements are at hand, report and certificate are bytes.
struct Ours<'a> {
    vek: &'a Certificate,
    roots: Roots,
    requirements: Requirements,
    report_data: ReportData,
}

impl<'a> Ours<'a> {
    fn new(report: &Report, vek: &'a Certificate) -> Self {
        let fields = report.fields();
        let minimum = Tcb::milan_genoa(10, 0, 23, 27);
        let line = AcceptedLine::new(ProductLine::Genoa, minimum, minimum).expect("a minimum");
        Self {
            vek,
            roots: Roots::amd(),
            requirements: Requirements::new(
                AcceptedLines::new([line]).expect("one line"),
                LaunchMeasurements::Enforce(
                    Accepted::new(vec![fields.measurement]).expect("one value"),
                ),
                IdKeyDigests::NotDemanded,
            )
            .allow_smt()
            .revocation(RevocationDemand::Warn),
            report_data: ReportData::new(fields.report_data),
        }
    }

    fn appraise(&self, cache: &PathCache) {
        let mut findings = Findings::new();
        let appraised = appraise(
            black_box(REPORT),
            &Endorsements {
                vek: black_box(VEK),
                signing: &[],
                crls: &[],
            },
            &self.requirements,
            &self.report_data,
            &Trust {
                roots: &self.roots,
                cache,
                now: self.vek.not_before(),
            },
            &mut findings,
        );
        assert!(appraised.is_ok(), "{findings}");
    }

    /// Of certificates, which the cache then knows, and of the report.
    fn signatures(&self, cache: &PathCache) -> usize {
        let before = cache.len();
        self.appraise(cache);
        cache.len() - before + 1
    }
}

fn row<'a>(name: &'static str, signatures: usize, call: impl Fn() + 'a) -> Row<'a> {
    Row {
        name,
        signatures,
        call: Box::new(call),
        best: Duration::MAX,
    }
}

/// The mean of one round.
fn timed(call: &dyn Fn()) -> Duration {
    let started = Instant::now();
    for _ in 0..CALLS {
        call();
    }
    started.elapsed() / CALLS
}

fn print(rows: &[Row<'_>]) {
    let bare = rows.iter().take(2).map(|row| row.best).min();
    let bare = bare.expect("two bare rows").as_secs_f64();
    println!("| what | µs | times the fastest bare | signatures | allocations | heap, bytes |");
    println!("|---|---|---|---|---|---|");
    for row in rows {
        let region = Region::new(ALLOCATOR);
        (row.call)();
        let heap = region.change();
        println!(
            "| {} | {:.1} | {:.2} | {} | {} | {} |",
            row.name,
            row.best.as_secs_f64() * 1e6,
            row.best.as_secs_f64() / bare,
            row.signatures,
            heap.allocations,
            heap.bytes_allocated
        );
    }
}
