//! The metadata server of a local cluster, with the component mirror beside it.
//!
//! Guests ask it who they are, who their peers are, and for the files of Kubernetes. It gives out nothing secret: the
//! init secret only as its bcrypt hash. It accepts nothing: every method but GET and HEAD is refused.
//! Paths as the original's (constellation-facts.md 15.1).

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cluster::InstanceMetadata;
use cluster::metadata::Endpoint;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue, RANGE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::mirror::Mirror;
use super::{Mac, Seat};

/// Connections served at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;
const HEADER_DEADLINE: Duration = Duration::from_secs(10);

pub(crate) type Body = BoxBody<Bytes, std::io::Error>;

/// What the server tells.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The machines.
    pub seats: Vec<Seat>,
    /// bcrypt hash of the init secret.
    pub init_secret_hash: String,
    /// Where the API server is reached on the network between the machines.
    pub endpoint: Endpoint,
}

/// The server: facts, and a mirror when the components are local files.
#[derive(Debug)]
pub struct Server {
    facts: Facts,
    mirror: Option<Mirror>,
}

impl Server {
    /// A server of these facts.
    pub fn new(facts: Facts, mirror: Option<Mirror>) -> Self {
        Self { facts, mirror }
    }

    /// Serves until its future is dropped.
    pub async fn serve(self, listener: TcpListener) -> std::io::Result<Infallible> {
        let server = Arc::new(self);
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let permit = Arc::clone(&permits)
                .acquire_owned()
                .await
                .map_err(std::io::Error::other)?;
            let (stream, peer) = listener.accept().await?;
            while connections.try_join_next().is_some() {}
            let server = Arc::clone(&server);
            connections.spawn(async move {
                let service = service_fn(|request| {
                    let server = Arc::clone(&server);
                    async move { Ok::<_, Infallible>(server.answer(&request, peer).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_DEADLINE)
                    .max_buf_size(64 * 1024)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
                if let Err(error) = connection {
                    tracing::debug!(%peer, %error, "connection ended early");
                }
                drop(permit);
            });
        }
    }

    async fn answer(&self, request: &Request<Incoming>, peer: SocketAddr) -> Response<Body> {
        let response = self.route(request).await;
        tracing::info!(%peer, method = %request.method(), uri = %request.uri(), status = response.status().as_u16(), "request");
        response
    }

    async fn route(&self, request: &Request<Incoming>) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return status(StatusCode::METHOD_NOT_ALLOWED);
        }
        match request.uri().path() {
            "/self" => match asker(request.uri().query()) {
                Some(instance) => json(&instance),
                None => status(StatusCode::NOT_FOUND),
            },
            "/peers" => json(
                &self
                    .facts
                    .seats
                    .iter()
                    .map(|seat| seat.instance())
                    .collect::<Vec<_>>(),
            ),
            "/initsecrethash" => text(self.facts.init_secret_hash.clone()),
            "/endpoint" => json(&self.facts.endpoint),
            path => match (path.strip_prefix("/components/"), &self.mirror) {
                (Some(file), Some(mirror)) => {
                    let head = request.method() == Method::HEAD;
                    mirror
                        .answer(file, request.headers().get(RANGE), head)
                        .await
                }
                _ => status(StatusCode::NOT_FOUND),
            },
        }
    }
}

/// Who a machine is follows from its MAC address, so that a machine added later needs no server with other facts.
fn asker(query: Option<&str>) -> Option<InstanceMetadata> {
    let mac = query?
        .split('&')
        .find_map(|pair| pair.strip_prefix("mac="))?;
    let mac = Mac::parse(&mac.replace("%3A", ":").replace("%3a", ":"))?;
    Seat::of_cluster_mac(mac).map(Seat::instance)
}

pub(crate) fn status(code: StatusCode) -> Response<Body> {
    let mut response = text(format!("{code}\n"));
    *response.status_mut() = code;
    response
}

fn text(text: String) -> Response<Body> {
    full(Bytes::from(text), "text/plain; charset=utf-8")
}

fn json<T: serde::Serialize>(value: &T) -> Response<Body> {
    match serde_json::to_vec(value) {
        Ok(bytes) => full(Bytes::from(bytes), "application/json"),
        Err(error) => {
            tracing::error!(%error, "serialize an answer");
            status(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

fn full(bytes: Bytes, content_type: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::new(bytes).map_err(|never| match never {}).boxed());
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
