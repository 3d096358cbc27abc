//! The record of an admitted node, as the API server gives it back.
#![cfg_attr(fuzzing, no_main)]

use cluster::identity::NodeIdentity;

fuzz::fuzz_target!(|bytes: &[u8]| {
    if let Ok(identity) = serde_json::from_slice::<NodeIdentity>(bytes) {
        let written = serde_json::to_vec(&identity).expect("a record is JSON");
        assert_eq!(
            serde_json::from_slice(&written).ok(),
            Some(identity),
            "what is written reads back"
        );
    }
});
