//! X.509 certificates, revocation lists, and the proof that a certificate leads to a root of ours (RFC 5280).
//!
//! [`Certificate::parse`] and [`Crl::parse`] say only what bytes claim. [`Path::build`] is the one place where a certificate gains trust:
//! what demands a [`Path`] demands that every signature, validity, authority and revocation on the way to a root was checked. It does
//! not know what a certificate is for: extensions of a vendor, and the names of the leaf, are the business of the variant.
//!
//! The reader is our own, over `der`: certificates of TPM and CPU makers have oddities that libraries for the web refuse (sets out of
//! order, serial numbers below zero, padding behind the certificate), and a verifier in the initramfs should carry no more than it needs.

mod cache;
mod certificate;
mod crl;
pub(crate) mod der;
mod extension;
mod name;
mod oid;
mod path;
mod pem;
mod public_key;

pub use cache::PathCache;
pub use certificate::{Certificate, MAX_CERTIFICATE, X509Error};
pub use crl::{Crl, MAX_CRL};
pub use der::DerError;
pub use extension::{BasicConstraints, KeyUsage};
pub use name::Name;
pub use path::{
    CrlFault, CrlScope, MAX_INTERMEDIATES, MAX_PATH, Path, PathError, PathRules, Revocation,
};
pub use public_key::{BadSignature, PublicKey, PublicKeyError, RsaKey, SignatureScheme};
