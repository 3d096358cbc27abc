//! A control plane's certificates for the rest of its life: looked at before anything is started, and then whenever one is due.
//!
//! When that is, `k8s::pki::Lifetime` decides. What runs takes a new certificate up by itself; a program is started again in two cases
//! only: the kubelet, when its own renewal came too late and it was given a certificate; and the API server, whose certificate for
//! its talk with itself nobody can renew ([`outlived`]).

use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s::control_plane::{Node, Service};
use k8s::files::Written;
use k8s::pki::{Lifetime, NodeNames, Pki, PkiError};

/// Pause after an error.
const PAUSE: Duration = Duration::from_secs(5);

/// The API server makes a certificate for itself when it starts: valid for a year, from an hour before. When that has ended, it
/// refuses its own requests until it is started again (kubernetes issue 86552).
const OWN_CERTIFICATE: SignedDuration = SignedDuration::from_hours(300 * 24);
const OWN_CERTIFICATE_SLACK: SignedDuration = SignedDuration::from_mins(50);

/// The certificates of a control plane.
#[derive(Debug)]
pub struct Renewal {
    node: Node,
    names: NodeNames,
}

/// What a look found and did.
#[derive(Debug)]
pub struct Looked {
    /// Until the next look.
    pub wait: Duration,
    /// The kubelet was given a certificate: one that runs has to read it.
    pub kubelet: Written,
}

impl Renewal {
    /// Of this node.
    pub fn new(node: Node, node_ip: Ipv4Addr, api_sans: Vec<String>) -> Self {
        let names = node.names(node_ip, api_sans);
        Self { node, names }
    }

    /// Issues what is due.
    pub fn look(&self, now: Timestamp) -> Result<Looked, PkiError> {
        let lifetime = self.node.lifetime();
        // whatever can not be read now: a member never makes authorities of its own
        let pki = Pki::open(self.names.clone(), &self.node.paths().pki())?.with_lifetime(lifetime);
        let kubelet = self.node.ensure_kubelet_client(pki.authorities(), now)?;
        for renewed in pki.renew(now)? {
            tracing::info!(certificate = ?renewed.leaf, not_after = %renewed.not_after, "renewed");
        }
        Ok(Looked {
            wait: Lifetime::wait(pki.next_due(now)?, now),
            kubelet,
        })
    }

    /// Looks for ever. `restart` starts a program again.
    pub async fn run<F>(&self, restart: impl Fn(Service) -> F)
    where
        F: Future<Output = ()>,
    {
        loop {
            let wait = match self.look(Timestamp::now()) {
                Ok(looked) => {
                    if looked.kubelet == Written::Changed {
                        restart(Service::Kubelet).await;
                    }
                    looked.wait
                }
                Err(error) => {
                    tracing::warn!(error = %runtime::chain(&error), "renewing certificates; tried again in a moment");
                    PAUSE
                }
            };
            tokio::time::sleep(wait).await;
        }
    }
}

/// Whether an API server that started at `started` has to be started again for the sake of the certificate that it made for itself: it
/// ends in two months, or the clock was set, so that it ended or has yet to begin. `index` is the node's number: control planes
/// that started together do not restart together.
pub fn outlived(started: Timestamp, now: Timestamp, index: u16) -> bool {
    let age = now.duration_since(started);
    let spread = SignedDuration::from_hours(i64::from(index % 16) * 24);
    age > OWN_CERTIFICATE - spread || age < -OWN_CERTIFICATE_SLACK
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: SignedDuration = SignedDuration::from_hours(1);
    const YEAR: SignedDuration = SignedDuration::from_hours(365 * 24);

    #[test]
    fn an_api_server_is_started_again_before_its_own_certificate_ends_and_not_before_that() {
        let started: Timestamp = "2026-11-22T06:00:00Z".parse().unwrap();
        for index in 1..=16 {
            assert!(!outlived(started, started, index));
            assert!(!outlived(started, started + HOUR * 24 * 280, index));
            assert!(outlived(started, started + HOUR * 24 * 301, index));
        }
        let nearly = started + HOUR * (24 * 299 + 1);
        assert_ne!(
            outlived(started, nearly, 1),
            outlived(started, nearly, 16),
            "not all at once"
        );
    }

    /// Its own certificate is valid from an hour before its start: a clock that is set shows another year than it was made in.
    #[test]
    fn an_api_server_that_started_under_a_clock_a_year_off_is_started_again() {
        let right: Timestamp = "2026-11-22T06:00:00Z".parse().unwrap();
        assert!(outlived(right + YEAR, right, 1), "it began in the future");
        assert!(outlived(right - YEAR, right, 1), "it has ended");
        assert!(outlived(right, right + YEAR, 1));
        assert!(outlived(right, right - YEAR, 1));
        assert!(
            !outlived(right, right - HOUR / 2, 1),
            "clocks are corrected by minutes"
        );
    }
}
