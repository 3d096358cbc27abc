//! What a host answers to a machine that makes evidence: a quote service, and a metadata service.
#![cfg_attr(fuzzing, no_main)]

use tee::metadata::Answer;
use tee::quote_service::quote_in;

fuzz::fuzz_target!(|bytes: &[u8]| {
    if let Ok(quote) = quote_in(bytes) {
        assert!(bytes.ends_with(&quote), "the quote is the end of it");
    }
    if let Ok(answer) = Answer::parse(bytes) {
        assert!(answer.body().len() < bytes.len(), "nothing is made up");
    }
});
