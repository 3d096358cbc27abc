//! The cluster mark in PCR 15: a node extends it once, by the digest of the cluster's identity, before it uses any
//! secret of the cluster.

use std::fmt;

use subtle::ConstantTimeEq as _;

use crate::Digest;

/// SHA-256 of a cluster's identity: what `TPM2_PCR_Event(clusterID)` extends into the SHA-256 bank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClusterIdDigest(Digest);

impl ClusterIdDigest {
    /// The digest of the identity's 32 bytes.
    #[must_use]
    pub fn of(cluster_id: &[u8; 32]) -> Self {
        Self(Digest::of(cluster_id))
    }

    /// What is extended into PCR 15.
    #[must_use]
    pub const fn digest(&self) -> &Digest {
        &self.0
    }

    /// What PCR 15 holds afterwards, if it was extended exactly once.
    #[must_use]
    pub fn pcr(&self) -> Digest {
        Digest::ZERO.extended_by(&self.0)
    }
}

/// What PCR 15 must hold. Never part of a policy document: it depends on the channel, not on the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterMark {
    /// All zero: the machine belongs to no cluster since it booted (init, join, rejoin, recover).
    NotJoined,
    /// Exactly this cluster (verify).
    Cluster(ClusterIdDigest),
    /// Any cluster, but not none: how a joining node looks at a join service whose cluster it cannot know yet.
    AnyCluster,
    /// No cluster or this one: a repeated init that finds the node already marked by its own first attempt.
    NotJoinedOrCluster(ClusterIdDigest),
}

impl ClusterMark {
    pub(crate) fn accepts(&self, pcr: &Digest) -> bool {
        match self {
            Self::NotJoined => same(pcr, &Digest::ZERO),
            Self::Cluster(cluster) => same(pcr, &cluster.pcr()),
            Self::AnyCluster => !same(pcr, &Digest::ZERO),
            Self::NotJoinedOrCluster(cluster) => {
                same(pcr, &Digest::ZERO) | same(pcr, &cluster.pcr())
            }
        }
    }
}

fn same(a: &Digest, b: &Digest) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

impl fmt::Display for ClusterMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJoined => write!(f, "{} (no cluster)", Digest::ZERO),
            Self::Cluster(cluster) => write!(f, "{} (this cluster)", cluster.pcr()),
            Self::AnyCluster => write!(f, "a cluster's mark (not zero)"),
            Self::NotJoinedOrCluster(cluster) => {
                write!(
                    f,
                    "{} (this cluster) or {} (no cluster)",
                    cluster.pcr(),
                    Digest::ZERO
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The chained vector of the original's formulas: clusterID -> PCR 15.
    const CLUSTER_ID: &str = "e7fd5a0e36fb56d69807aa36e68aee24438c1bf8766780b6106150f35b7aacba";
    const PCR_15: &str = "f75516d57d358d6acd9c5e6e5c74b910ca7da9ddbc7935d0707c9b71656b968d";

    fn cluster() -> ClusterIdDigest {
        ClusterIdDigest::of(CLUSTER_ID.parse::<Digest>().unwrap().as_bytes())
    }

    #[test]
    fn mark_is_one_event_over_the_cluster_id() {
        assert_eq!(cluster().pcr().to_string(), PCR_15);
    }

    #[test]
    fn each_mark_accepts_its_values_only() {
        let marked = cluster().pcr();
        let other = ClusterIdDigest::of(&[7; 32]).pcr();
        let twice = marked.extended_by(cluster().digest());
        let table = [
            (ClusterMark::NotJoined, [true, false, false, false]),
            (ClusterMark::Cluster(cluster()), [false, true, false, false]),
            (ClusterMark::AnyCluster, [false, true, true, true]),
            (
                ClusterMark::NotJoinedOrCluster(cluster()),
                [true, true, false, false],
            ),
        ];
        for (mark, expected) in table {
            let accepted = [Digest::ZERO, marked, other, twice].map(|pcr| mark.accepts(&pcr));
            assert_eq!(accepted, expected, "{mark}");
        }
    }
}
