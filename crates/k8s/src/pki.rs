//! The cluster's PKI: certificate authorities, leaf certificates, service account key, kubeconfigs.
//!
//! ECDSA P-256 throughout: an RSA key costs seconds on a slow machine and init waits for it. The layout of files is kubeadm's, below
//! `/etc/kubernetes`, which lies on the node's encrypted and authenticated disk.
//!
//! Lifetimes: authorities ten years; leaf certificates a day ([`Lifetime`]), renewed by the node agent after half of it
//! ([`Pki::renew`]); the user's own kubeconfig a year, as kubeadm's, since nothing renews a file on the user's machine.
//!
//! The clock is the host's: it can set it back, so that an expired leaf counts as valid again, or ahead, which stops the
//! cluster. Short lives limit what a leaked key is good for outside the cluster; they do not hold against the host. Certificates
//! are valid from two hours before they are made (authorities from a day before), so that nodes whose clocks differ can work together.
//! A leaf that was made while the clock was wrong is made again when it is right.
//!
//! Certificates of kubelets are signed by kube-controller-manager; who may have one is decided in `api::csr`.
//! Spec: design/cluster.md, "Kubernetes without moving parts in between".

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    SerialNumber,
};

use crate::files::{File, FileError, SecretText};

mod kubeconfig;
mod leaf;
mod lifetime;
mod node;

pub use kubeconfig::{Credential, Kubeconfig};
pub use leaf::{KUBELET_ADMIN_GROUP, Leaf, NodeNames, is_dns_name};
pub use lifetime::Lifetime;
pub use node::{Pki, Renewed};

/// Life of the certificate in the user's kubeconfig.
pub const USER_LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);
/// Life of an authority.
pub const AUTHORITY_LIFETIME: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// How long before its making a leaf is valid.
pub const LEAF_SLACK: SignedDuration = SignedDuration::from_hours(2);
/// How long before its making an authority is valid.
pub const AUTHORITY_SLACK: SignedDuration = SignedDuration::from_hours(24);
/// The group of the user's kubeconfig. RBAC binds it, unlike `system:masters`, so that it can be taken away.
pub const ADMIN_GROUP: &str = "constellation:cluster-admins";

/// Why the PKI could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A key or certificate could not be made.
    #[error("make {what}")]
    Make {
        /// What was to be made.
        what: String,
        /// Why not.
        #[source]
        source: rcgen::Error,
    },
    /// A file that is not what its name says.
    #[error("{what} is not a usable {kind}")]
    Unusable {
        /// The file or object.
        what: String,
        /// What it should be.
        kind: &'static str,
    },
    /// A certificate and a key that do not belong together.
    #[error("certificate and key of {0} do not belong together")]
    Mismatch(String),
    /// A subject alternative name that cannot stand in a certificate.
    #[error("{0:?} is neither an IP address nor a DNS name")]
    SubjectAltName(String),
    /// Time outside what certificates can express.
    #[error("the clock says {0}, which no certificate can express")]
    Clock(Timestamp),
    /// Reading or writing failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A certificate authority with its key.
pub struct Authority {
    name: AuthorityName,
    certificate_pem: String,
    key_pem: SecretText,
}

/// The three authorities of a cluster: what one signs means nothing to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AuthorityName {
    /// Users, kubelets, the API server.
    Cluster,
    /// The API server as a proxy in front of extension API servers.
    FrontProxy,
    /// etcd's members and its one client.
    Etcd,
}

/// The key that signs service account tokens.
pub struct ServiceAccountKey {
    key_pem: SecretText,
    public_pem: String,
}

/// All that control-plane nodes share. A ticket for a control plane carries these files ([`Authorities::files`]).
pub struct Authorities {
    pub(crate) cluster: Authority,
    pub(crate) front_proxy: Authority,
    pub(crate) etcd: Authority,
    pub(crate) service_account: ServiceAccountKey,
}

/// A leaf certificate and its key.
#[derive(Debug)]
pub struct IssuedLeaf {
    /// The certificate.
    pub certificate_pem: String,
    /// Its key.
    pub key_pem: SecretText,
}

impl AuthorityName {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cluster, Self::FrontProxy, Self::Etcd];

    /// Path below the pki directory, without extension.
    pub const fn stem(self) -> &'static str {
        match self {
            Self::Cluster => "ca",
            Self::FrontProxy => "front-proxy-ca",
            Self::Etcd => "etcd/ca",
        }
    }

    const fn common_name(self) -> &'static str {
        match self {
            Self::Cluster => "kubernetes",
            Self::FrontProxy => "front-proxy",
            Self::Etcd => "etcd",
        }
    }
}

