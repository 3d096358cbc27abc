//! Verification of nodes: a fresh nonce to each, its evidence against the config's policy and the cluster's mark, and
//! what only shows across nodes: that no two are one machine, and that each is the machine the cluster admitted.

use std::collections::BTreeMap;
use std::time::Duration;

use attest::x509::PathCache;
use attest::{Binding, ClusterMark, Evidence, Outcome, Policy, Refusal, Roots, Trust, Verified};
use cluster::identity::NodeIdentity;
use proto::verify::GetAttestationRequest;
use proto::verify::api_client::ApiClient;
use serde::Serialize;

use crate::failure::Failure;
use crate::text::{chain, printable};
use crate::vendors::Vendors;

/// Port of the verification service.
pub(crate) const PORT: u16 = 30081;
const DEADLINE: Duration = Duration::from_secs(60);
/// How often a node that has too much to do is asked.
const ATTEMPTS: usize = 3;
/// gRPC's own limit is 4 MiB; evidence has at most 256 KiB.
const MAX_ANSWER: usize = 512 * 1024;

/// One node to verify.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// Its name, if the cluster gave one.
    pub name: Option<String>,
    /// `host:port` of its verification service.
    pub address: String,
    /// What the cluster says about it.
    pub record: Record,
}

/// What the cluster recorded of a node when it was admitted.
#[derive(Debug, Clone)]
pub(crate) enum Record {
    /// The cluster was not asked: the user named the machine.
    NotAsked,
    /// The cluster was asked and has none: it never admitted this node.
    Missing,
    /// The record.
    Found(Box<NodeIdentity>),
}

/// What became of one node.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeReport {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub address: String,
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Checks that need more than the evidence.
    pub identity: Vec<IdentityCheck>,
    /// What it answered, for whoever appraises it with something else.
    #[serde(skip)]
    pub answer: Option<Answer>,
}

/// Evidence and the nonce it was made for.
#[derive(Debug)]
pub(crate) struct Answer {
    pub nonce: [u8; 32],
    pub evidence: Evidence,
}

#[derive(Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "camelCase")]
pub(crate) enum Verdict {
    Verified {
        evidence: Box<Verified>,
        confidential: bool,
    },
    Refused {
        refusal: Box<Refusal>,
    },
    /// No evidence could be had.
    Unreachable {
        reason: String,
    },
}

/// One comparison with the cluster's records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IdentityCheck {
    pub name: &'static str,
    pub outcome: Outcome,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<String>,
}

impl NodeReport {
    /// What the node is called in output.
    pub(crate) fn title(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.address)
    }

    /// Whether nothing speaks against it.
    pub(crate) fn is_accepted(&self) -> bool {
        matches!(self.verdict, Verdict::Verified { .. })
            && self
                .identity
                .iter()
                .all(|check| matches!(check.outcome, Outcome::Passed | Outcome::Warning))
    }

    fn ak_id(&self) -> Option<String> {
        match &self.verdict {
            Verdict::Verified { evidence, .. } => Some(evidence.ak_id()),
            Verdict::Refused { .. } | Verdict::Unreachable { .. } => None,
        }
    }
}

/// Verifies every target.
pub(crate) async fn verify(
    targets: &[Target],
    policy: &Policy,
    mark: &ClusterMark,
) -> Result<Vec<NodeReport>, Failure> {
    let vendors = Vendors::default();
    let one = |target: &Target| {
        let target = target.clone();
        async move {
            let (verdict, answer) = verify_one(&target.address, policy, mark, vendors).await?;
            let identity = against_record(&verdict, &target.record);
            Ok::<_, Failure>(NodeReport {
                name: target.name,
                address: target.address,
                verdict,
                identity,
                answer,
            })
        }
    };
    let mut reports = futures::future::try_join_all(targets.iter().map(one)).await?;
    distinct(&mut reports);
    Ok(reports)
}

async fn verify_one(
    address: &str,
    policy: &Policy,
    mark: &ClusterMark,
    vendors: Vendors,
) -> Result<(Verdict, Option<Answer>), Failure> {
    let mut nonce = [0; 32];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| Failure::internal("make a nonce"))?;
    let evidence = match tokio::time::timeout(DEADLINE, fetch(address, &nonce)).await {
        Ok(Ok(evidence)) => evidence,
        Ok(Err(reason)) => return Ok((Verdict::Unreachable { reason }, None)),
        Err(_) => {
            let reason = format!("no answer within {} s", DEADLINE.as_secs());
            return Ok((Verdict::Unreachable { reason }, None));
        }
    };
    let binding = Binding::for_verification(&nonce);
    let trust = Trust {
        roots: Roots::vendors(),
        endorsements: &vendors.endorse(&evidence).await,
        cache: &PathCache::default(),
        now: jiff::Timestamp::now(),
    };
    let verdict = match attest::appraise(&evidence, &binding, policy, mark, &trust) {
        Ok(verified) => Verdict::Verified {
            confidential: verified.is_confidential(),
            evidence: Box::new(verified),
        },
        Err(refusal) => Verdict::Refused {
            refusal: Box::new(refusal),
        },
    };
    Ok((verdict, Some(Answer { nonce, evidence })))
}

