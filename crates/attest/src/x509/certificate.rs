//! One certificate (RFC 5280, 4.1), read from foreign bytes into owned parts.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use jiff::Timestamp;
use thiserror::Error;

use super::der::{DerError, Element, Reader, tag};
use super::extension::{BASIC_CONSTRAINTS, BasicConstraints, Extension, KEY_USAGE, KeyUsage};
use super::name::Name;
use super::oid;
use super::pem;
use super::public_key::{PublicKey, PublicKeyError, SignatureAlgorithm};
use crate::Digest;

/// Bytes of the longest certificate that is read. Those of the vendors have 0.5 to 2.5 KiB.
pub const MAX_CERTIFICATE: usize = 8 * 1024;

/// Why bytes are not a certificate or a CRL of ours.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum X509Error {
    /// More bytes than are read.
    #[error("{what} has more than {most} bytes")]
    TooLarge {
        /// Certificate or CRL.
        what: &'static str,
        /// The bound.
        most: usize,
    },
    /// More certificates than the caller takes.
    #[error("more than {most} certificates")]
    TooMany {
        /// The bound.
        most: usize,
    },
    /// Text that is not a row of PEM blocks.
    #[error("line {line} is not part of a PEM certificate")]
    Pem {
        /// Counted from one.
        line: usize,
    },
    /// A version of certificates or CRLs that does not exist or cannot have what is in it.
    #[error("{what} is of version {version}, which is not supported")]
    Version {
        /// Certificate or CRL.
        what: &'static str,
        /// Counted from one.
        version: u32,
    },
    /// The signature names another algorithm than the signed part.
    #[error("{what} names two signature algorithms")]
    TwoAlgorithms {
        /// Certificate or CRL.
        what: &'static str,
    },
    /// An extension of a CRL or of an entry that is critical, or that makes the list indirect or partial: each changes what the list means.
    #[error("the CRL has the extension {oid}: only complete lists of one issuer are read")]
    CrlExtension {
        /// Its object identifier, dotted.
        oid: String,
    },
    /// A structure inside that is not DER.
    #[error(transparent)]
    Der(#[from] DerError),
    /// The key of this subject cannot be used.
    #[error("the certificate of {subject} has a key that cannot be used")]
    PublicKey {
        /// The subject's name.
        subject: String,
        /// Why.
        #[source]
        cause: PublicKeyError,
    },
}

/// A certificate, as its owner claims it. Copies share the bytes.
#[derive(Clone)]
pub struct Certificate(Arc<Parts>);

struct Parts {
    der: Box<[u8]>,
    digest: Digest,
    signed: Signed,
    serial: Box<[u8]>,
    issuer: Name,
    subject: Name,
    not_before: Timestamp,
    not_after: Timestamp,
    spki: Box<[u8]>,
    public_key: PublicKey,
    extensions: Box<[Extension<Box<[u8]>>]>,
    basic_constraints: BasicConstraints,
    key_usage: Option<KeyUsage>,
}

/// What an issuer signed, and its signature.
#[derive(Debug)]
pub(crate) struct Signed {
    pub(crate) message: Box<[u8]>,
    pub(crate) algorithm: SignatureAlgorithm,
    pub(crate) signature: Box<[u8]>,
}