/// Paths of the service account key below the pki directory.
pub const SERVICE_ACCOUNT_KEY: &str = "sa.key";
/// Its public half.
pub const SERVICE_ACCOUNT_PUBLIC: &str = "sa.pub";

impl Authorities {
    /// Makes new authorities for a new cluster.
    pub fn generate(cluster_name: &str, now: Timestamp) -> Result<Self, PkiError> {
        let authority = |name| Authority::generate(name, cluster_name, now);
        Ok(Self {
            cluster: authority(AuthorityName::Cluster)?,
            front_proxy: authority(AuthorityName::FrontProxy)?,
            etcd: authority(AuthorityName::Etcd)?,
            service_account: ServiceAccountKey::generate()?,
        })
    }

    /// Takes authorities from the files of another control plane: `read` yields the file at a path below the pki directory.
    pub fn from_files(
        mut read: impl FnMut(&str) -> Result<SecretText, PkiError>,
    ) -> Result<Self, PkiError> {
        let mut authority = |name: AuthorityName| -> Result<Authority, PkiError> {
            let certificate = read(&format!("{}.crt", name.stem()))?;
            Authority::from_pem(
                name,
                certificate.expose().to_owned(),
                read(&format!("{}.key", name.stem()))?,
            )
        };
        Ok(Self {
            cluster: authority(AuthorityName::Cluster)?,
            front_proxy: authority(AuthorityName::FrontProxy)?,
            etcd: authority(AuthorityName::Etcd)?,
            service_account: ServiceAccountKey::from_pem(read(SERVICE_ACCOUNT_KEY)?)?,
        })
    }

    /// Reads the authorities of this node from `pki_dir`.
    pub fn load(pki_dir: &Path) -> Result<Self, PkiError> {
        Self::from_files(|name| {
            let path = pki_dir.join(name);
            std::fs::read_to_string(&path)
                .map(SecretText::new)
                .map_err(|source| {
                    PkiError::File(FileError {
                        operation: "read",
                        path,
                        source,
                    })
                })
        })
    }

    /// The files every control plane has, below `pki_dir`. With `pki_dir` empty: the names a join ticket uses.
    pub fn files(&self, pki_dir: &Path) -> Vec<File> {
        let mut files = Vec::new();
        for name in AuthorityName::ALL {
            let authority = self.authority(name);
            files.push(File::public(
                pki_dir.join(format!("{}.crt", name.stem())),
                authority.certificate_pem.clone(),
            ));
            files.push(File::secret(
                pki_dir.join(format!("{}.key", name.stem())),
                authority.key_pem.duplicate(),
            ));
        }
        files.push(File::secret(
            pki_dir.join(SERVICE_ACCOUNT_KEY),
            self.service_account.key_pem.duplicate(),
        ));
        files.push(File::public(
            pki_dir.join(SERVICE_ACCOUNT_PUBLIC),
            self.service_account.public_pem.clone(),
        ));
        files
    }

    /// The certificate of the cluster's authority, which every node and user pins.
    pub fn cluster_certificate(&self) -> &str {
        &self.cluster.certificate_pem
    }

    pub(crate) const fn authority(&self, name: AuthorityName) -> &Authority {
        match name {
            AuthorityName::Cluster => &self.cluster,
            AuthorityName::FrontProxy => &self.front_proxy,
            AuthorityName::Etcd => &self.etcd,
        }
    }

    /// Issues a certificate for a person: member of [`ADMIN_GROUP`], valid for a year.
    pub fn issue_admin(&self, user: &str, now: Timestamp) -> Result<IssuedLeaf, PkiError> {
        let params = params(
            user,
            Some(ADMIN_GROUP),
            &[ExtendedKeyUsagePurpose::ClientAuth],
            now,
            LEAF_SLACK,
            USER_LIFETIME,
        )?;
        self.cluster.sign(params)
    }

    /// Issues the first client certificate of this node's own kubelet, which the kubelet then rotates.
    ///
    /// Only the first control plane needs it: nobody is there yet who could approve a request.
    pub fn issue_kubelet_client(
        &self,
        node: &cluster::NodeName,
        now: Timestamp,
        lifetime: Lifetime,
    ) -> Result<IssuedLeaf, PkiError> {
        let params = params(
            &node.kubelet_user(),
            Some("system:nodes"),
            &[ExtendedKeyUsagePurpose::ClientAuth],
            now,
            LEAF_SLACK,
            lifetime.of_kubelets(),
        )?;
        self.cluster.sign(params)
    }
}

