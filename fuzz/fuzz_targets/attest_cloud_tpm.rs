//! What clouds vouch for a TPM's key with: Azure's HCL report, Google's instance information, and signatures as tools save them.
#![cfg_attr(fuzzing, no_main)]

use attest::azure::{HclReport, RuntimeClaims};
use attest::gcp::InstanceInfo;
use attest::tpm::{PublicKey, Signature, Statement};

fuzz::fuzz_target!(|bytes: &[u8]| {
    if let Ok(report) = HclReport::parse(bytes) {
        // what is read is inside the input, and binds to nothing but itself
        assert!(report.runtime_data().len() < bytes.len());
        assert!(report.bind(&report.expected_report_data()).is_ok());
        assert!(report.bind(&[0; 64]).is_err());
    }
    drop(RuntimeClaims::parse(bytes));
    drop(InstanceInfo::parse(bytes));
    if let Ok(statement) = Statement::parse_bare(bytes) {
        drop(statement.quote());
    }
    for key in [PublicKey::P256([4; 65]), PublicKey::P384([4; 97])] {
        drop(Signature::parse_any_form(&key, bytes));
    }
});
