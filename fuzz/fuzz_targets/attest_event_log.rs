//! The TCG event log in a peer's evidence.
#![cfg_attr(fuzzing, no_main)]

use attest::event_log::EventLog;
use attest::{PcrValues, Policy, Variant};

fuzz::fuzz_target!(|bytes: &[u8]| {
    if let Ok(log) = EventLog::parse(bytes) {
        let pcrs = log.replay();
        assert!(
            log.unexplained(&pcrs).is_empty(),
            "a log leads to where it leads"
        );
        drop(log.unexplained(&PcrValues::at_reset()));
        drop(Policy::from_own_measurements(
            Variant::QemuVtpm,
            &pcrs,
            bytes,
        ));
    }
});
