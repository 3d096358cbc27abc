//! TPM structures from a peer: key, statement, signature.
#![cfg_attr(fuzzing, no_main)]

use attest::tpm::{PublicArea, Quote, Signature, Statement};

fuzz::fuzz_target!(|bytes: &[u8]| {
    drop(Quote::parse(bytes));
    if let Ok(statement) = Statement::parse(bytes) {
        drop(statement.quote());
    }
    // the key's own length says where it ends, so that one input can hold a key and a signature
    let Some(length) = bytes.first_chunk() else {
        return;
    };
    let (key, signature) = bytes.split_at(
        bytes
            .len()
            .min(2 + usize::from(u16::from_be_bytes(*length))),
    );
    let key = PublicArea::parse(key);
    let signature = Signature::parse(signature);
    if let (Ok(key), Ok(signature)) = (key, signature) {
        assert!(!key.verify(bytes, &signature), "nobody signed the input");
    }
});
