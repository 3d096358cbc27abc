use std::{
    convert::Infallible,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{Method, Request, Response};
use kube::client::Body;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;

/// A request that is denied, since it is none.
fn malformed(name: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": { "signerName": "kubernetes.io/kubelet-serving", "request": "eA==", "username": "system:node:worker-0" },
    })
}

/// An API with two open requests that never answers the first question about records; and which requests it was told a decision on.
fn api() -> (Client, Arc<Mutex<Vec<String>>>) {
    let decided = Arc::new(Mutex::new(Vec::new()));
    let (seen, asked) = (decided.clone(), Arc::new(AtomicBool::new(false)));
    let service = tower::service_fn(move |request: Request<Body>| {
        let (seen, asked) = (seen.clone(), asked.clone());
        async move {
            let (parts, body) = request.into_parts();
            let path = parts.uri.path();
            let list = |kind: &str, items: Vec<Value>| json!({ "kind": kind, "apiVersion": "v1", "metadata": {}, "items": items });
            let answer = if parts.method == Method::PUT {
                seen.lock().unwrap().push(path.to_owned());
                serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap()
            } else if path.ends_with("/certificatesigningrequests") {
                let requests = ["first", "second"].map(malformed).to_vec();
                list("CertificateSigningRequestList", requests)
            } else if asked.swap(true, Ordering::Relaxed) {
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

#[tokio::test(start_paused = true)]
async fn a_question_that_is_never_answered_holds_up_no_other_request() {
    let (client, decided) = api();
    let context = runtime::Context::new("test");
    let approver = Approver {
        requests: Api::all(client.clone()),
        records: Records::new(client.clone()),
        events: Events::start(client.clone(), &context),
        client,
        decisions: Family::default(),
    };
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
