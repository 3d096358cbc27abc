//! Two services that write at once, played by an API that answers as one would in that moment.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
};

use attest::{Binding, ClusterMark, Issue as _};
use cluster::{
    Role,
    admission::{JoinRequest, Proven, admit, recognise},
    identity::{NodeIdentity as Identity, WireGuardPublicKey},
    network::AddressPlan,
};
use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};
use testkit::{boot::Image, tee::SoftTpm};

use super::*;

fn proven(tpm: &SoftTpm) -> Proven {
    let binding = Binding::for_verification(&[1; 32]);
    let verified = testkit::appraise(
        &tpm.issue(&binding).unwrap(),
        &binding,
        &Image::default().policy(),
        &ClusterMark::NotJoined,
    );
    Proven::from(&verified.unwrap())
}

/// What machine `number` asks for and has proven.
pub(crate) fn machine(number: u8) -> (JoinRequest, Proven) {
    let request = JoinRequest {
        name: format!("worker-{number}").parse().unwrap(),
        role: Role::Worker,
        disk_uuid: format!("00000000-0000-4000-8000-0000000000{number:02x}")
            .parse()
            .unwrap(),
        node_ip: [10, 42, 2, number].into(),
        wireguard_public_key: WireGuardPublicKey::new([number; 32]),
    };
    (request, proven(&SoftTpm::boot(&Image::default())))
}

/// A machine that was admitted as `worker-<number>` when there was no other node.
pub(crate) fn admitted(number: u8) -> AdmittedNode {
    let (request, proven) = machine(number);
    let now = jiff::Timestamp::UNIX_EPOCH;
    admit(&request, &proven, &[], &AddressPlan::default(), now).unwrap()
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

/// An API that has records.
#[derive(Default)]
pub(crate) struct Played {
    objects: Vec<Value>,
    /// What another service writes right after the first create.
    other: Option<Value>,
    /// How often all records were read.
    pub(crate) lists: usize,
    /// What was to be deleted: the path, and the options.
    pub(crate) deleted: Vec<(String, Value)>,
}

impl Played {
    fn answer(&mut self, method: &Method, path: &str, body: &[u8]) -> Response<Body> {
        match *method {
            Method::POST => {
                let mut created: Value = serde_json::from_slice(body).unwrap();
                created["metadata"]["resourceVersion"] = "7".into();
                created["metadata"]["uid"] = "the-written-one".into();
                self.objects.push(created.clone());
                self.objects.extend(self.other.take());
                answer(StatusCode::CREATED, &created)
            }
            Method::GET => {
                self.lists += 1;
                let list = json!({
                    "kind": "ConfigMapList", "apiVersion": "v1", "metadata": {}, "items": self.objects,
                });
                answer(StatusCode::OK, &list)
            }
            Method::DELETE => {
                let options = serde_json::from_slice(body).unwrap();
                self.deleted.push((path.to_owned(), options));
                let done = json!({ "kind": "Status", "apiVersion": "v1", "status": "Success" });
                answer(StatusCode::OK, &done)
            }
            Method::PUT => {
                let mut changed: Value = serde_json::from_slice(body).unwrap();
                let same = |object: &&mut Value| {
                    let field = |name| object["metadata"][name] == changed["metadata"][name];
                    field("name") && field("resourceVersion")
                };
                let Some(object) = self.objects.iter_mut().find(same) else {
                    return failure(StatusCode::CONFLICT, "Conflict");
                };
                changed["metadata"]["resourceVersion"] = "8".into();
                object.clone_from(&changed);
                answer(StatusCode::OK, &changed)
            }
            _ => failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
        }
    }
}

/// An API without records, in which `other` appears after the first create.
pub(crate) fn api(other: Option<Value>) -> (Records, Arc<Mutex<Played>>) {
    let played = Arc::new(Mutex::new(Played {
        other,
        ..Played::default()
    }));
    let behind = Arc::clone(&played);
    let service = tower::service_fn(move |request: Request<Body>| {
        let played = Arc::clone(&behind);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let mut played = played.lock().unwrap();
            Ok::<_, Infallible>(played.answer(&parts.method, parts.uri.path(), &body))
        }
    });
    (Records::new(Client::new(service, "default")), played)
}

/// The record of another node that has all of `identity` but the name.
pub(crate) fn another(identity: &Identity, name: &str) -> Value {
    let other = Identity {
        name: name.parse().unwrap(),
        ..identity.clone()
    };
    serde_json::to_value(NodeIdentity::from_identity(&other)).unwrap()
}

/// Writes and looks again, as one after the other.
async fn write(records: &Records, admitted: &AdmittedNode) -> Result<Stored, RecordsError> {
    let written = records.write(admitted, None).await?;
    let now: Vec<Record> = (records.list().await?.into_iter())
        .map(|stored| stored.record)
        .collect();
    records.confirm(written, &now).await
}

#[tokio::test]
async fn a_record_that_meets_another_services_is_withdrawn() {
    let admitted = admitted(10);
    let (records, played) = api(Some(another(admitted.identity(), "worker-11")));
    let error = write(&records, &admitted).await.unwrap_err();
    assert!(
        matches!(&error, RecordsError::Conflict { name, other, .. }
            if name.as_str() == "worker-10" && other.as_str() == "worker-11"),
        "{error}"
    );
    // Only the object that was written, and only if nobody changed it since.
    let deleted = &played.lock().unwrap().deleted;
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
    let (records, played) = api(None);
    let stored = write(&records, &admitted(10)).await.unwrap();
    assert_eq!(stored.record.standing, Standing::Pending);
    assert_eq!(stored.token_id(), None, "its token comes with its ticket");
    assert!(played.lock().unwrap().deleted.is_empty());
}

#[tokio::test]
async fn a_record_that_somebody_changed_is_not_overwritten() {
    let (records, played) = api(None);
    let stored = write(&records, &admitted(10)).await.unwrap();
    played.lock().unwrap().objects[0]["metadata"]["resourceVersion"] = "9".into();
    for outcome in [
        records.set_token(&stored, "abcdef").await,
        records
            .set_certificates(&stored, &Certificates::default(), true)
            .await
            .map(drop),
    ] {
        assert!(
            matches!(outcome, Err(RecordsError::Raced(_))),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_rejoin_before_the_node_has_joined_notes_its_boot_and_keeps_its_token() {
    let tpm = SoftTpm::boot(&Image::default());
    let (request, _) = machine(10);
    let now = jiff::Timestamp::UNIX_EPOCH;
    let plan = AddressPlan::default();
    let admitted = admit(&request, &proven(&tpm), &[], &plan, now).unwrap();
    let (records, _) = api(None);
    let stored = write(&records, &admitted).await.unwrap();
    records.set_token(&stored, "abcdef").await.unwrap();
    let read = async || records.list().await.unwrap().remove(0);
    let comes_back = |stored: &Stored| {
        let known = [stored.record.clone()];
        recognise(request.disk_uuid, &proven(&tpm), &known).unwrap()
    };

    let stored = read().await;
    tpm.reboot(&Image::default());
    let back = comes_back(&stored);
    let noted = records.note_boot(&back, stored.clone()).await.unwrap();
    for record in [noted, read().await] {
        assert_eq!(record.record.identity.reset_count, Some(1));
        assert_eq!(record.record.standing, Standing::Pending);
        assert_eq!(record.token_id(), Some("abcdef"));
    }
    let again = comes_back(&read().await);
    assert_eq!(again.write(), Write::Keep);
}
