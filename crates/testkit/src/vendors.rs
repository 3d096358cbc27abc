//! A server that behaves as the services of vendors do, and as they do on a bad day. HTTP/1.1 by hand, because most of
//! what it must do no HTTP library does: cut an answer off, send one without end, say one thing and send another.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The server. Ends when it is dropped.
pub struct Vendors {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    published: HashMap<String, Published>,
    bad_days: HashMap<String, VecDeque<BadDay>>,
    limits: Vec<Limit>,
    requests: Vec<Request>,
}

#[derive(Clone)]
struct Published {
    content_type: &'static str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

struct Limit {
    prefix: String,
    interval: Duration,
    last: Option<Instant>,
}

/// A request that came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Path and query.
    pub target: String,
    /// When.
    pub at: Instant,
    /// The status it was answered with; 0 for none.
    pub status: u16,
}

/// What is done in place of one right answer.
#[derive(Debug, Clone)]
pub enum BadDay {
    /// The right answer, after so long.
    Slow(Duration),
    /// The right head, and so many bytes of the body.
    CutOff(usize),
    /// The connection ends without a word.
    HangUp,
    /// A status, with an optional `Retry-After`.
    Status(u16, Option<String>),
    /// To elsewhere.
    Redirect(String),
    /// A page for a person, with status 200.
    Page,
    /// Bytes without an announced length and without an end.
    Endless,
    /// Another body.
    Body(Vec<u8>),
    /// The right answer without its own headers.
    NoHeaders,
    /// The right answer, said to be packed.
    Packed,
}

impl Vendors {
    /// Starts on a free port of this host.
    pub async fn start() -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                // a client that goes away is no failure of the server
                tokio::spawn(async move { serve(stream, &shared).await.ok() });
            }
        });
        Ok(Self {
            address,
            state,
            server,
        })
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers a path and query with this, from now on.
    pub fn publish(
        &self,
        target: &str,
        content_type: &'static str,
        headers: &[(&str, String)],
        body: &[u8],
    ) {
        let published = Published {
            content_type,
            headers: headers
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            body: body.to_vec(),
        };
        locked(&self.state)
            .published
            .insert(target.to_owned(), published);
    }

    /// Spoils the next answers to a path and query, one each.
    pub fn spoil(&self, target: &str, days: impl IntoIterator<Item = BadDay>) {
        locked(&self.state)
            .bad_days
            .entry(target.to_owned())
            .or_default()
            .extend(days);
    }

    /// Answers what begins so at most once in an interval, and with 429 and `Retry-After` in between.
    pub fn limit(&self, prefix: &str, interval: Duration) {
        locked(&self.state).limits.push(Limit {
            prefix: prefix.to_owned(),
            interval,
            last: None,
        });
    }

    /// What came so far.
    pub fn requests(&self) -> Vec<Request> {
        locked(&self.state).requests.clone()
    }

    /// How many requests for a path and query came so far.
    pub fn count(&self, target: &str) -> usize {
        self.requests()
            .iter()
            .filter(|request| request.target == target)
            .count()
    }
}

