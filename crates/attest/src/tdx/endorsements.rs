//! What the vendor says about platforms: signed statements, certificates and revocation lists, from whoever has fetched them.
//! They are parsed here and believed in [`super::appraise`].

use jiff::Timestamp;
use thiserror::Error;

use super::authenticity::CA_NAMES;
use super::qe_identity::QeIdentity;
use super::signed::{Signed, StatementError};
use super::tcb_info::TcbInfo;
use crate::x509::{Certificate, Crl, X509Error};

/// The signer and its root; a service may send more.
const MAX_CHAIN: usize = 8;
/// Of the root, and of the two CAs for platforms.
const MAX_CRLS: usize = 8;
/// Three or four certificates, in PEM with some text beside.
const MAX_CHAIN_BYTES: usize = 64 * 1024;

/// The bytes, as Intel's provisioning certification service (or a cache of it) serves them.
#[derive(Clone, Copy, Debug)]
pub struct Collateral<'a> {
    /// Body of "Get TDX TCB Info".
    pub tcb_info: &'a [u8],
    /// Its issuer chain: PEM, or DER certificates one after another.
    pub tcb_info_chain: &'a [u8],
    /// Body of "Get TDX QE Identity".
    pub qe_identity: &'a [u8],
    /// Its issuer chain, in the same forms.
    pub qe_identity_chain: &'a [u8],
    /// CRLs in DER: that of the root, and that of the CA that issued the PCK certificate, in any order.
    pub crls: &'a [&'a [u8]],
}

