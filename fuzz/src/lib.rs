//! One source for two fuzzers.
//!
//! A target is a file in `fuzz_targets/` with one [`fuzz_target!`] and a directory of the same name in `seeds/`, whose
//! files are where mutation starts. Built by `cargo fuzz` (which sets `--cfg fuzzing`) it is a libFuzzer target, guided
//! by coverage. Built plainly it is a program that runs every seed and then random mutations of them for
//! `--seconds N`; that needs neither C++ nor a nightly compiler and is what CI runs as a smoke test. It exits with 1,
//! and writes the input to `artifacts/<target>/`, when an input panics or takes longer than [`plain::SLOW`].

#[cfg(fuzzing)]
pub use libfuzzer_sys;

#[cfg(not(fuzzing))]
pub mod plain;

/// Declares the function under test: `fuzz_target!(|bytes: &[u8]| { ... });`, beside `#![cfg_attr(fuzzing, no_main)]`.
#[cfg(fuzzing)]
#[macro_export]
macro_rules! fuzz_target {
    (|$bytes:ident: &[u8]| $body:expr) => {
        use $crate::libfuzzer_sys;
        $crate::libfuzzer_sys::fuzz_target!(|$bytes: &[u8]| $body);
    };
}

/// Declares the function under test: `fuzz_target!(|bytes: &[u8]| { ... });`, beside `#![cfg_attr(fuzzing, no_main)]`.
#[cfg(not(fuzzing))]
#[macro_export]
macro_rules! fuzz_target {
    (|$bytes:ident: &[u8]| $body:expr) => {
        fn main() -> ::std::process::ExitCode {
            $crate::plain::run(env!("CARGO_BIN_NAME"), |$bytes: &[u8]| {
                let () = $body;
            })
        }
    };
}
