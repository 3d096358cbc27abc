//! HTTP to the metadata service of a cloud: one request, one answer, on a link-local address without TLS.
//!
//! No client of the tree's is used: this runs in the initrd, where a second of start and a megabyte count, and the
//! service is one host away. Nothing of an answer is believed: `attest` looks at what it carries.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::{Duration, Instant};

use thiserror::Error;

/// Of Azure and GCP and AWS.
pub const LINK_LOCAL: &str = "169.254.169.254:80";
const CONNECT: Duration = Duration::from_secs(5);
/// For the whole answer: a quote takes the host some seconds.
const ANSWER: Duration = Duration::from_secs(30);
const MAX_HEAD: usize = 16 * 1024;
/// Larger than any quote with its certificates.
const MAX_BODY: usize = 256 * 1024;
/// Head, body, and what chunks cost.
const MAX_ANSWER: usize = MAX_HEAD + 2 * MAX_BODY;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum MetadataError {
    /// Nobody is there.
    #[error(
        "no metadata service at {address}: this machine is not in a cloud that has one, or has no network yet"
    )]
    Connect {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It stops, or takes too long.
    #[error("the metadata service at {address} does not answer")]
    Transfer {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It says no.
    #[error("the metadata service answers {path:?} with status {status}")]
    Status {
        /// What was asked for.
        path: String,
        /// Of HTTP.
        status: u16,
    },
    /// Not HTTP, or more than is read.
    #[error("the metadata service's answer cannot be read: {0}")]
    Format(&'static str),
}

/// A metadata service.
#[derive(Clone, Debug)]
pub struct Metadata {
    address: String,
}

impl Metadata {
    /// Of this machine.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self::new(LINK_LOCAL)
    }

    /// At another address, `host:port`.
    #[must_use]
    pub fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
        }
    }

    /// Whether somebody listens there.
    ///
    /// # Errors
    /// When nobody does.
    pub fn is_there(&self) -> Result<(), MetadataError> {
        self.connect().map(drop)
    }

    /// What `GET` answers. `header` is one further line, as Azure's `Metadata: true`.
    ///
    /// # Errors
    /// When nobody answers, or not with 200, or with more than 256 KiB.
    pub fn get(&self, path: &str, header: &str) -> Result<Vec<u8>, MetadataError> {
        self.ask("GET", path, header, b"")
    }

    /// What `POST` of a JSON document answers.
    ///
    /// # Errors
    /// As [`Metadata::get`].
    pub fn post_json(&self, path: &str, body: &[u8]) -> Result<Vec<u8>, MetadataError> {
        self.ask("POST", path, "Content-Type: application/json", body)
    }

    fn connect(&self) -> Result<TcpStream, MetadataError> {
        let failed = |source| MetadataError::Connect {
            address: self.address.clone(),
            source,
        };
        let address = self
            .address
            .to_socket_addrs()
            .map_err(failed)?
            .next()
            .ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        TcpStream::connect_timeout(&address, CONNECT).map_err(failed)
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        header: &str,
        body: &[u8],
    ) -> Result<Vec<u8>, MetadataError> {
        let stream = self.connect()?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\n{header}\r\nAccept: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            self.address,
            body.len()
        );
        let answer = exchange(stream, request.as_bytes(), body).map_err(|source| {
            MetadataError::Transfer {
                address: self.address.clone(),
                source,
            }
        })?;
        let answer = Answer::parse(&answer)?;
        if answer.status != 200 {
            return Err(MetadataError::Status {
                path: path.to_owned(),
                status: answer.status,
            });
        }
        Ok(answer.body)
    }
}

/// Writes both parts and reads until the other side closes, has sent what it said it would, or sends too much.
fn exchange(mut stream: TcpStream, head: &[u8], body: &[u8]) -> io::Result<Vec<u8>> {
    let end = Instant::now() + ANSWER;
    stream.set_write_timeout(Some(CONNECT))?;
    stream.write_all(head)?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        // a byte at a time is too slow, however patient each read is
        let left = end
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
            .ok_or(io::ErrorKind::TimedOut)?;
        stream.set_read_timeout(Some(left))?;
        let read = match stream.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        answer.extend_from_slice(chunk.get(..read).unwrap_or_default());
        if read == 0 || answer.len() > MAX_ANSWER || Answer::is_whole(&answer) {
            return Ok(answer);
        }
    }
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Known(usize),
    Chunked,
    UntilClosed,
}

