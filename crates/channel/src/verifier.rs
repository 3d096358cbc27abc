//! What a side demands of its peer: evidence that a policy accepts, or explicitly nothing.
//!
//! The two are types, not values, so that what was proved stands in the type of the stream: [`Verifier`] gives
//! [`Proved`], [`AsksNothing`] gives [`Unproved`]. The policy is read when the evidence is there, so one that is replaced while
//! a service runs holds for the next handshake. Model: step 6 (`docs/attested-channel.md`).

use std::{fmt, pin::Pin, sync::Arc};

use attest::x509::PathCache;
use attest::{Binding, ClusterMark, Endorsements, Evidence, Policy, Refusal, Variant, Verified};

/// Where the policy comes from at the time of a handshake. A policy that accepts everything cannot be constructed, so a source
/// cannot give one.
pub trait PolicySource: Send + Sync + 'static {
    /// The policy that holds now.
    fn policy(&self) -> Arc<Policy>;
}

impl PolicySource for Arc<Policy> {
    fn policy(&self) -> Arc<Policy> {
        Self::clone(self)
    }
}

impl<F: Fn() -> Arc<Policy> + Send + Sync + 'static> PolicySource for F {
    fn policy(&self) -> Arc<Policy> {
        self()
    }
}

/// Where the vendors' statements about one machine come from, when its evidence is there and is of the policy's variant. The evidence is not
/// appraised yet: it says what is needed and is believed in nothing. The exchange has its deadline, so a source that waits for a vendor
/// has to wait for less than what is left of it: else the peer is not refused with a reason, but too late.
pub trait EndorsementsSource: Send + Sync + 'static {
    /// What can be had now.
    fn endorsements<'a>(&'a self, evidence: &'a Evidence) -> Gathering<'a>;
}

/// Statements that are on their way.
pub type Gathering<'a> = Pin<Box<dyn Future<Output = Arc<Endorsements>> + Send + 'a>>;

impl EndorsementsSource for Arc<Endorsements> {
    fn endorsements<'a>(&'a self, _evidence: &'a Evidence) -> Gathering<'a> {
        Box::pin(std::future::ready(Self::clone(self)))
    }
}

/// Demands evidence.
#[derive(Clone)]
pub struct Verifier {
    policy: Arc<dyn PolicySource>,
    mark: ClusterMark,
    endorsements: Arc<dyn EndorsementsSource>,
    /// Of all handshakes of this verifier: certificates are the same again and again.
    cache: Arc<PathCache>,
}

impl Verifier {
    /// Accepts a peer whose evidence `policy` accepts and whose cluster mark is `mark`. Knows no vendor's statements: a peer that needs more
    /// than it sends is refused ([`Verifier::with_endorsements`]).
    pub fn new(policy: impl PolicySource, mark: ClusterMark) -> Self {
        Self {
            policy: Arc::new(policy),
            mark,
            endorsements: Arc::new(Arc::new(Endorsements::new())),
            cache: Arc::default(),
        }
    }

    /// The same with vendors' statements about the peers' machines.
    #[must_use]
    pub fn with_endorsements(self, source: impl EndorsementsSource) -> Self {
        Self {
            endorsements: Arc::new(source),
            ..self
        }
    }

    /// How a joining node looks at a join service: booted from the same measurements as the node itself (`own`, see
    /// `Policy::from_own_measurements`), and in a cluster.
    #[must_use]
    pub fn same_as_self(own: Policy) -> Self {
        Self::new(Arc::new(own), ClusterMark::AnyCluster)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("mark", &self.mark)
            .finish_non_exhaustive()
    }
}

/// Demands nothing: for the nodes an administrator's program speaks to. Who may use such a channel is decided by what the
/// caller sends inside.
#[derive(Clone, Copy, Debug)]
pub struct AsksNothing;

/// What a verified peer proved.
pub type Proved = Arc<Verified>;

/// The peer proved nothing about its machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unproved;

/// [`Verifier`] or [`AsksNothing`].
pub trait Demand: sealed::Judge {}

impl Demand for Verifier {}
impl Demand for AsksNothing {}

pub(crate) mod sealed {
    use attest::{Roots, Trust};
    use tokio::io::AsyncRead;

    use super::{
        Arc, AsksNothing, Binding, Endorsements, Evidence, Proved, Refusal, Unproved, Variant,
        Verifier,
    };
    use crate::{Error, frame, message};

    /// The two ways to judge a peer. Not for other crates: a third way would be a way round.
    pub trait Judge: Clone + Send + Sync + 'static {
        /// What the peer has to send.
        type Received: Send + Sync + 'static;
        /// What others state about the peer's machine.
        type Endorsed: Send + 'static;
        /// What a peer that was let through has shown.
        type Proof: Clone + Send + Sync + 'static;
        /// Whether the peer has to send evidence, and gets a verdict on it.
        const ASKS: bool;

        /// The variants that are accepted; empty exactly if nothing is asked.
        fn accepts(&self) -> Vec<Variant>;

