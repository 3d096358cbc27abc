//! Certificate revocation lists (RFC 5280, 5): complete lists of one issuer. Indirect lists, lists of changes and parts of lists do not
//! parse, because what such a list does not name may be revoked all the same.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use super::certificate::{Certificate, Frame, Signed, X509Error};
use super::der::{DerError, Reader, tag};
use super::extension::{Extension, id_ce};
use super::name::Name;
use super::path::CrlFault;
use crate::Digest;

/// Bytes of the longest CRL that is read: some thirty thousand entries.
pub const MAX_CRL: usize = 1024 * 1024;

/// The word in errors.
const WHAT: &str = "the CRL";

/// `cRLNumber` (5.2.3).
const NUMBER: [u8; 3] = id_ce(20);

/// A list of revoked certificates, as its issuer claims it. [`crate::x509::Path::build`] checks signature and time.
/// Copies share the list.
#[derive(Clone)]
pub struct Crl(Arc<Parts>);

struct Parts {
    digest: Digest,
    signed: Signed,
    issuer: Name,
    this_update: Timestamp,
    next_update: Option<Timestamp>,
    /// Sorted, without leading zeros.
    revoked: Vec<Box<[u8]>>,
    number: Option<Box<[u8]>>,
}

impl Crl {
    /// Reads a CRL of at most [`MAX_CRL`] bytes with nothing behind it.
    ///
    /// # Errors
    ///
    /// If the bytes are anything else, or if the list or an entry has a critical extension or one that marks a list as other than the
    /// complete list of its issuer.
    pub fn parse(der: &[u8]) -> Result<Self, X509Error> {
        if der.len() > MAX_CRL {
            return Err(X509Error::TooLarge {
                what: WHAT,
                most: MAX_CRL,
            });
        }
        let mut outer = Reader::new(der);
        let contents = outer.contents(WHAT, tag::SEQUENCE)?;
        outer.finish(WHAT)?;
        let mut frame = Frame::open(contents, WHAT)?;
        let version = match frame.fields.peek() {
            Some(tag::INTEGER) => frame.fields.small_integer("the version")?.saturating_add(1),
            _ => 1,
        };
        if version > 2 {
            return Err(X509Error::Version {
                what: WHAT,
                version,
            });
        }
        frame.read_algorithm(WHAT)?;
        let fields = &mut frame.fields;
        let issuer = Name::read(fields, "the issuer")?;
        let this_update = fields.time("the time of issue")?;
        let next_update = match fields.peek() {
            Some(tag::UTC_TIME | tag::GENERALIZED_TIME) => {
                Some(fields.time("the time of the next issue")?)
            }
            _ => None,
        };
        let mut revoked = match fields.optional("the entries", tag::SEQUENCE)? {
            Some(contents) => entries(contents)?,
            None => Vec::new(),
        };
        revoked.sort_unstable();
        let extensions = match fields.optional("the extensions", tag::context_constructed(0))? {
            Some(contents) => Extension::read_all(Reader::new(contents), "the extensions")?,
            None => Vec::new(),
        };
        fields.clone().finish(WHAT)?;
        refuse_partial(&extensions)?;
        let number = Extension::find(&extensions, &NUMBER)
            .map(|extension| {
                let mut outer = Reader::new(extension.value);
                let number = outer.contents("the CRL number", tag::INTEGER)?;
                outer.finish("the CRL number")?;
                Ok::<_, DerError>(number.into())
            })
            .transpose()?;
        Ok(Self(Arc::new(Parts {
            digest: Digest::of(der),
            signed: frame.signed()?,
            issuer,
            this_update,
            next_update,
            revoked,
            number,
        })))
    }

    /// Whose certificates it is about.
    #[must_use]
    pub fn issuer(&self) -> &Name {
        &self.0.issuer
    }

    /// When it was made.
    #[must_use]
    pub fn this_update(&self) -> Timestamp {
        self.0.this_update
    }

    /// When there will be another one.
    #[must_use]
    pub fn next_update(&self) -> Option<Timestamp> {
        self.0.next_update
    }

    /// The contents octets of the CRL number (5.2.3), which grows from list to list.
    #[must_use]
    pub fn number(&self) -> Option<&[u8]> {
        self.0.number.as_deref()
    }

    /// How many certificates it revokes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.revoked.len()
    }

    /// Whether it revokes none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.revoked.is_empty()
    }

    /// Whether it revokes the certificate of this serial number, given by its contents octets. An entry counts whatever its reason.
    #[must_use]
    pub fn revokes(&self, serial: &[u8]) -> bool {
        let serial = canonical(serial);
        self.0
            .revoked
            .binary_search_by(|revoked| (**revoked).cmp(serial))
            .is_ok()
    }

    /// Whether `issuer` made it: its name, and a signature by its key, which may sign CRLs. Neither the list's time nor the
    /// certificate itself is judged here. For who keeps lists; who appraises uses [`crate::x509::Path::build`].
    ///
    /// # Errors
    ///
    /// [`CrlFault::MayNotSign`], [`CrlFault::Algorithm`] or [`CrlFault::Signature`].
    pub fn check_signature(&self, issuer: &Certificate) -> Result<(), CrlFault> {
        if issuer.key_usage().is_some_and(|usage| !usage.crl_sign()) {
            return Err(CrlFault::MayNotSign);
        }
        if self.0.issuer != *issuer.subject() {
            return Err(CrlFault::Signature);
        }
        let key = issuer.public_key();
        let scheme = self
            .0
            .signed
            .algorithm
            .scheme(key)
            .ok_or(CrlFault::Algorithm)?;
        key.verify(scheme, &self.0.signed.message, &self.0.signed.signature)
            .map_err(|_| CrlFault::Signature)
    }

    pub(crate) fn digest(&self) -> Digest {
        self.0.digest
    }

    pub(crate) fn signed(&self) -> &Signed {
        &self.0.signed
    }
}

fn entries(contents: &[u8]) -> Result<Vec<Box<[u8]>>, X509Error> {
    const FIELD: &str = "an entry of the CRL";
    let mut revoked = Vec::new();
    let mut list = Reader::new(contents);
    while !list.is_empty() {
        let mut entry = list.sequence(FIELD)?;
        let serial = entry.contents(FIELD, tag::INTEGER)?;
        entry.time(FIELD)?;
        if !entry.is_empty() {
            refuse_partial(&Extension::read_all(entry, FIELD)?)?;
        }
        revoked.push(canonical(serial).into());
    }
    Ok(revoked)
}

/// `deltaCRLIndicator`, `issuingDistributionPoint` and, of an entry, `certificateIssuer`. They must be critical (5.2.4, 5.2.5, 5.3.3); one
/// that is not says the same.
const PARTIAL: [[u8; 3]; 3] = [id_ce(27), id_ce(28), id_ce(29)];

fn refuse_partial(extensions: &[Extension<&[u8]>]) -> Result<(), X509Error> {
    let refused = extensions
        .iter()
        .find(|it| it.critical || PARTIAL.iter().any(|oid| it.oid == oid));
    match refused {
        None => Ok(()),
        Some(extension) => Err(X509Error::CrlExtension {
            oid: extension.dotted(),
        }),
    }
}

/// A serial number without leading zeros: authorities differ about them, and a certificate must not escape its entry by one.
fn canonical(serial: &[u8]) -> &[u8] {
    let zeros = serial.iter().take_while(|byte| **byte == 0).count();
    serial.get(zeros..).unwrap_or_default()
}

impl fmt::Debug for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Crl({}, {}, {} entries)",
            self.0.issuer,
            self.0.this_update,
            self.len()
        )
    }
}
