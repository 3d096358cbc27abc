//! Downloads over HTTP: sources in turn, retries, resume.

use std::{sync::Arc, time::Duration};

use reqwest::{Client, StatusCode, header};
use tokio::sync::{OnceCell, mpsc};

use super::{
    Event, InstallError, MAX_BYTES, Progress, Retry,
    store::{Part, Target},
};

/// Bytes that are written at once.
const CHUNK: usize = 1 << 20;
/// Pieces of that size that may wait to be written.
const AHEAD: usize = 2;
/// How many files pieced together from several answers may be wrong before the source is.
const MAX_PIECED: u32 = 2;

#[derive(Clone)]
pub(super) struct Fetch {
    pub(super) retry: Retry,
    /// For plain HTTP: needs no certificates of the system, which a small image may not have.
    plain: Client,
    tls: Arc<OnceCell<Client>>,
}

/// One try's end that is not the file's end.
enum Failure {
    /// May work later: tried again.
    Transient(String),
    /// Will not work from this source.
    Final(String),
    /// Nothing that another try or source could change.
    Stop(InstallError),
}

impl From<InstallError> for Failure {
    fn from(error: InstallError) -> Self {
        Self::Stop(error)
    }
}

impl Fetch {
    pub(super) fn new(retry: Retry) -> Result<Self, InstallError> {
        let plain = Self::builder()
            .tls_certs_only([])
            .build()
            .map_err(InstallError::Client)?;
        Ok(Self {
            retry,
            plain,
            tls: Arc::new(OnceCell::new()),
        })
    }