        /// Reads what the peer has to send.
        fn receive<R: AsyncRead + Unpin + Send>(
            &self,
            reader: &mut R,
        ) -> impl Future<Output = Result<Self::Received, Error>> + Send;

        /// Gets what others state about it.
        fn endorse(&self, received: &Self::Received)
        -> impl Future<Output = Self::Endorsed> + Send;

        /// Judges it; blocking.
        fn judge(
            &self,
            received: Self::Received,
            endorsed: Self::Endorsed,
            binding: &Binding,
        ) -> Result<Self::Proof, Refusal>;

        /// What tells the machine apart in a log.
        fn machine(proof: &Self::Proof) -> Option<String>;
    }

    impl Judge for Verifier {
        type Received = Evidence;
        type Endorsed = Arc<Endorsements>;
        type Proof = Proved;
        const ASKS: bool = true;

        fn accepts(&self) -> Vec<Variant> {
            vec![self.policy.policy().variant()]
        }

        async fn receive<R: AsyncRead + Unpin + Send>(
            &self,
            reader: &mut R,
        ) -> Result<Evidence, Error> {
            let body = frame::receive(reader, frame::Kind::Evidence).await?;
            Ok(message::parse_evidence(&body)?)
        }

        async fn endorse(&self, received: &Evidence) -> Arc<Endorsements> {
            if received.variant() == self.policy.policy().variant() {
                self.endorsements.endorsements(received).await
            } else {
                // refused whatever anybody states about it
                Arc::new(Endorsements::new())
            }
        }

        fn judge(
            &self,
            received: Evidence,
            endorsed: Arc<Endorsements>,
            binding: &Binding,
        ) -> Result<Proved, Refusal> {
            let trust = Trust {
                roots: Roots::vendors(),
                endorsements: &endorsed,
                cache: &self.cache,
                now: jiff::Timestamp::now(),
            };
            attest::appraise(
                &received,
                binding,
                &self.policy.policy(),
                &self.mark,
                &trust,
            )
            .map(Arc::new)
        }

        fn machine(proof: &Proved) -> Option<String> {
            Some(proof.ak_id())
        }
    }

    impl Judge for AsksNothing {
        type Received = ();
        type Endorsed = ();
        type Proof = Unproved;
        const ASKS: bool = false;

        fn accepts(&self) -> Vec<Variant> {
            Vec::new()
        }

        async fn receive<R: AsyncRead + Unpin + Send>(&self, _reader: &mut R) -> Result<(), Error> {
            Ok(())
        }

        async fn endorse(&self, (): &()) {}

        fn judge(&self, (): (), (): (), _binding: &Binding) -> Result<Unproved, Refusal> {
            Ok(Unproved)
        }

        fn machine(_proof: &Unproved) -> Option<String> {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use attest::{CheckName, PcrIndex, Refusal, Variant};
    use testkit::boot::Image;
    use testkit::cloud::{Machine, Makers};

    use super::sealed::Judge as _;
    use super::*;

    fn policy() -> Arc<Policy> {
        let pcrs = Image::default().pcrs();
        let pcrs = Policy::REQUIRED_PCRS.map(|index| {
            let value = pcrs.get(PcrIndex::new(index).unwrap());
            format!("        {index}: {{ expected: {value}, warnOnly: false }}\n")
        });
        let text = format!(
            "version: 2\nvariant: azure-tdx\nmeasurements:\n  generations:\n    - mrtd: {{ accepted: [{}], warnOnly: false }}\n      pcrs:\n{}tdx:\n  tcbStatuses: [UpToDate]\n",
            "1d".repeat(48),
            pcrs.concat()
        );
        Arc::new(Policy::from_yaml(&text).unwrap())
    }

    /// The vendors' statements are those of the moment of the handshake. Under the vendors' roots a machine of a test gets no further than to
    /// the certificate of its processor.
    #[tokio::test]
    async fn a_verifier_knows_the_statements_that_it_was_given() {
        let makers = Makers::new();
        let binding = Binding::for_verification(&[1; 32]);
        let document = Machine::boot(&Image::default()).azure_tdx(&makers, &binding);
        let evidence = Evidence::new(Variant::AzureTdx, document.to_json()).unwrap();
        let failed = async |verifier: Verifier| {
            let endorsed = verifier.endorse(&evidence).await;
            let refusal: Refusal = verifier
                .judge(evidence.clone(), endorsed, &binding)
                .unwrap_err();
            refusal.failed().map(|check| check.name).collect::<Vec<_>>()
        };
        let verifier = Verifier::new(policy(), ClusterMark::NotJoined);
        assert_eq!(
            failed(verifier.clone()).await,
            [CheckName::EndorsementsGiven]
        );
        let given = verifier.with_endorsements(Arc::new(makers.endorsements()));
        assert_eq!(
            failed(given).await,
            [CheckName::Tdx(attest::tdx::CheckName::PckChain)]
        );
    }
}
