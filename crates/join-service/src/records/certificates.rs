//! Which client certificates a node was issued under its record.
//!
//! A request is noted before it is approved, and its certificate once the signer wrote it. With the record both go, so that a later
//! node of the name begins with none. A few are kept: the one that the node was last seen with, because the next ones may have been
//! lost on their way to it, and the newest.

use k8s::api::csr::{CertificateId, CredentialId};
use serde::{Deserialize, Serialize};

/// How many are kept of each. A kubelet that does not get an answer asks again a quarter of an hour later.
const KEPT: usize = 8;

/// What a record says about its node's certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Certificates {
    /// Approved requests whose certificate is not known yet, the newest first.
    awaited: Vec<Awaited>,
    /// Certificates: the one that the node was last seen with, then the newest first.
    issued: Vec<CertificateId>,
}

/// A request by name, and which of that name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Awaited {
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl Certificates {
    pub(crate) fn awaited(&self) -> &[Awaited] {
        &self.awaited
    }

    pub(crate) fn issued(&self) -> &[CertificateId] {
        &self.issued
    }

    /// A request is about to be approved.
    pub(crate) fn expect(&mut self, request: Awaited) {
        if !self.awaited.contains(&request) {
            self.awaited.insert(0, request);
            self.awaited.truncate(KEPT);
        }
    }

    /// A request came to its end, with a certificate or without.
    pub(crate) fn conclude(&mut self, request: &Awaited, certificate: Option<CertificateId>) {
        self.awaited.retain(|one| one != request);
        if let Some(certificate) = certificate
            && !self.issued.contains(&certificate)
        {
            self.issued
                .insert(usize::from(!self.issued.is_empty()), certificate);
            self.issued.truncate(KEPT);
        }
    }

    /// The node was seen with a certificate.
    pub(crate) fn seen(&mut self, credential: &CredentialId) {
        if let Some(at) = self.issued.iter().position(|one| credential.is(one)) {
            let certificate = self.issued.remove(at);
            self.issued.insert(0, certificate);
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::certificates::v1::CertificateSigningRequestSpec;

    use super::*;

    fn request(number: usize) -> Awaited {
        Awaited {
            name: format!("csr-{number}"),
            uid: format!("uid-{number}"),
        }
    }

    /// A text that differs is a certificate that differs: it is never parsed.
    fn certificate(number: usize) -> CertificateId {
        let block = pem::Pem::new("CERTIFICATE", number.to_be_bytes());
        CertificateId::of_first(pem::encode(&block).as_bytes()).unwrap()
    }

    fn credential(number: usize) -> CredentialId {
        let id = serde_json::to_value(certificate(number)).unwrap();
        let key = "authentication.kubernetes.io/credential-id".to_owned();
        let spec = CertificateSigningRequestSpec {
            extra: Some([(key, vec![format!("X509SHA256={}", id.as_str().unwrap())])].into()),
            ..CertificateSigningRequestSpec::default()
        };
        CredentialId::of(&spec).unwrap()
    }

    #[test]
    fn the_certificate_that_a_node_has_is_kept_however_many_were_lost_on_their_way() {
        let mut certificates = Certificates::default();
        for number in 0..40 {
            certificates.expect(request(number));
            certificates.conclude(&request(number), Some(certificate(number)));
            certificates.seen(&credential(2));
        }
        let kept = [2, 39, 38, 37, 36, 35, 34, 33].map(certificate);
        assert_eq!(certificates.issued(), kept);
        assert!(certificates.awaited().is_empty());
        certificates.seen(&credential(36));
        certificates.conclude(&request(40), Some(certificate(40)));
        let kept = [36, 40, 2, 39, 38, 37, 35, 34].map(certificate);
        assert_eq!(certificates.issued(), kept);
        // of nobody on record
        certificates.seen(&credential(7));
        assert_eq!(certificates.issued(), kept);
    }

    #[test]
    fn a_request_is_awaited_once_and_until_its_end() {
        let mut certificates = Certificates::default();
        for number in [1, 1, 2] {
            certificates.expect(request(number));
        }
        assert_eq!(certificates.awaited(), [request(2), request(1)]);
        // another one of its name
        let other = Awaited {
            uid: "another".to_owned(),
            ..request(1)
        };
        certificates.conclude(&other, None);
        certificates.conclude(&request(2), None);
        assert_eq!(certificates.awaited(), [request(1)]);
        assert!(certificates.issued().is_empty());
        for number in 3..40 {
            certificates.expect(request(number));
        }
        assert_eq!(certificates.awaited().len(), KEPT);
    }
}
