//! The files people write: config and state.
#![cfg_attr(fuzzing, no_main)]

use cluster::config::Config;
use cluster::state::State;

fuzz::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        if let Err(problems) = Config::parse("f", text) {
            assert!(!problems.list().is_empty(), "a refusal without a reason");
        }
        match State::parse("f", text) {
            Ok(state) => assert_eq!(
                State::parse("f", &state.expose_yaml()),
                Ok(state),
                "what is written reads back"
            ),
            Err(problems) => assert!(!problems.list().is_empty(), "a refusal without a reason"),
        }
    }
});