/// Why bytes are not what the service serves.
#[derive(Debug, Error)]
pub enum EndorsementsError {
    /// The TCB info cannot be read.
    #[error("the TCB info cannot be read")]
    TcbInfo(#[source] StatementError),
    /// The QE identity cannot be read.
    #[error("the QE identity cannot be read")]
    QeIdentity(#[source] StatementError),
    /// A chain cannot be read.
    #[error("the issuer chain of the {of} cannot be read")]
    Chain {
        /// What it is the chain of.
        of: &'static str,
        /// Why.
        #[source]
        source: ChainError,
    },
    /// A CRL cannot be read.
    #[error("a CRL cannot be read")]
    Crl(#[source] X509Error),
    /// More CRLs than there are issuers.
    #[error("{count} CRLs, at most {MAX_CRLS} are allowed")]
    TooManyCrls {
        /// How many.
        count: usize,
    },
}

/// Why bytes are not the chain of one end entity.
#[derive(Debug, Error)]
pub enum ChainError {
    /// Longer than any chain.
    #[error("the chain has {size} bytes, at most {MAX_CHAIN_BYTES} are allowed")]
    TooLong {
        /// What it has.
        size: usize,
    },
    /// A certificate in it cannot be read.
    #[error(transparent)]
    Certificate(#[from] X509Error),
    /// Not exactly one certificate that issues nothing.
    #[error("the chain has {count} end-entity certificates, and must have one")]
    Leaf {
        /// How many.
        count: usize,
    },
}

/// One end entity and the certificates that came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    pub(super) leaf: Certificate,
    pub(super) others: Vec<Certificate>,
}

impl Chain {
    /// Reads PEM or DER. The order does not matter: Intel's own reference data has the root first.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, ChainError> {
        if bytes.len() > MAX_CHAIN_BYTES {
            return Err(ChainError::TooLong { size: bytes.len() });
        }
        let certificates = if bytes.first() == Some(&0x30) {
            chain_from_der(bytes)?
        } else {
            // some quoting libraries count the end of a C string in, right behind the last line
            let end = bytes.iter().rposition(|byte| *byte != 0);
            let text = end.and_then(|end| bytes.get(..=end)).unwrap_or_default();
            Certificate::chain_from_pem(text, MAX_CHAIN)?
        };
        let (mut leaves, others): (Vec<_>, Vec<_>) =
            certificates.into_iter().partition(|it| !it.is_ca());
        let count = leaves.len();
        match (leaves.pop(), count) {
            (Some(leaf), 1) => Ok(Self { leaf, others }),
            _ => Err(ChainError::Leaf { count }),
        }
    }
}

fn chain_from_der(bytes: &[u8]) -> Result<Vec<Certificate>, X509Error> {
    let mut certificates = Vec::new();
    let mut left = bytes;
    while !left.is_empty() {
        if certificates.len() == MAX_CHAIN {
            return Err(X509Error::TooMany { most: MAX_CHAIN });
        }
        let (certificate, rest) = Certificate::parse_prefix(left)?;
        certificates.push(certificate);
        left = rest;
    }
    Ok(certificates)
}

/// Statements and lists, read but not believed.
#[derive(Clone, Debug)]
pub struct Endorsements {
    pub(super) tcb_info: Signed<TcbInfo>,
    pub(super) tcb_info_chain: Chain,
    pub(super) qe_identity: Signed<QeIdentity>,
    pub(super) qe_identity_chain: Chain,
    pub(super) crls: Vec<Crl>,
}

impl Endorsements {
    /// Reads what the service serves.
    ///
    /// # Errors
    /// When a part has not the documented form.
    pub fn parse(collateral: &Collateral<'_>) -> Result<Self, EndorsementsError> {
        if collateral.crls.len() > MAX_CRLS {
            return Err(EndorsementsError::TooManyCrls {
                count: collateral.crls.len(),
            });
        }
        let chain = |of, bytes| {
            Chain::parse(bytes).map_err(|source| EndorsementsError::Chain { of, source })
        };
        let tcb_info = TcbInfo::parse(collateral.tcb_info).map_err(EndorsementsError::TcbInfo)?;
        let tcb_info_chain = chain("TCB info", collateral.tcb_info_chain)?;
        let qe_identity =
            QeIdentity::parse(collateral.qe_identity).map_err(EndorsementsError::QeIdentity)?;
        // Intel signs both with one key, and serves its chain twice
        let qe_identity_chain = if collateral.qe_identity_chain == collateral.tcb_info_chain {
            tcb_info_chain.clone()
        } else {
            chain("QE identity", collateral.qe_identity_chain)?
        };
        Ok(Self {
            tcb_info,
            tcb_info_chain,
            qe_identity,
            qe_identity_chain,
            crls: collateral
                .crls
                .iter()
                .map(|der| Crl::parse(der).map_err(EndorsementsError::Crl))
                .collect::<Result<_, _>>()?,
        })
    }

    /// What is known about one platform: the newest statements that claim to be about it and to hold at `now`, and every list of Intel's
    /// authorities. Statements that came `beside` the evidence are taken only where none that was `given` claims both, and never with a
    /// smaller evaluation number than one about the same platform that was given, because Intel goes on issuing by the older criteria for months. Lists are taken from
    /// wherever they are: one that is left out can only hide what is revoked. Where nothing fits, the newest of all, so that the appraisal says
    /// what is wrong with it.
    #[must_use]
    pub fn about(
        fmspc: Option<[u8; 6]>,
        now: Timestamp,
        given: &[Self],
        beside: &[Self],
        lists: &[Crl],
    ) -> Option<Self> {
        let is_about = |set: &Self| fmspc == Some(set.claimed_tcb_info().fmspc);
        let newest = |sets: &mut dyn Iterator<Item = &Self>| {
            sets.max_by_key(|set| {
                let (tcb, qe) = (set.claimed_tcb_info(), set.claimed_qe_identity());
                (
                    is_about(set),
                    set.claims_to_hold(now),
                    set.claimed_numbers(),
                    tcb.issue_date,
                    qe.issue_date,
                )
            })
            .cloned()
        };
        let fits = |set: &&Self| is_about(set) && set.claims_to_hold(now);
        let known = given.iter().filter(|set| is_about(set));
        let least = known.fold([0; 2], |[tcb, qe], set| {
            let [its_tcb, its_qe] = set.claimed_numbers();
            [tcb.max(its_tcb), qe.max(its_qe)]
        });
        let no_step_back = |set: &&Self| {
            let mut pairs = set.claimed_numbers().into_iter().zip(least);
            pairs.all(|(its, least)| its >= least)
        };
        let mut set = newest(&mut given.iter().filter(fits))
            .or_else(|| newest(&mut given.iter().chain(beside.iter().filter(no_step_back))))?;
        let of_intel = |list: &&Crl| {
            let name = list.issuer().common_name();
            name.is_some_and(|name| CA_NAMES.contains(&name))
        };
        let of_sets = given.iter().chain(beside).flat_map(|it| &it.crls);
        for list in of_sets.chain(lists.iter().filter(of_intel)) {
            if !set.crls.iter().any(|known| known.digest() == list.digest()) {
                set.crls.push(list.clone());
            }
        }
        Some(set)
    }

    /// By which criteria of Intel's, counted up, TCB info and QE identity were made.
    fn claimed_numbers(&self) -> [u32; 2] {
        let (tcb, qe) = (self.claimed_tcb_info(), self.claimed_qe_identity());
        [
            tcb.tcb_evaluation_data_number,
            qe.tcb_evaluation_data_number,
        ]
    }

    /// The revocation lists. Not believed.
    #[must_use]
    pub fn lists(&self) -> &[Crl] {
        &self.crls
    }

    fn claims_to_hold(&self, now: Timestamp) -> bool {
        let (tcb, qe) = (self.claimed_tcb_info(), self.claimed_qe_identity());
        [
            (tcb.issue_date, tcb.next_update),
            (qe.issue_date, qe.next_update),
        ]
        .iter()
        .all(|(from, until)| (*from..=*until).contains(&now))
    }

    /// What the TCB info claims, for who looks whether it is time to fetch another one. Not believed.
    #[must_use]
    pub const fn claimed_tcb_info(&self) -> &TcbInfo {
        self.tcb_info.claimed()
    }

    /// What the QE identity claims. Not believed.
    #[must_use]
    pub const fn claimed_qe_identity(&self) -> &QeIdentity {
        self.qe_identity.claimed()
    }
}
