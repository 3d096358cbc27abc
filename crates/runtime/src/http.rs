//! The operations server: `/healthz`, `/readyz`, `/metrics`. Plain HTTP/1.1, GET only, no state can be changed by it.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::{BoundedListener, Context};

/// Connections in all, and from one address. What an address has over its share is closed: a kubelet's probe must not stand in line
/// behind a pod that holds connections.
const CONNECTIONS: usize = 128;
const CONNECTIONS_PER_SOURCE: usize = 8;
const HEADER_DEADLINE: Duration = Duration::from_secs(5);
const CONNECTION_DEADLINE: Duration = Duration::from_secs(30);

/// Why the operations server cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or not ours.
    #[error("bind the operations server to {0}")]
    Bind(SocketAddr, #[source] std::io::Error),
}

/// Binds now (a taken port is a start-up error) and serves in the background until shutdown. Returns the bound address.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve_operations(
    address: SocketAddr,
    context: &Context,
) -> Result<SocketAddr, ServeError> {
    let bind = |error| ServeError::Bind(address, error);
    let listener = TcpListener::bind(address).await.map_err(bind)?;
    let bound = listener.local_addr().map_err(bind)?;
    tokio::spawn(serve(listener, context.clone()));
    Ok(bound)
}

async fn serve(listener: TcpListener, context: Context) {
    let listener = BoundedListener::new(listener, CONNECTIONS, CONNECTIONS_PER_SOURCE);
    loop {
        let (connection, _) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = context.shutdown.cancelled() => return,
        };
        let context = context.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| {
                std::future::ready(Ok::<_, Infallible>(answer(&request, &context)))
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_DEADLINE)
                .serve_connection(TokioIo::new(connection), service);
            // How a probe's connection ended is of no interest.
            let _ended = tokio::time::timeout(CONNECTION_DEADLINE, connection).await;
        });
    }
}

fn answer(request: &Request<Incoming>, context: &Context) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n".to_owned());
    }
    page(request.uri().path(), context)
}

fn page(path: &str, context: &Context) -> Response<Full<Bytes>> {
    match path {
        "/healthz" => text(StatusCode::OK, "ok\n".to_owned()),
        "/readyz" => {
            let (ready, report) = context.health.report();
            // A process that drains must get no new work, whatever its conditions say.
            if ready && !context.shutdown.is_cancelled() {
                text(StatusCode::OK, report + "ok\n")
            } else {
                text(StatusCode::SERVICE_UNAVAILABLE, report + "not ready\n")
            }
        }
        "/metrics" => {
            let mut response = text(StatusCode::OK, context.metrics.encode());
            response.headers_mut().insert(
                header::CONTENT_TYPE,
                header::HeaderValue::from_static(
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                ),
            );
            response
        }
        _ => text(StatusCode::NOT_FOUND, "no such page\n".to_owned()),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpStream,
    };

    use super::*;

    async fn get(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn request(method: &str, path: &str) -> String {
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    }

    #[tokio::test]
    async fn serves_health_readiness_and_metrics() {
        let context = Context::new("test");
        let condition = context.health.condition("policy");
        let address = serve_operations("127.0.0.1:0".parse().unwrap(), &context)
            .await
            .unwrap();
        assert!(
            get(address, &request("GET", "/healthz"))
                .await
                .starts_with("HTTP/1.1 200")
        );
        let answer = get(address, &request("GET", "/readyz")).await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.contains("[-] policy: not yet"),
            "{answer}"
        );
        condition.met();
        assert!(
            get(address, &request("GET", "/readyz"))
                .await
                .starts_with("HTTP/1.1 200")
        );
        let answer = get(address, &request("GET", "/metrics")).await;
        assert!(
            answer.contains("constellation_build_info{program=\"test\""),
            "{answer}"
        );
        assert!(
            get(address, &request("POST", "/healthz"))
                .await
                .starts_with("HTTP/1.1 405")
        );
        assert!(
            get(address, &request("GET", "/secrets"))
                .await
                .starts_with("HTTP/1.1 404")
        );
    }

    #[tokio::test]
    async fn connections_that_are_held_open_do_not_keep_others_out() {
        let context = Context::new("test");
        let address = serve_operations("127.0.0.1:0".parse().unwrap(), &context)
            .await
            .unwrap();
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            held.push(TcpStream::connect(address).await.unwrap());
        }
        // closed at once, while those that have a place stay open until their deadline
        let mut over = held.pop().unwrap();
        assert_eq!(over.read(&mut [0]).await.unwrap_or(0), 0);
        // from another address of this host
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut probe = socket.connect(address).await.unwrap();
        probe
            .write_all(request("GET", "/healthz").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        probe.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    #[tokio::test]
    async fn a_draining_process_is_not_ready() {
        let context = Context::new("test");
        assert_eq!(page("/readyz", &context).status(), StatusCode::OK);
        context.shutdown.cancel();
        assert_eq!(
            page("/readyz", &context).status(),
            StatusCode::SERVICE_UNAVAILABLE
        );
    }

    #[tokio::test]
    async fn a_taken_port_is_a_start_up_error() {
        let context = Context::new("test");
        let taken = serve_operations("127.0.0.1:0".parse().unwrap(), &context)
            .await
            .unwrap();
        let error = serve_operations(taken, &context).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("bind the operations server to {taken}")
        );
    }
}