impl Authority {
    fn generate(name: AuthorityName, cluster_name: &str, now: Timestamp) -> Result<Self, PkiError> {
        let common_name = format!("{} {cluster_name}", name.common_name());
        let mut params = params(
            &common_name,
            None,
            &[],
            now,
            AUTHORITY_SLACK,
            AUTHORITY_LIFETIME,
        )?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::CrlSign,
        ];
        params.use_authority_key_identifier_extension = false;
        let make = |source| PkiError::Make {
            what: common_name.clone(),
            source,
        };
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make)?;
        let certificate = params.self_signed(&key).map_err(make)?;
        Ok(Self {
            name,
            certificate_pem: certificate.pem(),
            key_pem: SecretText::new(key.serialize_pem()),
        })
    }

    fn from_pem(
        name: AuthorityName,
        certificate_pem: String,
        key_pem: SecretText,
    ) -> Result<Self, PkiError> {
        let unusable = |kind| PkiError::Unusable {
            what: name.stem().to_owned(),
            kind,
        };
        let (_, der) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes())
            .map_err(|_| unusable("certificate"))?;
        let certificate = der.parse_x509().map_err(|_| unusable("certificate"))?;
        if !certificate.is_ca() {
            return Err(unusable("certificate of an authority"));
        }
        let key = KeyPair::from_pem(key_pem.expose()).map_err(|_| unusable("private key"))?;
        if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(PkiError::Mismatch(name.stem().to_owned()));
        }
        Ok(Self {
            name,
            certificate_pem,
            key_pem,
        })
    }

    /// The authority's certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    pub(crate) fn sign(&self, params: CertificateParams) -> Result<IssuedLeaf, PkiError> {
        let what = format!(
            "certificate {:?}",
            params.distinguished_name.get(&DnType::CommonName)
        );
        let make = |source| PkiError::Make {
            what: what.clone(),
            source,
        };
        let issuer_key = KeyPair::from_pem(self.key_pem.expose()).map_err(make)?;
        let issuer = Issuer::from_ca_cert_pem(&self.certificate_pem, issuer_key).map_err(make)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(make)?;
        let certificate = params.signed_by(&key, &issuer).map_err(make)?;
        Ok(IssuedLeaf {
            certificate_pem: certificate.pem(),
            key_pem: SecretText::new(key.serialize_pem()),
        })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Authorities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authorities(..)")
    }
}

impl ServiceAccountKey {
    fn generate() -> Result<Self, PkiError> {
        let key =
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|source| PkiError::Make {
                what: "service account key".to_owned(),
                source,
            })?;
        Ok(Self {
            key_pem: SecretText::new(key.serialize_pem()),
            public_pem: key.public_key_pem(),
        })
    }

    fn from_pem(key_pem: SecretText) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key_pem.expose()).map_err(|_| PkiError::Unusable {
            what: SERVICE_ACCOUNT_KEY.to_owned(),
            kind: "private key",
        })?;
        Ok(Self {
            key_pem,
            public_pem: key.public_key_pem(),
        })
    }
}

/// The parameters that all certificates share.
pub(crate) fn params(
    common_name: &str,
    organization: Option<&str>,
    extended: &[ExtendedKeyUsagePurpose],
    now: Timestamp,
    slack: SignedDuration,
    lifetime: SignedDuration,
) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(
            DnType::OrganizationName,
            DnValue::Utf8String(organization.to_owned()),
        );
    }
    name.push(
        DnType::CommonName,
        DnValue::Utf8String(common_name.to_owned()),
    );
    params.distinguished_name = name;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = extended.to_vec();
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(random_serial());
    let at = |when: Option<Timestamp>| {
        let seconds = when
            .map(Timestamp::as_second)
            .and_then(|seconds| u64::try_from(seconds).ok())
            .ok_or(PkiError::Clock(now))?;
        Ok::<_, PkiError>(
            rcgen::date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(seconds),
        )
    };
    params.not_before = at(now.checked_sub(slack).ok())?;
    params.not_after = at(now.checked_add(lifetime).ok())?;
    Ok(params)
}

/// A positive serial of 126 random bits.
fn random_serial() -> SerialNumber {
    let mut bytes = *uuid::Uuid::new_v4().as_bytes();
    bytes[0] &= 0x7f;
    SerialNumber::from_slice(&bytes)
}

#[cfg(test)]
mod tests;
