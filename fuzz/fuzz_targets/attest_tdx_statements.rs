//! TCB info, QE identity, chains and CRLs from whoever serves them.
#![cfg_attr(fuzzing, no_main)]

use attest::tdx::{Collateral, Endorsements};

macro_rules! collateral {
    ($file:literal) => {
        include_bytes!(concat!(
            "../../crates/attest/testdata/evidence/tdx-collateral/90c06f-2026-02-dcap-qvl/",
            $file
        ))
    };
}

const GENUINE: Collateral<'_> = Collateral {
    tcb_info: collateral!("tcb_info.json"),
    tcb_info_chain: collateral!("tcb_signing_chain.pem"),
    qe_identity: collateral!("qe_identity.json"),
    qe_identity_chain: collateral!("qe_identity_signing_chain.pem"),
    crls: &[],
};

fuzz::fuzz_target!(|bytes: &[u8]| {
    drop(Endorsements::parse(&Collateral {
        tcb_info: bytes,
        ..GENUINE
    }));
    drop(Endorsements::parse(&Collateral {
        qe_identity: bytes,
        ..GENUINE
    }));
    drop(Endorsements::parse(&Collateral {
        tcb_info_chain: bytes,
        ..GENUINE
    }));
});
