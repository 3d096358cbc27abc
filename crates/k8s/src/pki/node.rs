//! A control-plane node's own certificates: made at init and join, renewed by the node agent.

use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::lifetime::Validity;
use super::{Authorities, Leaf, Lifetime, NodeNames, PkiError};
use crate::files::{self, File, FileError};

/// The certificates of one control-plane node, below one directory.
#[derive(Debug)]
pub struct Pki {
    authorities: Authorities,
    names: NodeNames,
    directory: PathBuf,
    lifetime: Lifetime,
}

/// A certificate that was renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// Which.
    pub leaf: Leaf,
    /// Until when the new one is valid.
    pub not_after: Timestamp,
}

impl Pki {
    /// The PKI of the node called `names` in `directory` (`/etc/kubernetes/pki`).
    pub fn new(authorities: Authorities, names: NodeNames, directory: impl Into<PathBuf>) -> Self {
        Self {
            authorities,
            names,
            directory: directory.into(),
            lifetime: Lifetime::DAY,
        }
    }

    /// The same with leaf certificates that live shorter than a day.
    #[must_use]
    pub const fn with_lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// Opens what is on disk. For a node that has its certificates: other authorities than those would split the cluster.
    pub fn open(names: NodeNames, directory: &Path) -> Result<Self, PkiError> {
        Ok(Self::new(Authorities::load(directory)?, names, directory))
    }

    /// Opens what is on disk, or makes new authorities when there are none yet. Idempotent.
    pub fn open_or_generate(
        cluster_name: &str,
        names: NodeNames,
        directory: &Path,
        now: Timestamp,
    ) -> Result<Self, PkiError> {
        // the service account key is written last: where it is, everything is
        let last = directory.join(super::SERVICE_ACCOUNT_PUBLIC);
        let exists = last.try_exists().map_err(|source| FileError {
            operation: "look for",
            path: last,
            source,
        })?;
        if exists {
            return Self::open(names, directory);
        }
        let authorities = Authorities::generate(cluster_name, now)?;
        Ok(Self::new(authorities, names, directory))
    }

    /// The cluster's authorities.
    pub const fn authorities(&self) -> &Authorities {
        &self.authorities
    }

    /// Writes the authorities and every leaf that is missing, expired, for other names, or past half its life.
    pub fn write(&self, now: Timestamp) -> Result<Vec<Renewed>, PkiError> {
        files::write_all(&self.authorities.files(&self.directory))?;
        self.renew(now)
    }

    /// Issues again every leaf that is due, and says which. Cheap when nothing is due.
    ///
    /// A machine that stops in the middle leaves some leaves new and some old. At one of them the key may be of the new pair and the
    /// certificate of the old: such a leaf is due, so that this, called before anything is started, makes it whole.
    pub fn renew(&self, now: Timestamp) -> Result<Vec<Renewed>, PkiError> {
        let mut renewed = Vec::new();
        for leaf in Leaf::ALL {
            if self.due(leaf, now)? <= now {
                renewed.push(self.issue(leaf, now)?);
            }
        }
        Ok(renewed)
    }

    /// Issues a leaf, due or not.
    pub fn issue(&self, leaf: Leaf, now: Timestamp) -> Result<Renewed, PkiError> {
        let params = leaf.params(&self.names, now, self.lifetime)?;
        let not_after = now
            .checked_add(self.lifetime.of(leaf))
            .map_err(|_| PkiError::Clock(now))?;
        let issued = self.authorities.authority(leaf.authority()).sign(params)?;
        // A reader that catches a key and a certificate of different pairs fails and reads again. All that lies between the
        // two is one renaming.
        files::replace_both(
            &File::secret(self.directory.join(leaf.key()), issued.key_pem),
            &File::public(
                self.directory.join(leaf.certificate()),
                issued.certificate_pem,
            ),
        )?;
        Ok(Renewed { leaf, not_after })
    }

    /// When the first leaf is due; `now` or before it, if one is.
    pub fn next_due(&self, now: Timestamp) -> Result<Timestamp, PkiError> {
        let mut first = Timestamp::MAX;
        for leaf in Leaf::ALL {
            first = first.min(self.due(leaf, now)?);
        }
        Ok(first)
    }

    /// When `leaf` has to be issued: now, if it is not there, not readable, not for this node's names or not from this authority.
    fn due(&self, leaf: Leaf, now: Timestamp) -> Result<Timestamp, PkiError> {
        let Ok(certificate) = std::fs::read(self.directory.join(leaf.certificate())) else {
            return Ok(now);
        };
        let Ok(key) =
            std::fs::read_to_string(self.directory.join(leaf.key())).map(files::SecretText::new)
        else {
            return Ok(now);
        };
        let Ok(key) = rcgen::KeyPair::from_pem(key.expose()) else {
            return Ok(now);
        };
        let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(&certificate) else {
            return Ok(now);
        };
        let Ok(current) = pem.parse_x509() else {
            return Ok(now);
        };
        if current.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Ok(now);
        }
        let authority = self.authorities.authority(leaf.authority());
        let Ok((_, authority)) =
            x509_parser::pem::parse_x509_pem(authority.certificate_pem().as_bytes())
        else {
            return Ok(now);
        };
        let from_authority = authority.parse_x509().is_ok_and(|authority| {
            current
                .verify_signature(Some(authority.public_key()))
                .is_ok()
        });
        let wanted = leaf.params(&self.names, now, self.lifetime)?;
        if !from_authority || !same_names(&current, &wanted) {
            return Ok(now);
        }
        let validity = Validity {
            not_before: current.validity().not_before.timestamp(),
            not_after: current.validity().not_after.timestamp(),
            serial: current.raw_serial(),
        };
        Ok(self.lifetime.due(leaf, &validity, now))
    }
}

/// Whether a certificate has exactly the alternative names it would get today.
fn same_names(
    current: &x509_parser::certificate::X509Certificate<'_>,
    wanted: &rcgen::CertificateParams,
) -> bool {
    use rcgen::SanType;
    use x509_parser::extensions::GeneralName;
    let mut have: Vec<Vec<u8>> = match current.subject_alternative_name() {
        Ok(Some(extension)) => extension
            .value
            .general_names
            .iter()
            .map(|name| match name {
                GeneralName::DNSName(name) => name.as_bytes().to_vec(),
                GeneralName::IPAddress(bytes) => bytes.to_vec(),
                _ => Vec::new(),
            })
            .collect(),
        Ok(None) => Vec::new(),
        Err(_) => return false,
    };
    let mut want: Vec<Vec<u8>> = wanted
        .subject_alt_names
        .iter()
        .map(|name| match name {
            SanType::DnsName(name) => name.as_str().as_bytes().to_vec(),
            SanType::IpAddress(std::net::IpAddr::V4(ip)) => ip.octets().to_vec(),
            SanType::IpAddress(std::net::IpAddr::V6(ip)) => ip.octets().to_vec(),
            _ => Vec::new(),
        })
        .collect();
    have.sort();
    want.sort();
    have == want
}
