//! Machines that several clusters claim: metadata that lists control planes of two, and administrators who both have the init secret.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use attest::{ClusterMark, RefusalCode};
use channel::{Client, Verifier};
use keys::{ClusterId, MeasurementSalt, MeasurementSecret};
use node::bootstrapper::drive::drive;
use node::progress::Log;
use proto::init::init_response::Kind;
use proto::init::{InitRequest, api_client::ApiClient};
use proto::join::IssueJoinTicketResponse;
use testkit::boot::Image;
use tonic::Code;

use super::init::{self, Recorder, SECRET, Served};
use super::join::{client_of, join_service_at, ticket};
use super::machine::{Machine, cluster_id};

const ADDRESSES: [[u8; 4]; 2] = [[127, 0, 0, 1], [127, 0, 0, 3]];
/// The clusters whose join services metadata names.
const CLUSTERS: [u8; 2] = [8, 9];
/// The salts of the clusters that administrators want to make.
const NEW: [u8; 2] = [7, 6];

fn new_cluster(salt: u8) -> ClusterId {
    let (master, of_master) = init::keys();
    ClusterId::derive(
        &MeasurementSecret::derive(&master, &of_master),
        &MeasurementSalt::from_slice(&[salt; 32]).unwrap(),
    )
}

/// What came of one of those who claim a node. A refusal is one that says why.
#[derive(Debug)]
enum Claim {
    Has(ClusterId),
    Refused,
}

/// An administrator who looks, as the CLI does, that the node belongs to nobody.
async fn init(served: &Served, salt: u8) -> Claim {
    let policy = Arc::new(served.machine.image.policy());
    let client = Client::admin(Verifier::new(policy, ClusterMark::NotJoined));
    let channel = match channel::tonic::connect(&client, served.address).await {
        Ok((channel, _node)) => channel,
        Err(error) => {
            let code = error.refusal().map(attest::Refusal::code);
            assert_eq!(code, Some(RefusalCode::ClusterMark), "{error}");
            return Claim::Refused;
        }
    };
    let order = InitRequest {
        measurement_salt: vec![salt; 32],
        ..init::request(salt, SECRET)
    };
    let mut stream = match ApiClient::new(channel).init(order).await {
        Ok(answer) => answer.into_inner(),
        Err(status) => {
            assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
            let words = "already belongs to a cluster or is on its way into one";
            assert!(status.message().contains(words), "{status}");
            return Claim::Refused;
        }
    };
    while let Some(response) = stream.message().await.unwrap() {
        match response.kind.unwrap() {
            Kind::InitSuccess(success) => {
                assert_eq!(success.cluster_id, new_cluster(salt).as_bytes());
                return Claim::Has(new_cluster(salt));
            }
            Kind::InitFailure(failure) => panic!("{}", failure.error),
            _ => {}
        }
    }
    panic!("no end");
}

/// The node itself, which asks the join services of both clusters.
async fn join(served: &Served, port: u16) -> Claim {
    let control_planes = ADDRESSES.map(IpAddr::from).to_vec();
    let joining = client_of(control_planes, &served.machine, port, &served.lock).run();
    // a join service refuses whoever bears a mark; the node goes on asking until its program hears of the init
    let refused = async {
        let words = "the peer refused this machine's evidence";
        while !served.machine.heard.text().contains(words) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let joined = tokio::select! {
        joined = joining => joined,
        () = refused => return Claim::Refused,
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("{}", served.machine.heard.text()),
    };
    let Ok((awaiting, ticket, _)) = joined else {
        return Claim::Refused;
    };
    let steps = Arc::new(Recorder {
        machine: served.machine.measured.clone(),
        fails: None,
        steps: Arc::clone(&served.steps),
    });
    let (machine, log) = (&served.machine.measured, Log::begin());
    let driven = drive(machine, &ticket.cluster_id, awaiting, steps, &log).await;
    assert!(driven.is_ok(), "{:?}", driven.err());
    Claim::Has(ticket.cluster_id)
}

#[derive(Clone, Copy, Debug)]
enum First {
    Init,
    Join,
    Nobody,
}

/// Two administrators want to make a cluster of a new node, and metadata names the control planes of two others: whoever is first has
/// it, the register is extended once, and the others hear that it is taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_node_that_several_clusters_claim_ends_in_exactly_one() {
    let members = [
        Machine::boot(Image::default()),
        Machine::boot(Image::default()),
    ];
    let mut port = 0;
    for ((member, cluster), address) in members.iter().zip(CLUSTERS).zip(ADDRESSES) {
        let id = cluster_id(cluster);
        member.measured.extend_mark(&id).await.unwrap();
        let its_own = IssueJoinTicketResponse {
            measurement_secret: vec![cluster; 32],
            measurement_salt: vec![cluster; 32],
            ..ticket()
        };
        port = join_service_at(address.into(), port, member, its_own).await;
    }
    for first in [First::Init, First::Join, First::Nobody, First::Nobody] {
        let served = Served::on(Machine::boot(Image::default()), None).await;
        let inits = async { tokio::join!(init(&served, NEW[0]), init(&served, NEW[1])) };
        let ((one, other), joined) = match first {
            First::Init => (inits.await, join(&served, port).await),
            First::Join => {
                let joined = join(&served, port).await;
                (inits.await, joined)
            }
            First::Nobody => tokio::join!(inits, join(&served, port)),
        };
        let claims = [one, other, joined];
        let mut winners = claims.iter().filter_map(|claim| match claim {
            Claim::Has(cluster) => Some(cluster),
            Claim::Refused => None,
        });
        let winner = winners
            .next()
            .unwrap_or_else(|| panic!("{first:?}: nobody"));
        assert!(winners.next().is_none(), "{first:?}: {claims:?}");
        // what one extension of zero gives
        assert_eq!(served.machine.pcr15().await, winner.pcr15(), "{first:?}");
        let steps = served.steps.lock().unwrap();
        assert!(steps.iter().all(|(_, pcr15)| *pcr15 == winner.pcr15()));
        let mut each: Vec<_> = steps.iter().map(|(step, _)| format!("{step:?}")).collect();
        let all = each.len();
        each.sort();
        each.dedup();
        assert_eq!(each.len(), all, "{first:?}: a step was done twice");
    }
}
