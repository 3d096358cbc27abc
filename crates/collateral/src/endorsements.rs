//! Items as what an appraisal takes them for: the endorsements of machines.

use std::collections::BTreeMap;

use attest::x509::{Certificate, Crl, MAX_INTERMEDIATES};
use attest::{Endorsements, Evidence, TooManyEndorsements, tdx};
use futures::future::join_all;
use jiff::Timestamp;

use crate::entry::Entry;
use crate::fetch_error::FetchError;
use crate::item::{Item, Update};
use crate::needs::{NeedsError, needs_of};
use crate::service::{Collateral, Demand, Note};

/// What a verifier has of a machine's vendors. Something may be missing: the appraisal decides whether it can do without.
#[derive(Debug)]
pub struct Endorsed {
    /// What was had.
    pub endorsements: Endorsements,
    /// What could not be had, or not anew, for a log.
    pub missing: Vec<Missing>,
}

/// Why something is not among the endorsements.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    /// The evidence does not say what it needs.
    #[error("the evidence does not say what it needs")]
    Needs(#[source] NeedsError),
    /// Nobody publishes it.
    #[error("{0}")]
    Unmet(String),
    /// It was not had.
    #[error(transparent)]
    Fetch(FetchError),
    /// It was had, and its publisher could not be asked for a newer one.
    #[error("{item} is as it was fetched at {fetched_at}: {note}")]
    NotRefreshed {
        /// What.
        item: Box<Item>,
        /// When it came from its publisher.
        fetched_at: Timestamp,
        /// Why.
        note: Note,
    },
    /// It was had, and can not be used.
    #[error(transparent)]
    Statement(NotAStatement),
}

/// An entry that can not be used.
#[derive(Debug, thiserror::Error)]
pub enum NotAStatement {
    /// Intel's statements do not hold together.
    #[error("Intel's statement {item} can not be read")]
    Intel {
        /// The statement.
        item: Box<Item>,
        /// What is wrong.
        #[source]
        source: tdx::EndorsementsError,
    },
    /// More than there are at any site.
    #[error(transparent)]
    TooMany(#[from] TooManyEndorsements),
}

impl Collateral {
    /// Gets what a machine's evidence needs, all at once, and waits for each as long as `demand` says.
    ///
    /// The evidence is not appraised yet and can name any chip and any platform: what that costs is bounded by the queues and by the
    /// cache, and lists are fetched from the places of the settings only.
    pub async fn endorse(&self, evidence: &Evidence, update: Update, demand: Demand) -> Endorsed {
        let mut missing = Vec::new();
        let needs = needs_of(evidence, update).unwrap_or_else(|error| {
            missing.push(Missing::Needs(error));
            crate::needs::Needs::default()
        });
        missing.extend(needs.unmet.into_iter().map(Missing::Unmet));
        let gets = needs.items.iter().map(|item| self.get(item, demand));
        let mut entries = Vec::new();
        for outcome in join_all(gets).await {
            match outcome {
                Ok(answer) => {
                    let refused = answer.notes.into_iter().filter(Note::is_refusal);
                    missing.extend(refused.map(|note| Missing::NotRefreshed {
                        item: Box::new(answer.entry.item().clone()),
                        fetched_at: answer.entry.fetched_at(),
                        note,
                    }));
                    entries.push(answer.entry);
                }
                Err(error) => missing.push(Missing::Fetch(error)),
            }
        }
        let mut endorsements = Endorsements::new();
        if let Err(error) = add_entries(&mut endorsements, &entries) {
            missing.push(Missing::Statement(error));
        }
        Endorsed {
            endorsements,
            missing,
        }
    }
}

/// Adds what entries hold. Of Intel's, those that belong together are put together: a platform's TCB info with each identity of the quoting
/// enclave of the same update that holds at some time with it, or else with the newest. Which of them is meant depends on the time that is
/// asked about ([`tdx::Endorsements::about`]). Every list is added, because one that is left out can only hide what is revoked.
///
/// # Errors
/// When one can not be used. Those before it were added.
pub fn add_entries(
    endorsements: &mut Endorsements,
    entries: &[Entry],
) -> Result<(), NotAStatement> {
    let mut intels_lists: BTreeMap<&Item, &Entry> = BTreeMap::new();
    for entry in entries {
        let body = entry.body();
        match entry.item() {
            Item::AmdVcek(_) | Item::AmdChain { .. } => {
                for certificate in certificates(body) {
                    endorsements.add_certificate(certificate)?;
                }
            }
            Item::AmdCrl { .. } | Item::Crl(_) => {
                // an entry has the shape of its item
                if let Ok(crl) = Crl::parse(body) {
                    endorsements.add_crl(crl)?;
                }
            }
            item @ (Item::IntelPckCrl { .. } | Item::IntelRootCrl) => {
                // statements may be there already, or come from elsewhere
                if let Ok(crl) = Crl::parse(body) {
                    endorsements.add_crl(crl)?;
                }
                // and who has the statements needs one of each
                intels_lists.insert(item, entry);
            }
            Item::IntelTcbInfo { .. } | Item::IntelQeIdentity { .. } => {}
        }
    }
    let lists: Vec<&[u8]> = intels_lists.values().map(|entry| entry.body()).collect();
    for entry in entries {
        let Item::IntelTcbInfo { update, .. } = entry.item() else {
            continue;
        };
        let Some(chain) = entry.issuer_chain() else {
            continue;
        };
        for identity in identities_beside(entry, *update, entries) {
            let statements = tdx::Collateral {
                tcb_info: entry.body(),
                tcb_info_chain: chain,
                qe_identity: identity.body(),
                qe_identity_chain: identity.issuer_chain().unwrap_or(chain),
                crls: &lists,
            };
            let set =
                tdx::Endorsements::parse(&statements).map_err(|source| NotAStatement::Intel {
                    item: Box::new(entry.item().clone()),
                    source,
                })?;
            endorsements.add_intel(set)?;
        }
    }
    Ok(())
}

/// Identities of the quoting enclave that claim to hold at some time at which this TCB info does, each once; if there is none, the newest.
fn identities_beside<'a>(tcb_info: &Entry, update: Update, entries: &'a [Entry]) -> Vec<&'a Entry> {
    let mut all: Vec<&Entry> = Vec::new();
    for entry in entries {
        let is_meant =
            matches!(entry.item(), Item::IntelQeIdentity { update: of } if *of == update);
        if is_meant && !all.iter().any(|known| known.body() == entry.body()) {
            all.push(entry);
        }
    }
    let begins_in = |one: &Entry, other: &Entry| one.issued_at() <= other.valid_until();
    let meets = |it: &&&Entry| begins_in(it, tcb_info) && begins_in(tcb_info, it);
    let meeting: Vec<&Entry> = all.iter().filter(meets).copied().collect();
    if meeting.is_empty() {
        all.into_iter()
            .max_by_key(|it| it.edition())
            .into_iter()
            .collect()
    } else {
        meeting
    }
}

/// One in DER, or several in PEM.
fn certificates(bytes: &[u8]) -> Vec<Certificate> {
    match Certificate::parse(bytes) {
        Ok(certificate) => vec![certificate],
        Err(_) => Certificate::chain_from_pem(bytes, MAX_INTERMEDIATES).unwrap_or_default(),
    }
}