/// The frame that certificates and CRLs share: what is signed, its reader, and the rest.
pub(crate) struct Frame<'a> {
    pub(crate) fields: Reader<'a>,
    to_be_signed: Element<'a>,
    algorithm: Element<'a>,
    signature: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(crate) fn open(contents: &'a [u8], what: &'static str) -> Result<Self, X509Error> {
        let mut outer = Reader::new(contents);
        let to_be_signed = outer.element(what, tag::SEQUENCE)?;
        let algorithm = outer.element(what, tag::SEQUENCE)?;
        let signature = outer.bit_octets(what)?;
        outer.finish(what)?;
        Ok(Self {
            fields: Reader::new(to_be_signed.contents),
            to_be_signed,
            algorithm,
            signature,
        })
    }

    /// The `signature` field, which must repeat the algorithm outside (4.1.1.2): the one outside is not signed.
    pub(crate) fn read_algorithm(&mut self, what: &'static str) -> Result<(), X509Error> {
        let inner = self.fields.element(what, tag::SEQUENCE)?;
        if inner.encoding != self.algorithm.encoding {
            return Err(X509Error::TwoAlgorithms { what });
        }
        Ok(())
    }

    pub(crate) fn signed(&self) -> Result<Signed, X509Error> {
        Ok(Signed {
            message: self.to_be_signed.encoding.into(),
            algorithm: SignatureAlgorithm::read(Reader::new(self.algorithm.contents))?,
            signature: self.signature.into(),
        })
    }
}

impl Certificate {
    /// Reads one certificate of at most [`MAX_CERTIFICATE`] bytes with nothing behind it.
    ///
    /// # Errors
    ///
    /// If the bytes are anything else, or hold a key that is neither RSA nor ECDSA over P-256 or P-384.
    pub fn parse(der: &[u8]) -> Result<Self, X509Error> {
        let (certificate, rest) = Self::parse_prefix(der)?;
        Reader::new(rest).finish(WHAT)?;
        Ok(certificate)
    }

    /// Reads the certificate that `bytes` begin with, and gives back what follows it: the next certificate of a chain, or the padding
    /// of a TPM's NV index.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`].
    pub fn parse_prefix(bytes: &[u8]) -> Result<(Self, &[u8]), X509Error> {
        let mut reader = Reader::new(bytes);
        let element = reader.element(WHAT, tag::SEQUENCE)?;
        if element.encoding.len() > MAX_CERTIFICATE {
            return Err(X509Error::TooLarge {
                what: WHAT,
                most: MAX_CERTIFICATE,
            });
        }
        Ok((Self::read(&element)?, reader.rest()))
    }

    /// Reads a row of PEM blocks, at most `most` certificates. Text before, between and behind them is passed over (RFC 7468, 2).
    ///
    /// # Errors
    ///
    /// If a block is not closed, not Base64 or not a certificate, or if there are more than `most`. No block at all is no error, but an
    /// empty list.
    pub fn chain_from_pem(text: &[u8], most: usize) -> Result<Vec<Self>, X509Error> {
        pem::certificates(text, most)
    }

    fn read(element: &Element<'_>) -> Result<Self, X509Error> {
        let mut frame = Frame::open(element.contents, WHAT)?;
        let version = match frame
            .fields
            .optional("the version", tag::context_constructed(0))?
        {
            Some(contents) => {
                let mut outer = Reader::new(contents);
                let version = outer.small_integer("the version")?;
                outer.finish("the version")?;
                version.saturating_add(1)
            }
            None => 1,
        };
        let unsupported = X509Error::Version {
            what: WHAT,
            version,
        };
        if version > 3 {
            return Err(unsupported);
        }
        let serial = frame.fields.contents("the serial number", tag::INTEGER)?;
        frame.read_algorithm(WHAT)?;
        let fields = &mut frame.fields;
        let issuer = Name::read(fields, "the issuer")?;
        let mut validity = fields.sequence("the validity")?;
        let not_before = validity.time("the start of validity")?;
        let not_after = validity.time("the end of validity")?;
        validity.finish("the validity")?;
        let subject = Name::read(fields, "the subject")?;
        let spki = fields.element("the public key", tag::SEQUENCE)?.encoding;
        // unique identifiers of version 2, which nobody uses any more
        fields.optional("the issuer's identifier", tag::context(1))?;
        fields.optional("the subject's identifier", tag::context(2))?;
        let extensions = match fields.optional("the extensions", tag::context_constructed(3))? {
            Some(_) if version < 3 => return Err(unsupported),
            Some(contents) => Extension::read_all(Reader::new(contents), "the extensions")?,
            None => Vec::new(),
        };
        fields.clone().finish(WHAT)?;
        let public_key = PublicKey::from_spki(spki).map_err(|cause| X509Error::PublicKey {
            subject: subject.to_string(),
            cause,
        })?;
        let value =
            |oid: [u8; 3]| Extension::find(&extensions, &oid).map(|extension| extension.value);
        let basic_constraints = value(BASIC_CONSTRAINTS)
            .map(BasicConstraints::parse)
            .transpose()?
            .unwrap_or_default();
        let key_usage = value(KEY_USAGE).map(KeyUsage::parse).transpose()?;
        let signed = frame.signed()?;
        Ok(Self(Arc::new(Parts {
            der: element.encoding.into(),
            digest: Digest::of(element.encoding),
            signed,
            serial: serial.into(),
            issuer,
            subject,
            not_before,
            not_after,
            spki: spki.into(),
            public_key,
            extensions: extensions.iter().map(Extension::to_owned).collect(),
            basic_constraints,
            key_usage,
        })))
    }

