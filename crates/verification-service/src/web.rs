//! `GET /?nonce=<base64url>` for people and scripts: `{"data": "<base64>", "variant": "..."}`.

use std::{convert::Infallible, time::Duration};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD},
};
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::{
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use runtime::{BoundedListener, Source};
use tokio_util::sync::CancellationToken;

use crate::evidence::{EvidenceError, Evidences};

const HEADER_DEADLINE: Duration = Duration::from_secs(5);
const CONNECTION_DEADLINE: Duration = Duration::from_secs(30);

pub(crate) async fn serve(
    listener: BoundedListener,
    evidences: Evidences,
    shutdown: CancellationToken,
) {
    loop {
        let (connection, address) = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => return,
        };
        let evidences = evidences.clone();
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let evidences = evidences.clone();
                async move {
                    let from = address.into();
                    Ok::<_, Infallible>(
                        answer(request.method(), request.uri(), from, &evidences).await,
                    )
                }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_DEADLINE)
                .max_buf_size(16 * 1024)
                .keep_alive(false)
                .serve_connection(TokioIo::new(connection), service);
            // How the connection ended matters to the other side only.
            let _ended = tokio::time::timeout(CONNECTION_DEADLINE, connection).await;
        });
    }
}

async fn answer(
    method: &Method,
    uri: &Uri,
    from: Source,
    evidences: &Evidences,
) -> Response<Full<Bytes>> {
    if method != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET only");
    }
    if uri.path() != "/" {
        return text(
            StatusCode::NOT_FOUND,
            "no such page: GET /?nonce=<base64url of 32 bytes>",
        );
    }
    let nonce = match nonce(uri.query().unwrap_or_default()) {
        Ok(nonce) => nonce,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    match evidences.make(&nonce, from).await {
        Ok(evidence) => {
            let body = serde_json::json!({
                "data": STANDARD.encode(evidence.document()),
                "variant": evidence.variant(),
            });
            respond(StatusCode::OK, "application/json", body.to_string())
        }
        Err(EvidenceError::Busy) => {
            let mut response = text(
                StatusCode::SERVICE_UNAVAILABLE,
                "too many requests, try again later",
            );
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, header::HeaderValue::from_static("2"));
            response
        }
        Err(EvidenceError::Issue(_) | EvidenceError::Thread(_)) => text(
            StatusCode::INTERNAL_SERVER_ERROR,
            "this machine cannot make evidence",
        ),
    }
}

/// The one parameter `nonce`, in base64url with or without padding.
fn nonce(query: &str) -> Result<[u8; 32], &'static str> {
    let mut values = query
        .split('&')
        .filter_map(|pair| pair.strip_prefix("nonce="));
    let value = values.next().ok_or("the parameter nonce is missing")?;
    if values.next().is_some() {
        return Err("the parameter nonce is there more than once");
    }
    // "=" may come percent-encoded.
    let value = value.replace("%3D", "=").replace("%3d", "=");
    let bytes = URL_SAFE_NO_PAD
        .decode(&value)
        .or_else(|_| URL_SAFE.decode(&value))
        .map_err(|_| "the nonce is not base64url")?;
    bytes.try_into().map_err(|_| "the nonce must have 32 bytes")
}

fn text(status: StatusCode, line: &str) -> Response<Full<Bytes>> {
    respond(status, "text/plain; charset=utf-8", format!("{line}\n"))
}

fn respond(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert(
        header::CACHE_CONTROL,
        header::HeaderValue::from_static("no-store"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_32_bytes_once() {
        let bytes = [0xfb; 32];
        for encoded in [
            URL_SAFE_NO_PAD.encode(bytes),
            URL_SAFE.encode(bytes),
            URL_SAFE.encode(bytes).replace('=', "%3D"),
        ] {
            assert_eq!(nonce(&format!("nonce={encoded}")), Ok(bytes));
            assert_eq!(nonce(&format!("a=b&nonce={encoded}&c")), Ok(bytes));
        }
        let one = URL_SAFE_NO_PAD.encode(bytes);
        for (query, why) in [
            (String::new(), "the parameter nonce is missing"),
            ("xnonce=AAAA".to_owned(), "the parameter nonce is missing"),
            (
                format!("nonce={one}&nonce={one}"),
                "the parameter nonce is there more than once",
            ),
            (
                format!("nonce={}", STANDARD.encode(bytes)),
                "the nonce is not base64url",
            ),
            ("nonce=".to_owned(), "the nonce must have 32 bytes"),
            (
                format!("nonce={}", URL_SAFE_NO_PAD.encode([0; 31])),
                "the nonce must have 32 bytes",
            ),
            (
                format!("nonce={}", URL_SAFE_NO_PAD.encode([0; 33])),
                "the nonce must have 32 bytes",
            ),
        ] {
            assert_eq!(nonce(&query), Err(why), "{query}");
        }
    }
}
