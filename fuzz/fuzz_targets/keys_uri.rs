//! The two URIs with which an administrator tells a node how keys are managed.
#![cfg_attr(fuzzing, no_main)]

use keys::uri::{expose_cluster_kms, parse_kms, parse_storage};

fuzz::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        match parse_kms(text) {
            Ok((secret, salt)) => {
                let written = expose_cluster_kms(&secret, &salt);
                assert_eq!(
                    parse_kms(&written),
                    Ok((secret, salt)),
                    "what is written reads back"
                );
            }
            Err(error) => drop(error.to_string()),
        }
        drop(parse_storage(text));
    }
});