    fn builder() -> reqwest::ClientBuilder {
        // a proxy from the environment would be one more source of surprises; redirects are upstream's way to its CDN
        Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(15))
            .user_agent("constellation")
    }

    async fn client(&self, source: &str) -> Result<&Client, Failure> {
        if !source.starts_with("https:") {
            return Ok(&self.plain);
        }
        self.tls
            .get_or_try_init(|| async { Self::builder().build() })
            .await
            .map_err(|error| Failure::Final(chain(&error)))
    }

    /// Fills the part of `target` until it hashes right.
    pub(super) async fn download(
        &self,
        target: &Target,
        sources: &[String],
        progress: &Progress,
    ) -> Result<(), InstallError> {
        let mut attempts = Vec::new();
        for source in sources {
            match self.try_source(target, source, progress).await {
                Ok(()) => return Ok(()),
                Err(Failure::Stop(error)) => return Err(error),
                Err(Failure::Transient(reason) | Failure::Final(reason)) => {
                    attempts.push(format!("{source}: {reason}"))
                }
            }
        }
        Err(InstallError::Unreachable {
            name: target.name.clone(),
            attempts: attempts.join("; "),
        })
    }

    async fn try_source(
        &self,
        target: &Target,
        source: &str,
        progress: &Progress,
    ) -> Result<(), Failure> {
        let client = self.client(source).await?;
        let mut part = target.open_part().await?;
        let (mut failures, mut pause, mut pieced) = (0, self.retry.first_pause, 0);
        loop {
            let before = part.length();
            let result;
            (part, result) = self.attempt(client, part, target, source, progress).await?;
            match result {
                Ok(one_answer) => {
                    let actual = part.hash();
                    if actual == target.hash {
                        return Ok(());
                    }
                    // a file that was pieced together says nothing yet: a piece may be of another file
                    if one_answer || pieced == MAX_PIECED {
                        target.discard();
                        return Err(Failure::Stop(InstallError::WrongHash {
                            name: target.name.clone(),
                            from: source.to_owned(),
                            expected: target.hash,
                            actual,
                        }));
                    }
                    pieced += 1;
                    part = part.restart(target).await?;
                }
                Err(Failure::Transient(reason)) => {
                    if part.length() > before {
                        (failures, pause) = (0, self.retry.first_pause);
                    }
                    failures += 1;
                    if failures >= self.retry.attempts {
                        return Err(Failure::Transient(format!(
                            "{reason} (gave up after {failures} tries)"
                        )));
                    }
                    progress(&target.name, Event::Retrying { reason, pause });
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(self.retry.longest_pause);
                }
                Err(failure) => return Err(failure),
            }
        }
    }

    /// One request. The inner result says whether the file is this one answer, from the first byte on.
    async fn attempt(
        &self,
        client: &Client,
        mut part: Part,
        target: &Target,
        source: &str,
        progress: &Progress,
    ) -> Result<(Part, Result<bool, Failure>), Failure> {
        let offset = part.length();
        let mut request = client.get(source);
        if offset > 0 {
            request = request.header(header::RANGE, format!("bytes={offset}-"));
        }
        let response = match tokio::time::timeout(self.retry.silence, request.send()).await {
            Err(_) => {
                return Ok((
                    part,
                    Err(Failure::Transient("the server does not answer".to_owned())),
                ));
            }
            Ok(Err(error)) if error.is_builder() => {
                return Ok((part, Err(Failure::Final(chain(&error)))));
            }
            Ok(Err(error)) => return Ok((part, Err(Failure::Transient(chain(&error))))),
            Ok(Ok(response)) => response,
        };
        let mut one_answer = offset == 0;
        match response.status() {
            StatusCode::OK => {
                part = part.restart(target).await?;
                one_answer = true;
            }
            StatusCode::PARTIAL_CONTENT if offset > 0 && range_start(&response) == Some(offset) => {
            }
            StatusCode::RANGE_NOT_SATISFIABLE if offset > 0 => {
                // all there already, or more than there is: the hash decides
                return Ok((part, Ok(false)));
            }
            StatusCode::PARTIAL_CONTENT => {
                // another range than the one asked for: begin again, without a range
                part = part.restart(target).await?;
                return Ok((
                    part,
                    Err(Failure::Transient(
                        "the server sent another part than asked for".to_owned(),
                    )),
                ));
            }
            status if is_transient(status) => {
                return Ok((
                    part,
                    Err(Failure::Transient(format!("the server says {status}"))),
                ));
            }
            status => {
                return Ok((
                    part,
                    Err(Failure::Final(format!("the server says {status}"))),
                ));
            }
        }
        let total = response.content_length().map(|rest| part.length() + rest);
        let (part, result) = self
            .receive(response, part, target, source, total, progress)
            .await?;
        Ok((part, result.map(|()| one_answer)))
    }

    /// Reads an answer to its end. Reading and writing go on beside each other: both take their time, and neither needs the other's
    /// processor.
    async fn receive(
        &self,
        response: reqwest::Response,
        part: Part,
        target: &Target,
        source: &str,
        total: Option<u64>,
        progress: &Progress,
    ) -> Result<(Part, Result<(), Failure>), Failure> {
        let (sender, chunks) = mpsc::channel(AHEAD);
        let (progress, name) = (Arc::clone(progress), target.name.clone());
        let reading = self.read(response, part.length(), target, source, sender);
        let writing = part.append_all(chunks, target, move |bytes| {
            progress(&name, Event::Received { bytes, total });
        });
        let (read, part) = tokio::join!(reading, writing);
        let part = part?;
        if let Err(Failure::Stop(error)) = read {
            target.discard();
            return Err(Failure::Stop(error));
        }
        Ok((part, read))
    }

    /// Passes on what comes, in pieces. What came before a failure counts: the next try goes on from there.
    async fn read(
        &self,
        mut response: reqwest::Response,
        mut length: u64,
        target: &Target,
        source: &str,
        sender: mpsc::Sender<Vec<u8>>,
    ) -> Result<(), Failure> {
        let mut buffer = Vec::with_capacity(CHUNK);
        let end = loop {
            match tokio::time::timeout(self.retry.silence, response.chunk()).await {
                Err(_) => break Err(Failure::Transient("the server fell silent".to_owned())),
                Ok(Err(error)) => break Err(Failure::Transient(chain(&error))),
                Ok(Ok(None)) => break Ok(()),
                Ok(Ok(Some(bytes))) => {
                    length += bytes.len() as u64;
                    buffer.extend_from_slice(&bytes);
                }
            }
            if length > MAX_BYTES {
                return Err(Failure::Stop(InstallError::TooLarge {
                    name: target.name.clone(),
                    from: source.to_owned(),
                }));
            }
            if buffer.len() >= CHUNK {
                let piece = std::mem::replace(&mut buffer, Vec::with_capacity(CHUNK));
                if sender.send(piece).await.is_err() {
                    // the writer has stopped, and says why
                    return Ok(());
                }
            }
        };
        if !buffer.is_empty() {
            let _writer_says_why = sender.send(buffer).await;
        }
        end
    }
}

fn is_transient(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
        )
}

/// The first byte's position by `Content-Range: bytes <start>-<end>/<total>`.
fn range_start(response: &reqwest::Response) -> Option<u64> {
    let value = response
        .headers()
        .get(header::CONTENT_RANGE)?
        .to_str()
        .ok()?;
    value
        .strip_prefix("bytes ")?
        .split('-')
        .next()?
        .parse()
        .ok()
}

/// An error with its causes: reqwest's own text says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