    /// The encoding.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0.der
    }

    /// SHA-256 of the encoding.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// Whose key this is.
    #[must_use]
    pub fn subject(&self) -> &Name {
        &self.0.subject
    }

    /// Who says so.
    #[must_use]
    pub fn issuer(&self) -> &Name {
        &self.0.issuer
    }

    /// The contents octets of the serial number, as they stand: big endian, two's complement.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.0.serial
    }

    /// The first second of validity.
    #[must_use]
    pub fn not_before(&self) -> Timestamp {
        self.0.not_before
    }

    /// The last second of validity. [`Timestamp::MAX`] if there is no end.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.0.not_after
    }

    /// The subject's key.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public_key
    }

    /// The encoding of the `SubjectPublicKeyInfo`.
    #[must_use]
    pub fn spki(&self) -> &[u8] {
        &self.0.spki
    }

    /// The value octets of the extension with this dotted object identifier.
    #[must_use]
    pub fn extension(&self, oid: &str) -> Option<&[u8]> {
        self.extension_of(&oid::encoded(oid)?)
    }

    /// The value octets of the extension with these contents octets of an object identifier.
    pub(crate) fn extension_of(&self, oid: &[u8]) -> Option<&[u8]> {
        Extension::find(&self.0.extensions, oid).map(|extension| &*extension.value)
    }

    /// Whether the basic constraints say that the subject is an authority.
    #[must_use]
    pub fn is_ca(&self) -> bool {
        self.0.basic_constraints.is_ca
    }

    /// The basic constraints; those of a certificate without the extension allow nothing.
    #[must_use]
    pub fn basic_constraints(&self) -> BasicConstraints {
        self.0.basic_constraints
    }

    /// What the key may be used for; `None`: the certificate does not say.
    #[must_use]
    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.0.key_usage
    }

    /// Whether subject and issuer are one.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.0.subject == self.0.issuer
    }

    /// Whether `issuer` has the name and the key that made this. Nothing else is judged: not who that is, nor whether it may issue. For who has
    /// to choose among certificates that came along; who appraises uses [`crate::x509::Path::build`].
    #[must_use]
    pub fn is_made_by(&self, issuer: &Self) -> bool {
        let (signed, key) = (self.signed(), issuer.public_key());
        let is_named = *self.issuer() == *issuer.subject();
        is_named
            && signed.algorithm.scheme(key).is_some_and(|scheme| {
                key.verify(scheme, &signed.message, &signed.signature)
                    .is_ok()
            })
    }

    pub(crate) fn critical_extensions(&self) -> impl Iterator<Item = &Extension<Box<[u8]>>> {
        self.0
            .extensions
            .iter()
            .filter(|extension| extension.critical)
    }

    pub(crate) fn signed(&self) -> &Signed {
        &self.0.signed
    }
}

/// The word in errors.
const WHAT: &str = "the certificate";

impl PartialEq for Certificate {
    /// Byte by byte.
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl Hash for Certificate {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.der.hash(state);
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({})", self.0.subject)
    }
}
