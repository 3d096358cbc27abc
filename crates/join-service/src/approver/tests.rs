use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;

/// A request that is denied, since it is none.
fn malformed(name: &str, requestor: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "signerName": SERVING_SIGNER, "request": "eA==", "username": requestor },
    })
}

/// The page that a list of requests asks for: of the signer that has some, and no more than it bears.
fn page(query: &str, requests: &[Value]) -> Value {
    let query: BTreeMap<_, _> = query
        .split('&')
        .filter_map(|part| part.split_once('='))
        .collect();
    let limit: usize = query["limit"].parse().unwrap();
    assert!(limit <= 16, "{query:?}");
    let serving = match query["fieldSelector"] {
        "spec.signerName%3Dkubernetes.io%2Fkubelet-serving" => requests,
        "spec.signerName%3Dkubernetes.io%2Fkube-apiserver-client-kubelet" => &[],
        other => panic!("{other}"),
    };
    let begin = query
        .get("continue")
        .map_or(0, |token| token.parse().unwrap());
    let end = serving.len().min(begin + limit);
    let more = if end < serving.len() {
        end.to_string()
    } else {
        String::new()
    };
    json!({
        "kind": "CertificateSigningRequestList", "apiVersion": "v1",
        "metadata": { "continue": more }, "items": &serving[begin..end],
    })
}

/// An API with open requests that never answers the question about records of this number; and which requests it was told a decision on.
fn api(requests: Vec<Value>, unanswered: Option<usize>) -> (Client, Arc<Mutex<Vec<String>>>) {
    let decided = Arc::new(Mutex::new(Vec::new()));
    let (seen, asked) = (decided.clone(), Arc::new(AtomicUsize::new(0)));
    let requests = Arc::new(requests);
    let service = tower::service_fn(move |request: Request<Body>| {
        let (seen, asked, requests) = (seen.clone(), asked.clone(), requests.clone());
        async move {
            let (parts, body) = request.into_parts();
            let path = parts.uri.path();
            let list = |kind: &str, items: Vec<Value>| json!({ "kind": kind, "apiVersion": "v1", "metadata": {}, "items": items });
            let answer = if parts.method == Method::PUT {
                seen.lock().unwrap().push(path.to_owned());
                serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap()
            } else if path.ends_with("/certificatesigningrequests") {
                page(parts.uri.query().unwrap(), &requests)
            } else if Some(asked.fetch_add(1, Ordering::Relaxed)) != unanswered {
                list("ConfigMapList", Vec::new())
            } else {
                std::future::pending().await
            };
            let body = Body::from(answer.to_string().into_bytes());
            Ok::<_, Infallible>(Response::new(body))
        }
    });
    (Client::new(service, "default"), decided)
}

fn approver(client: Client) -> Approver {
    let context = runtime::Context::new("test");
    Approver {
        requests: Api::all(client.clone()),
        records: Records::new(client.clone()),
        events: Events::start(client.clone(), &context),
        client,
        decisions: Family::default(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_never_answered_holds_up_no_other_request() {
    let requests = ["first", "second"].map(|name| malformed(name, "system:node:worker-0"));
    let (client, decided) = api(requests.to_vec(), Some(1));
    let approver = approver(client);
    approver.settle().await.unwrap();
    let first = |path: &String| path.ends_with("/first/approval");
    let second = |path: &String| path.ends_with("/second/approval");
    let once = decided.lock().unwrap().clone();
    assert!(
        once.iter().any(second) && !once.iter().any(first),
        "{once:?}"
    );
    // It is still open, and settled the next time.
    approver.settle().await.unwrap();
    assert!(decided.lock().unwrap().iter().any(first));
}

#[tokio::test]
async fn who_has_many_requests_has_a_share_of_a_round_and_the_last_page_is_read() {
    let many = (0..100).map(|number| malformed(&format!("a-{number:03}"), "system:node:worker-0"));
    let one = malformed("b", "system:node:worker-1");
    let (client, decided) = api(many.chain([one]).collect(), None);
    let approver = approver(client);
    approver.settle().await.unwrap();
    let decided = decided.lock().unwrap().clone();
    let of_others = decided.iter().filter(|path| path.contains("/a-")).count();
    assert_eq!((of_others, decided.len()), (8, 9), "{decided:?}");
    assert!(decided.iter().any(|path| path.ends_with("/b/approval")));
}

#[tokio::test]
async fn who_has_many_certificates_has_one_share() {
    let many = (0..100).map(|number| {
        let mut request = malformed(&format!("a-{number:03}"), "system:node:worker-0");
        request["spec"]["extra"] = json!({
            "authentication.kubernetes.io/credential-id": [format!("X509SHA256={number:064x}")],
        });
        request
    });
    let (client, decided) = api(many.collect(), None);
    approver(client).settle().await.unwrap();
    assert_eq!(decided.lock().unwrap().len(), 8);
}

#[tokio::test]
async fn a_task_that_panics_ends_the_process() {
    let shutdown = CancellationToken::new();
    spawn_vital(shutdown.clone(), async { panic!("a test") });
    shutdown.cancelled().await;
}

#[tokio::test]
async fn a_task_ends_when_the_process_is_asked_to_stop() {
    let shutdown = CancellationToken::new();
    let task = spawn_vital(shutdown.clone(), std::future::pending());
    shutdown.cancel();
    task.await.unwrap();
}
