//! Two services that write at once, played by an API that answers as one would in that moment.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use attest::{Binding, ClusterMark, Issue as _};
use cluster::{
    Role,
    admission::{JoinRequest, Proven, admit},
    identity::{NodeIdentity as Identity, WireGuardPublicKey},
    network::AddressPlan,
};
use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};
use testkit::{boot::Image, tee::SoftTpm};

use super::*;

/// A machine that was admitted as `worker-<number>` when there was no other node.
fn admitted(number: u8) -> AdmittedNode {
    let image = Image::default();
    let binding = Binding::for_verification(&[number; 32]);
    let evidence = SoftTpm::boot(&image).issue(&binding).unwrap();
    let verified = attest::appraise(
        &evidence,
        &binding,
        &image.policy(),
        &ClusterMark::NotJoined,
    )
    .unwrap();
    let request = JoinRequest {
        name: format!("worker-{number}").parse().unwrap(),
        role: Role::Worker,
        disk_uuid: format!("00000000-0000-4000-8000-0000000000{number:02x}")
            .parse()
            .unwrap(),
        node_ip: [10, 42, 2, number].into(),
        wireguard_public_key: WireGuardPublicKey::new([number; 32]),
    };
    let now = jiff::Timestamp::UNIX_EPOCH;
    admit(
        &request,
        &Proven::from(&verified),
        &[],
        &AddressPlan::default(),
        now,
    )
    .unwrap()
}

fn answer(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string().into_bytes()));
    *response.status_mut() = status;
    response
}

fn failure(status: StatusCode, reason: &str) -> Response<Body> {
    let value = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": reason, "reason": reason, "code": status.as_u16(),
    });
    answer(status, &value)
}

/// What an API was asked to delete: the path, and the options.
type Deleted = Arc<Mutex<Vec<(String, Value)>>>;

/// An API in which `other` appears between a create and the next list.
fn api(other: Option<Identity>) -> (Records, Deleted) {
    let deleted = Deleted::default();
    let seen = deleted.clone();
    let created = Arc::new(Mutex::new(Value::Null));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (created, seen, other) = (created.clone(), seen.clone(), other.clone());
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let mut created = created.lock().unwrap();
            Ok::<_, Infallible>(match parts.method {
                Method::POST => {
                    *created = serde_json::from_slice(&body).unwrap();
                    created["metadata"]["resourceVersion"] = "7".into();
                    created["metadata"]["uid"] = "the-written-one".into();
                    answer(StatusCode::CREATED, &created)
                }
                Method::GET => {
                    let other = other.map(|identity| {
                        serde_json::to_value(NodeIdentity::from_identity(&identity)).unwrap()
                    });
                    let items: Vec<Value> = [created.clone()].into_iter().chain(other).collect();
                    let list = json!({
                        "kind": "ConfigMapList", "apiVersion": "v1", "metadata": {}, "items": items,
                    });
                    answer(StatusCode::OK, &list)
                }
                Method::DELETE => {
                    let options = serde_json::from_slice(&body).unwrap();
                    let path = parts.uri.path().to_owned();
                    seen.lock().unwrap().push((path, options));
                    let done = json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" });
                    answer(StatusCode::OK, &done)
                }
                _ => failure(StatusCode::CONFLICT, "Conflict"),
            })
        }
    });
    (Records::new(Client::new(service, "default")), deleted)
}

#[tokio::test]
async fn a_record_that_meets_another_services_is_withdrawn() {
    let admitted = admitted(10);
    let other = Identity {
        name: "worker-11".parse().unwrap(),
        ..admitted.identity().clone()
    };
    let (records, deleted) = api(Some(other));
    let error = records.write(&admitted, &[]).await.unwrap_err();
    assert!(
        matches!(&error, RecordsError::Conflict { name, other, .. }
            if name.as_str() == "worker-10" && other.as_str() == "worker-11"),
        "{error}"
    );
    // Only the object that was written, and only if nobody changed it since.
    let deleted = deleted.lock().unwrap();
    let [(path, options)] = deleted.as_slice() else {
        panic!("{deleted:?}")
    };
    assert!(path.ends_with("/configmaps/worker-10"), "{path}");
    assert_eq!(
        options["preconditions"],
        json!({ "resourceVersion": "7", "uid": "the-written-one" })
    );
}

#[tokio::test]
async fn a_record_that_meets_no_other_is_pending_and_stays() {
    let (records, deleted) = api(None);
    let stored = records.write(&admitted(10), &[]).await.unwrap();
    assert_eq!(stored.record.standing, Standing::Pending);
    assert_eq!(stored.token_id(), None, "its token comes with its ticket");
    assert!(deleted.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_record_that_somebody_changed_is_not_overwritten() {
    let (records, _) = api(None);
    let stored = records.write(&admitted(10), &[]).await.unwrap();
    for outcome in [
        records.set_token(&stored, "abcdef").await,
        records.set_joined(&stored).await,
    ] {
        assert!(
            matches!(outcome, Err(RecordsError::Raced(_))),
            "{outcome:?}"
        );
    }
}