impl Drop for Vendors {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn locked(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What to do about a request.
enum Reply {
    Whole(Published),
    Bad(BadDay, Published),
    Status(u16, Option<String>),
}

impl State {
    fn reply(&mut self, target: &str) -> Reply {
        let now = Instant::now();
        for limit in &mut self.limits {
            if !target.starts_with(&limit.prefix) {
                continue;
            }
            let left = limit
                .last
                .map(|last| limit.interval.saturating_sub(now - last))
                .unwrap_or_default();
            if !left.is_zero() {
                let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
                return Reply::Status(429, Some(seconds.to_string()));
            }
            limit.last = Some(now);
        }
        let bad = self.bad_days.get_mut(target).and_then(VecDeque::pop_front);
        match (bad, self.published.get(target).cloned()) {
            (Some(bad), published) => Reply::Bad(
                bad,
                published.unwrap_or(Published {
                    content_type: "application/octet-stream",
                    headers: Vec::new(),
                    body: Vec::new(),
                }),
            ),
            (None, Some(published)) => Reply::Whole(published),
            (None, None) => Reply::Status(404, None),
        }
    }
}

async fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let Some(target) = read_target(&mut stream).await? else {
        return Ok(());
    };
    let reply = {
        let mut state = locked(state);
        let reply = state.reply(&target);
        let status = match &reply {
            Reply::Whole(_) => 200,
            Reply::Status(status, _) | Reply::Bad(BadDay::Status(status, _), _) => *status,
            Reply::Bad(BadDay::Redirect(_), _) => 302,
            Reply::Bad(BadDay::HangUp, _) => 0,
            Reply::Bad(_, _) => 200,
        };
        state.requests.push(Request {
            target,
            at: Instant::now(),
            status,
        });
        reply
    };
    match reply {
        Reply::Whole(published) => whole(&mut stream, &published).await?,
        Reply::Status(status, after) => status_only(&mut stream, status, after).await?,
        Reply::Bad(day, published) => bad(&mut stream, day, published).await?,
    }
    stream.shutdown().await
}

/// Path and query of the request; `None` if it ends before its head does.
async fn read_target(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await? == 0 || head.len() > 64 << 10 {
            return Ok(None);
        }
    }
    let head = String::from_utf8_lossy(&head);
    Ok(head.split_whitespace().nth(1).map(str::to_owned))
}

async fn whole(stream: &mut TcpStream, published: &Published) -> std::io::Result<()> {
    head(stream, published, Some(published.body.len()), "").await?;
    stream.write_all(&published.body).await
}

async fn head(
    stream: &mut TcpStream,
    published: &Published,
    length: Option<usize>,
    more: &str,
) -> std::io::Result<()> {
    let mut text = format!(
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: {}\r\n{more}",
        published.content_type
    );
    if let Some(length) = length {
        text.push_str(&format!("Content-Length: {length}\r\n"));
    }
    for (name, value) in &published.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    stream.write_all(text.as_bytes()).await
}

async fn status_only(
    stream: &mut TcpStream,
    status: u16,
    after: Option<String>,
) -> std::io::Result<()> {
    let after = after
        .map(|after| format!("Retry-After: {after}\r\n"))
        .unwrap_or_default();
    let text =
        format!("HTTP/1.1 {status} So\r\nConnection: close\r\n{after}Content-Length: 0\r\n\r\n");
    stream.write_all(text.as_bytes()).await
}

async fn bad(stream: &mut TcpStream, day: BadDay, mut published: Published) -> std::io::Result<()> {
    match day {
        BadDay::Slow(wait) => {
            tokio::time::sleep(wait).await;
            whole(stream, &published).await
        }
        BadDay::CutOff(length) => {
            head(stream, &published, Some(published.body.len()), "").await?;
            let part = published.body.get(..length).unwrap_or(&published.body);
            stream.write_all(part).await
        }
        BadDay::HangUp => Ok(()),
        BadDay::Status(status, after) => status_only(stream, status, after).await,
        BadDay::Redirect(to) => {
            let text = format!(
                "HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"
            );
            stream.write_all(text.as_bytes()).await
        }
        BadDay::Page => {
            published.content_type = "text/html; charset=utf-8";
            published.body = b"<html>please log in</html>".to_vec();
            whole(stream, &published).await
        }
        BadDay::Endless => {
            head(stream, &published, None, "").await?;
            let piece = [b'x'; 16 << 10];
            loop {
                stream.write_all(&piece).await?;
            }
        }
        BadDay::Body(body) => {
            published.body = body;
            whole(stream, &published).await
        }
        BadDay::NoHeaders => {
            published.headers.clear();
            whole(stream, &published).await
        }
        BadDay::Packed => {
            let length = Some(published.body.len());
            head(stream, &published, length, "Content-Encoding: gzip\r\n").await?;
            stream.write_all(&published.body).await
        }
    }
}
