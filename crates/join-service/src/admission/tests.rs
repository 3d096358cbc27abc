//! Turns over a played API.

use std::collections::BTreeSet;

use cluster::admission::{Denial, Unique};

use super::*;
use crate::records::tests::{admitted, another, api, machine};

type Answered = oneshot::Receiver<Result<Admitted, Refusal>>;

fn applicant((request, proven): (JoinRequest, Proven)) -> (Applicant, Answered) {
    let (answer, answered) = oneshot::channel();
    let applicant = Applicant {
        request,
        proven,
        now: jiff::Timestamp::UNIX_EPOCH,
        answer,
    };
    (applicant, answered)
}

/// What becomes of them in one turn.
async fn outcomes(
    records: &Records,
    machines: impl IntoIterator<Item = (JoinRequest, Proven)>,
) -> Vec<Result<Admitted, Refusal>> {
    let (applicants, answers): (Vec<_>, Vec<_>) = machines.into_iter().map(applicant).unzip();
    turn(applicants, records, &AddressPlan::default()).await;
    let told = answers.into_iter().map(|mut answer| answer.try_recv());
    told.map(|outcome| outcome.unwrap()).collect()
}

#[tokio::test]
async fn machines_of_one_turn_share_its_lists_and_have_places_of_their_own() {
    let (records, played) = api(None);
    let outcomes = outcomes(&records, (1..=5).map(machine)).await;
    let places: BTreeSet<_> = outcomes
        .iter()
        .map(|outcome| {
            let admitted = outcome.as_ref().map_err(Refusal::word).unwrap();
            assert_eq!(admitted.all.len(), 5, "each ticket has all of them");
            admitted.stored.record.identity.index
        })
        .collect();
    assert_eq!(places.len(), 5);
    assert_eq!(played.lock().unwrap().lists, 2);
}

#[tokio::test]
async fn what_a_machine_earlier_in_the_turn_has_is_taken() {
    let (records, _) = api(None);
    let (request, proven) = machine(1);
    let renamed = JoinRequest {
        name: "worker-2".parse().unwrap(),
        ..request.clone()
    };
    let outcomes = outcomes(&records, [(request, proven.clone()), (renamed, proven)]).await;
    assert!(outcomes[0].is_ok());
    assert!(
        matches!(&outcomes[1], Err(Refusal::Denied(Denial::Taken { what: Unique::AttestationKey, other })) if other.as_str() == "worker-1")
    );
}

#[tokio::test]
async fn only_the_machine_that_meets_another_services_record_is_withdrawn() {
    // The second in the turn has number 2 by then: it shares nothing with the stranger.
    let (records, played) = api(Some(another(admitted(1).identity(), "stranger")));
    let outcomes = outcomes(&records, [machine(1), machine(2)]).await;
    assert!(
        matches!(&outcomes[0], Err(Refusal::Records(error)) if matches!(**error, RecordsError::Conflict { .. }))
    );
    assert!(outcomes[1].is_ok());
    let deleted = &played.lock().unwrap().deleted;
    assert_eq!(deleted.len(), 1);
    assert!(deleted[0].0.ends_with("/worker-1"));
}

#[tokio::test]
async fn a_turn_that_cannot_look_again_admits_nobody() {
    let mut unreadable = another(admitted(9).identity(), "worker-9");
    unreadable["data"]["identity"] = "{".into();
    let (records, _) = api(Some(unreadable));
    for outcome in outcomes(&records, [machine(1), machine(2)]).await {
        assert!(
            matches!(&outcome, Err(Refusal::Records(error)) if matches!(**error, RecordsError::Unreadable(_)))
        );
    }
}

#[tokio::test]
async fn a_machine_that_is_gone_gets_no_record() {
    let (records, played) = api(None);
    let (gone, answered) = applicant(machine(1));
    drop(answered);
    turn(vec![gone], &records, &AddressPlan::default()).await;
    assert_eq!(played.lock().unwrap().lists, 1, "nothing was written");
}
