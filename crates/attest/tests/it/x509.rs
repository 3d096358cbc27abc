//! Certificates, CRLs and paths: those of the vendors, and those of a test authority with one named lie each.

pub(crate) mod ca;
mod keys;
mod nesting;
mod parse;
mod paths;
mod real;
mod revocation;

use std::path::PathBuf;

use attest::x509::{Certificate, Crl};
use jiff::Timestamp;

/// A file of the samples, or of the certificates made for the tests.
pub(crate) fn sample(name: &str) -> Vec<u8> {
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("testdata")
        .join(name);
    std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn certificate(name: &str) -> Certificate {
    Certificate::parse(&sample(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn chain(name: &str) -> Vec<Certificate> {
    Certificate::chain_from_pem(&sample(name), 8).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn crl(name: &str) -> Crl {
    Crl::parse(&sample(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

pub(crate) fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}
