//! The requests of one signer, a few at a time.
//!
//! Whoever may create requests may create tens of thousands, each of a megabyte. Those of other signers are not read at all. Of the
//! others no more than a page is in memory, and in one round nobody has more than a share of them settled, so that the requests of
//! another node wait for a walk through the list and not for all the work that somebody makes.

use std::collections::HashMap;

use k8s::api::csr::{CertificateId, CredentialId};
use k8s_openapi::api::certificates::v1::{
    CertificateSigningRequest, CertificateSigningRequestSpec,
};
use kube::{Api, api::ListParams};

/// Requests in one answer of the API server. Times the size of the largest object in etcd, and twice as much while it is read, this is
/// well below what the pod may use.
pub(super) const PAGE: u32 = 16;
/// Requests of one requestor that are settled in one round. A kubelet has one or two.
const SHARE: u32 = 8;

/// The requests of one signer as they were when the first page was read.
pub(super) struct Pages<'a> {
    requests: &'a Api<CertificateSigningRequest>,
    next: Option<ListParams>,
}

impl<'a> Pages<'a> {
    pub(super) fn of(requests: &'a Api<CertificateSigningRequest>, signer: &str) -> Self {
        Self {
            requests,
            next: Some(ListParams::default().fields(&fields(signer)).limit(PAGE)),
        }
    }

    /// Reads the next page; none after the last.
    pub(super) async fn read(
        &mut self,
    ) -> Result<Option<Vec<CertificateSigningRequest>>, kube::Error> {
        let Some(params) = self.next.take() else {
            return Ok(None);
        };
        let page = self.requests.list(&params).await?;
        let more = page.metadata.continue_.filter(|token| !token.is_empty());
        self.next = more.map(|token| params.continue_token(&token));
        Ok(Some(page.items))
    }
}

/// Selects one signer's requests.
pub(super) fn fields(signer: &str) -> String {
    format!("spec.signerName={signer}")
}

/// How much of a round each requestor has had.
pub(super) struct Shares {
    taken: HashMap<Requestor, u32>,
    /// By user, the certificates that were issued under its record: a few each.
    issued: HashMap<String, Vec<CertificateId>>,
}

/// Who asks, and with which certificate, if it was issued to the node on record: somebody else's may bear the same name. All others of a
/// name are one, since a node can have as many certificates as it asks for.
type Requestor = (String, Option<CredentialId>);

impl Shares {
    pub(super) fn new(issued: HashMap<String, Vec<CertificateId>>) -> Self {
        Self {
            taken: HashMap::new(),
            issued,
        }
    }

    /// Whether one more request of this requestor is settled in this round.
    pub(super) fn take(&mut self, spec: &CertificateSigningRequestSpec) -> bool {
        let user = spec.username.clone().unwrap_or_default();
        let issued = self.issued.get(&user);
        let own = CredentialId::of(spec)
            .filter(|credential| issued.into_iter().flatten().any(|one| credential.is(one)));
        let taken = self.taken.entry((user, own)).or_default();
        *taken = taken.saturating_add(1);
        if *taken == SHARE + 1 {
            let user = spec.username.as_deref().unwrap_or_default();
            tracing::warn!(
                user,
                "more requests than are settled at once: the others wait"
            );
        }
        *taken <= SHARE
    }
}
