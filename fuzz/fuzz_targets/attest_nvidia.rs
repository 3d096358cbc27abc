//! The measurement report of a GPU.
#![cfg_attr(fuzzing, no_main)]

use attest::nvidia::{OpaqueField, Report};

fuzz::fuzz_target!(|bytes: &[u8]| {
    let Ok(report) = Report::parse(bytes) else {
        return;
    };
    for index in report.indexes() {
        assert!(
            report.measurement(index).is_some(),
            "a measurement has a value"
        );
    }
    drop((report.driver().map(str::len), report.vbios()));
    drop(report.opaque(OpaqueField::FIRMWARE_ID).map(<[u8]>::to_vec));
    assert_eq!(&bytes[4..36], report.nonce());
});