/// An answer of HTTP/1, whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Answer {
    /// Whether a service that keeps the connection open has sent all of it.
    fn is_whole(bytes: &[u8]) -> bool {
        match split(bytes).map(|(head, body)| (length(head), body)) {
            Some((Ok(Length::Known(length)), body)) => body.len() >= length,
            Some((Ok(Length::Chunked), body)) => unchunked(body).is_ok(),
            _ => false,
        }
    }

    /// Reads one; what follows it is passed over.
    ///
    /// # Errors
    /// When it is none, is cut off, or is longer than a metadata service's.
    pub fn parse(bytes: &[u8]) -> Result<Self, MetadataError> {
        let (head, body) = split(bytes).ok_or(MetadataError::Format("no end of its head"))?;
        if head.len() > MAX_HEAD {
            return Err(MetadataError::Format("its head is too long"));
        }
        let status = head
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1))
            .and_then(|code| code.get(..3))
            .and_then(|code| code.parse().ok())
            .ok_or(MetadataError::Format("no status of HTTP/1"))?;
        let body = match length(head)? {
            Length::UntilClosed => body.to_vec(),
            Length::Chunked => unchunked(body)?,
            Length::Known(length) => body
                .get(..length)
                .ok_or(MetadataError::Format("its body is cut off"))?
                .to_vec(),
        };
        if body.len() > MAX_BODY {
            return Err(MetadataError::Format("its body is too long"));
        }
        Ok(Self { status, body })
    }

    /// What it says, decoded.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }
}

fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let end = bytes
        .windows(HEAD_END.len())
        .take(MAX_HEAD)
        .position(|window| window == HEAD_END)?;
    let head = str::from_utf8(bytes.get(..end)?).ok()?;
    Some((head, bytes.get(end + HEAD_END.len()..)?))
}

fn length(head: &str) -> Result<Length, MetadataError> {
    let mut found = Length::UntilClosed;
    for line in head.split("\r\n").skip(1) {
        let Some((name, value)) = line.split_once(':') else {
            return Err(MetadataError::Format("a line of its head is no header"));
        };
        let next = if name.eq_ignore_ascii_case("content-length") {
            let length = value
                .trim()
                .parse()
                .map_err(|_| MetadataError::Format("its length is no number"))?;
            if length > MAX_BODY {
                return Err(MetadataError::Format("its body is too long"));
            }
            Length::Known(length)
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.trim().eq_ignore_ascii_case("chunked") {
                return Err(MetadataError::Format("its encoding is not known"));
            }
            Length::Chunked
        } else {
            continue;
        };
        if found != Length::UntilClosed {
            return Err(MetadataError::Format("two lengths"));
        }
        found = next;
    }
    Ok(found)
}

/// RFC 9112, 7.1. Extensions and trailers are passed over.
fn unchunked(mut bytes: &[u8]) -> Result<Vec<u8>, MetadataError> {
    const CUT: MetadataError = MetadataError::Format("its body is cut off");
    let mut body = Vec::new();
    loop {
        let end = bytes
            .windows(2)
            .position(|window| window == b"\r\n")
            .ok_or(CUT)?;
        let line = str::from_utf8(bytes.get(..end).unwrap_or_default())
            .map_err(|_| MetadataError::Format("a chunk's length is no number"))?;
        let digits = line.split(';').next().unwrap_or_default().trim();
        let length = usize::from_str_radix(digits, 16)
            .map_err(|_| MetadataError::Format("a chunk's length is no number"))?;
        if length > MAX_BODY || body.len() + length > MAX_BODY {
            return Err(MetadataError::Format("its body is too long"));
        }
        bytes = bytes.get(end + 2..).ok_or(CUT)?;
        if length == 0 {
            return Ok(body);
        }
        body.extend_from_slice(bytes.get(..length).ok_or(CUT)?);
        bytes = bytes
            .get(length..)
            .and_then(|rest| rest.strip_prefix(b"\r\n"))
            .ok_or(CUT)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<(u16, String), String> {
        Answer::parse(text.as_bytes())
            .map(|answer| (answer.status, String::from_utf8(answer.body).unwrap()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn bodies_end_in_three_ways() {
        for text in [
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello and more",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
            "HTTP/1.0 200\r\nServer: x\r\n\r\nhello",
        ] {
            assert_eq!(parsed(text), Ok((200, "hello".into())), "{text}");
        }
        let long = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(parsed(long), Ok((404, String::new())));
    }

    #[test]
    fn what_is_no_answer_is_told() {
        for (text, reason) in [
            ("", "no end of its head"),
            ("HTTP/1.1 200 OK\r\n", "no end of its head"),
            ("HTTP/2 200\r\n\r\n", "no status of HTTP/1"),
            ("HTTP/1.1 abc\r\n\r\n", "no status of HTTP/1"),
            ("HTTP/1.1 200 OK\r\nno header\r\n\r\n", "is no header"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
                "cut off",
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "no number"),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n",
                "too long",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
                "two lengths",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
                "not known",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
                "cut off",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
                "no number",
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
                "too long",
            ),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(reason), "{text:?}: {error}");
        }
        let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(MAX_HEAD));
        assert!(parsed(&head).is_err());
        let body = format!("HTTP/1.1 200 OK\r\n\r\n{}", "y".repeat(MAX_BODY + 1));
        assert!(parsed(&body).is_err());
    }
}
