//! Frames of the attested channel and the messages in them: every byte a peer sends before it is known.
#![cfg_attr(fuzzing, no_main)]

fuzz::fuzz_target!(|bytes: &[u8]| channel::fuzz::frame(bytes));
