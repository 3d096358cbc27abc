//! One request: no redirect, no decompression, a deadline, and an answer that is read piece by piece up to a bound.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Client, StatusCode, redirect};
use url::Url;

use crate::fetch_error::Reason;
use crate::item::Item;
use crate::settings::{Proxies, Retries};

/// What came.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) body: Vec<u8>,
    pub(crate) issuer_chain: Option<Vec<u8>>,
}

/// Errors: TLS could not be set up.
pub(crate) fn client(retries: &Retries, proxies: Proxies) -> Result<Client, reqwest::Error> {
    let builder = Client::builder()
        .redirect(redirect::Policy::none())
        .connect_timeout(retries.connect)
        .user_agent(concat!("constellation/", env!("CARGO_PKG_VERSION")))
        // few requests, far apart
        .pool_max_idle_per_host(1);
    match proxies {
        Proxies::None => builder.no_proxy(),
        Proxies::Environment => builder,
    }
    .build()
}

/// Asks once.
pub(crate) async fn get(
    client: &Client,
    item: &Item,
    url: Url,
    patience: Duration,
) -> Result<Published, Reason> {
    match tokio::time::timeout(patience, exchange(client, item, url)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(Reason::Slow(patience)),
    }
}

async fn exchange(client: &Client, item: &Item, url: Url) -> Result<Published, Reason> {
    // the message has the host, and the URL may hold what identifies a machine
    let failed = |error: reqwest::Error| Reason::Transport(Arc::new(error.without_url()));
    let mut answer = client.get(url).send().await.map_err(failed)?;
    refuse_status(answer.status(), answer.headers())?;
    refuse_content(answer.headers())?;
    let issuer_chain = match chain_header(item) {
        Some(name) => Some(unescaped(answer.headers(), name)?),
        None => None,
    };
    let limit = item.limit();
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(failed)? {
        if body.len().saturating_add(piece.len()) > limit {
            return Err(Reason::TooLarge(limit));
        }
        body.extend_from_slice(&piece);
    }
    Ok(Published { body, issuer_chain })
}

fn refuse_status(status: StatusCode, headers: &HeaderMap) -> Result<(), Reason> {
    match status {
        StatusCode::OK => Ok(()),
        StatusCode::TOO_MANY_REQUESTS => Err(Reason::RateLimited(retry_after(headers))),
        StatusCode::SERVICE_UNAVAILABLE if retry_after(headers).is_some() => {
            Err(Reason::RateLimited(retry_after(headers)))
        }
        StatusCode::NOT_FOUND | StatusCode::BAD_REQUEST | StatusCode::GONE => {
            Err(Reason::Unknown(status.as_u16()))
        }
        status if status.is_redirection() => Err(Reason::Redirected(status.as_u16())),
        status => Err(Reason::Status(status.as_u16())),
    }
}

/// Seconds, RFC 9110 section 10.2.3. A date there is not read: it would need this machine's clock and the service's to
/// agree, and neither vendor sends one.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// Vendors and publishers label their content loosely, so only what can not be right is refused.
fn refuse_content(headers: &HeaderMap) -> Result<(), Reason> {
    for (name, wrong) in [
        (
            CONTENT_TYPE,
            &["text/html", "application/xhtml+xml", "multipart/"][..],
        ),
        (
            CONTENT_ENCODING,
            &["gzip", "br", "deflate", "zstd", "compress"],
        ),
    ] {
        let Some(value) = headers.get(name) else {
            continue;
        };
        let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        if wrong
            .iter()
            .any(|wrong| value.trim_start().starts_with(wrong))
        {
            return Err(Reason::ContentType(value.chars().take(80).collect()));
        }
    }
    Ok(())
}

/// The header with the signer's chain. PCS API version 4.
fn chain_header(item: &Item) -> Option<&'static str> {
    match item {
        Item::IntelTcbInfo { .. } => Some("TCB-Info-Issuer-Chain"),
        Item::IntelQeIdentity { .. } => Some("SGX-Enclave-Identity-Issuer-Chain"),
        Item::IntelPckCrl { .. } => Some("SGX-PCK-CRL-Issuer-Chain"),
        Item::AmdVcek(_)
        | Item::AmdChain { .. }
        | Item::AmdCrl { .. }
        | Item::IntelRootCrl
        | Item::Crl(_) => None,
    }
}

fn unescaped(headers: &HeaderMap, name: &'static str) -> Result<Vec<u8>, Reason> {
    headers
        .get(name)
        .and_then(|value| percent_decoded(value.as_bytes()))
        .ok_or(Reason::Header(name))
}

/// RFC 3986, section 2.1. A plus stays one: PEM has them, and this is no form.
fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        match rest {
            [] => return Some(decoded),
            [b'%', high, low, after @ ..] => {
                let mut byte = [0];
                hex::decode_to_slice([*high, *low], &mut byte).ok()?;
                decoded.extend(byte);
                rest = after;
            }
            [b'%', ..] => return None,
            [byte, after @ ..] => {
                decoded.push(*byte);
                rest = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_in_headers_are_unescaped() {
        assert_eq!(
            percent_decoded(b"-----BEGIN%20CERTIFICATE-----%0Aa%2Bb+c%2f%3D").unwrap(),
            b"-----BEGIN CERTIFICATE-----\na+b+c/="
        );
        for text in [&b"%"[..], b"a%2", b"%zz", b"%+1"] {
            assert_eq!(percent_decoded(text), None, "{text:?}");
        }
    }
}