async fn fetch(address: &str, nonce: &[u8; 32]) -> Result<Evidence, String> {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| chain(&error))?
        .connect_timeout(Duration::from_secs(15));
    let channel = endpoint.connect().await.map_err(|error| chain(&error))?;
    let mut api = ApiClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    let mut attempt = 0;
    loop {
        attempt += 1;
        let request = GetAttestationRequest {
            nonce: nonce.to_vec(),
        };
        match api.get_attestation(request).await {
            Ok(answer) => {
                return Evidence::try_from(answer.into_inner()).map_err(|error| chain(&error));
            }
            Err(status)
                if status.code() == tonic::Code::ResourceExhausted && attempt < ATTEMPTS =>
            {
                tokio::time::sleep(pause()).await;
            }
            Err(status) => return Err(printable(status.message())),
        }
    }
}

/// Half a second to a second and a half, so that many who were turned away do not come back together.
fn pause() -> Duration {
    let mut jitter = [0];
    // without randomness everybody waits as long, which is no more than unlucky
    aws_lc_rs::rand::fill(&mut jitter).ok();
    let [jitter] = jitter;
    Duration::from_millis(500 + 4 * u64::from(jitter))
}

fn against_record(verdict: &Verdict, record: &Record) -> Vec<IdentityCheck> {
    let Verdict::Verified { evidence, .. } = verdict else {
        return Vec::new();
    };
    let without = |outcome, actual: &str| {
        vec![IdentityCheck {
            name: "cluster's record of this node",
            outcome,
            expected: None,
            actual: Some(actual.to_owned()),
        }]
    };
    let record = match record {
        Record::NotAsked => {
            return without(
                Outcome::Warning,
                "not asked for: the cluster's API was not used",
            );
        }
        Record::Missing => {
            return without(Outcome::Failed, "none: the cluster never admitted it");
        }
        Record::Found(record) => record,
    };
    let check = |name, expected: String, actual: String| IdentityCheck {
        name,
        outcome: if expected == actual {
            Outcome::Passed
        } else {
            Outcome::Failed
        },
        expected: Some(expected),
        actual: Some(actual),
    };
    vec![
        check(
            "attestation key is the admitted one",
            record.attestation_key_id.clone(),
            evidence.ak_id(),
        ),
        check(
            "variant is the admitted one",
            record.attestation_variant.clone(),
            evidence.variant().to_string(),
        ),
    ]
}

/// Two names with one key are one machine that answers for both.
fn distinct(reports: &mut [NodeReport]) {
    let mut owners: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for report in reports.iter() {
        if let Some(key) = report.ak_id() {
            owners
                .entry(key)
                .or_default()
                .push(report.title().to_owned());
        }
    }
    for report in reports.iter_mut() {
        let Some(key) = report.ak_id() else { continue };
        let others: Vec<_> = owners
            .get(&key)
            .into_iter()
            .flatten()
            .filter(|name| *name != report.title())
            .cloned()
            .collect();
        report.identity.push(IdentityCheck {
            name: "no other node has this attestation key",
            outcome: if others.is_empty() {
                Outcome::Passed
            } else {
                Outcome::Failed
            },
            expected: None,
            actual: (!others.is_empty()).then(|| format!("also of {}", others.join(", "))),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unreachable(name: &str) -> NodeReport {
        NodeReport {
            name: Some(name.to_owned()),
            address: "127.0.0.1:1".to_owned(),
            verdict: Verdict::Unreachable {
                reason: "no answer".to_owned(),
            },
            identity: Vec::new(),
            answer: None,
        }
    }

    /// A machine of the cluster that gave good evidence.
    fn verified() -> Verdict {
        let image = testkit::boot::Image::default();
        let tpm = testkit::tee::SoftTpm::boot(&image);
        tpm.join(&[7; 32]);
        let binding = Binding::for_verification(&[1; 32]);
        let policy = Policy::from_image_measurements(
            &image.measurements(),
            "qemu",
            attest::Variant::QemuVtpm,
        )
        .unwrap();
        let mark = ClusterMark::Cluster(attest::ClusterIdDigest::of(&[7; 32]));
        let evidence = attest::Issue::issue(&tpm, &binding).unwrap();
        let verified = testkit::appraise(&evidence, &binding, &policy, &mark).unwrap();
        Verdict::Verified {
            confidential: false,
            evidence: Box::new(verified),
        }
    }

    fn report(record: &Record) -> NodeReport {
        let verdict = verified();
        NodeReport {
            name: Some("a".to_owned()),
            address: "127.0.0.1:1".to_owned(),
            identity: against_record(&verdict, record),
            verdict,
            answer: None,
        }
    }

    #[test]
    fn a_node_that_the_cluster_never_admitted_is_not_accepted() {
        let outcome = |report: &NodeReport| report.identity.first().map(|check| check.outcome);
        let missing = report(&Record::Missing);
        assert_eq!(outcome(&missing), Some(Outcome::Failed));
        assert!(!missing.is_accepted());
        let not_asked = report(&Record::NotAsked);
        assert_eq!(outcome(&not_asked), Some(Outcome::Warning));
        assert!(not_asked.is_accepted());
    }

    #[test]
    fn a_node_without_evidence_is_not_accepted() {
        let mut reports = [unreachable("a"), unreachable("b")];
        distinct(&mut reports);
        assert!(
            reports
                .iter()
                .all(|report| !report.is_accepted() && report.identity.is_empty())
        );
    }

    #[test]
    fn the_json_names_the_verdict() {
        let json = serde_json::to_value(unreachable("a")).unwrap();
        assert_eq!(json["verdict"], "unreachable");
        assert_eq!(json["reason"], "no answer");
    }
}
