//! A TD quote from a peer: parsed, and appraised under the root that is built in over a binding that no quote has.
#![cfg_attr(fuzzing, no_main)]

use std::sync::LazyLock;

use attest::Findings;
use attest::tdx::{
    Accepted, Collateral, Endorsements, Launch, PckExtensions, Quote, ReportData, Requirements,
    Roots, Trust,
};
use attest::x509::PathCache;

macro_rules! collateral {
    ($file:literal) => {
        include_bytes!(concat!(
            "../../crates/attest/testdata/evidence/tdx-collateral/90c06f-2026-02-dcap-qvl/",
            $file
        ))
    };
}

static ENDORSEMENTS: LazyLock<Endorsements> = LazyLock::new(|| {
    Endorsements::parse(&Collateral {
        tcb_info: collateral!("tcb_info.json"),
        tcb_info_chain: collateral!("tcb_signing_chain.pem"),
        qe_identity: collateral!("qe_identity.json"),
        qe_identity_chain: collateral!("qe_identity_signing_chain.pem"),
        crls: &[collateral!("pck_crl.der"), collateral!("root_ca_crl.der")],
    })
    .expect("collateral of Intel's")
});

static ROOTS: LazyLock<Roots> = LazyLock::new(Roots::intel);
static CACHE: LazyLock<PathCache> = LazyLock::new(PathCache::default);

fuzz::fuzz_target!(|bytes: &[u8]| {
    drop(PckExtensions::parse(bytes));
    if Quote::parse(bytes).is_err() {
        return;
    }
    let requirements = Requirements::new(Launch {
        mrtd: Accepted::Open,
        rtmrs: [const { Accepted::Open }; 4],
    });
    let trust = Trust {
        roots: &ROOTS,
        cache: &CACHE,
        now: "2026-03-05T10:50:03Z".parse().expect("a time"),
    };
    let appraised = attest::tdx::appraise(
        bytes,
        &ENDORSEMENTS,
        &requirements,
        &ReportData::new([0xff; 64]),
        &trust,
        &mut Findings::new(),
    );
    assert!(
        appraised.is_err(),
        "no quote was made over these report data"
    );
});
