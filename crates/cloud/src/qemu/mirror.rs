//! The component mirror: files of one directory over HTTP, with ranges so that a broken download resumes.
//!
//! Gives out files that the directory names and nothing else: a path is a list of plain names, never `..`. Symbolic links
//! in the directory are its owner's and are followed. Does not vouch for the files: nodes check each against its hash.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use tokio::io::{AsyncReadExt, AsyncSeekExt, SeekFrom};

use super::metadata::{Body, status};

const CHUNK: usize = 256 * 1024;

/// A directory whose files may be fetched.
#[derive(Debug, Clone)]
pub struct Mirror {
    directory: Arc<OwnedFd>,
    path: PathBuf,
}

/// The directory can not be opened.
#[derive(Debug, thiserror::Error)]
#[error("open the directory of components {path}")]
pub struct OpenError {
    path: String,
    #[source]
    source: std::io::Error,
}

impl Mirror {
    /// A mirror of the files below `path`.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let directory =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| OpenError {
                path: path.display().to_string(),
                source: errno.into(),
            })?;
        Ok(Self {
            directory: Arc::new(directory),
            path: path.to_owned(),
        })
    }

    fn file(&self, path: &str) -> Result<std::fs::File, rustix::io::Errno> {
        let plain = |name: &str| {
            !name.is_empty()
                && !name.starts_with('.')
                && name
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b'+'))
        };
        if path.len() > 1024 || !path.split('/').all(plain) {
            return Err(rustix::io::Errno::NOENT);
        }
        rustix::fs::openat2(
            &*self.directory,
            path,
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
            Mode::empty(),
            ResolveFlags::NO_MAGICLINKS,
        )
        .map(std::fs::File::from)
    }

    pub(crate) async fn answer(
        &self,
        path: &str,
        range: Option<&HeaderValue>,
        head: bool,
    ) -> Response<Body> {
        let file = match self.file(path) {
            Ok(file) => file,
            Err(errno) => {
                tracing::warn!(directory = %self.path.display(), path, %errno, "no such component");
                return status(StatusCode::NOT_FOUND);
            }
        };
        let length = match file.metadata() {
            Ok(metadata) if metadata.is_file() => metadata.len(),
            Ok(_) => return status(StatusCode::NOT_FOUND),
            Err(error) => {
                tracing::error!(path, %error, "read the size of a component");
                return status(StatusCode::INTERNAL_SERVER_ERROR);
            }
        };
        let span = match Span::select(range.and_then(|value| value.to_str().ok()), length) {
            Ok(span) => span,
            Err(Unsatisfiable) => {
                let mut response = status(StatusCode::RANGE_NOT_SATISFIABLE);
                insert(&mut response, CONTENT_RANGE, &format!("bytes */{length}"));
                return response;
            }
        };
        let mut file = tokio::fs::File::from_std(file);
        if span.start > 0
            && let Err(error) = file.seek(SeekFrom::Start(span.start)).await
        {
            tracing::error!(path, %error, "seek in a component");
            return status(StatusCode::INTERNAL_SERVER_ERROR);
        }
        let body = if head {
            http_body_util::Empty::new()
                .map_err(|never| match never {})
                .boxed()
        } else {
            stream_of(file, span.length)
        };
        let mut response = Response::new(body);
        insert(&mut response, CONTENT_LENGTH, &span.length.to_string());
        response.headers_mut().insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        );
        response
            .headers_mut()
            .insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
        if span.partial {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let last = span.start + span.length - 1;
            insert(
                &mut response,
                CONTENT_RANGE,
                &format!("bytes {}-{last}/{length}", span.start),
            );
        }
        response
    }
}

fn insert(response: &mut Response<Body>, name: hyper::header::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn stream_of(file: tokio::fs::File, length: u64) -> Body {
    let frames = stream::try_unfold((file, length), |(mut file, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let want = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        let mut chunk = Vec::with_capacity(want);
        let read = (&mut file).take(want as u64).read_buf(&mut chunk).await?;
        if read == 0 {
            return Err(std::io::Error::new(
                std::io::ErrorKind::UnexpectedEof,
                "the file became shorter",
            ));
        }
        Ok(Some((
            Frame::data(Bytes::from(chunk)),
            (file, left - read as u64),
        )))
    });
    StreamBody::new(Box::pin(frames)).boxed()
}

/// The part of a file that is sent.
#[derive(Debug, PartialEq, Eq)]
struct Span {
    start: u64,
    length: u64,
    partial: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct Unsatisfiable;

impl Span {
    /// RFC 9110, 14.2. One range; a header of another form is ignored, as the RFC wants.
    fn select(range: Option<&str>, length: u64) -> Result<Self, Unsatisfiable> {
        let whole = Self {
            start: 0,
            length,
            partial: false,
        };
        let Some((first, last)) = range
            .and_then(|r| r.strip_prefix("bytes="))
            .and_then(|r| r.split_once('-'))
        else {
            return Ok(whole);
        };
        let number = |text: &str| {
            text.bytes()
                .all(|b| b.is_ascii_digit())
                .then(|| text.parse::<u64>().ok())
                .flatten()
        };
        match (
            first.is_empty(),
            number(first),
            last.is_empty(),
            number(last),
        ) {
            (false, Some(first), true, _) if first < length => Ok(Self {
                start: first,
                length: length - first,
                partial: true,
            }),
            (false, Some(first), false, Some(last)) if first < length && first <= last => {
                Ok(Self {
                    start: first,
                    length: last.min(length - 1) - first + 1,
                    partial: true,
                })
            }
            (false, Some(first), ..) if first >= length => Err(Unsatisfiable),
            (true, _, false, Some(0)) => Err(Unsatisfiable),
            (true, _, false, Some(suffix)) if length > 0 => {
                let taken = suffix.min(length);
                Ok(Self {
                    start: length - taken,
                    length: taken,
                    partial: true,
                })
            }
            _ => Ok(whole),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_selected() {
        let part = |start, length| {
            Ok(Span {
                start,
                length,
                partial: true,
            })
        };
        let whole = Ok(Span {
            start: 0,
            length: 100,
            partial: false,
        });
        for (header, expected) in [
            ("bytes=0-", part(0, 100)),
            ("bytes=40-", part(40, 60)),
            ("bytes=40-49", part(40, 10)),
            ("bytes=40-4000", part(40, 60)),
            ("bytes=-10", part(90, 10)),
            ("bytes=-1000", part(0, 100)),
            ("bytes=100-", Err(Unsatisfiable)),
            ("bytes=200-300", Err(Unsatisfiable)),
            ("bytes=-0", Err(Unsatisfiable)),
            (
                "bytes=5-4",
                Ok(Span {
                    start: 0,
                    length: 100,
                    partial: false,
                }),
            ),
            (
                "bytes=a-b",
                Ok(Span {
                    start: 0,
                    length: 100,
                    partial: false,
                }),
            ),
            (
                "bytes=0-1,4-5",
                Ok(Span {
                    start: 0,
                    length: 100,
                    partial: false,
                }),
            ),
            (
                "lines=0-1",
                Ok(Span {
                    start: 0,
                    length: 100,
                    partial: false,
                }),
            ),
            (
                "bytes=99999999999999999999-",
                Ok(Span {
                    start: 0,
                    length: 100,
                    partial: false,
                }),
            ),
        ] {
            assert_eq!(Span::select(Some(header), 100), expected, "{header}");
        }
        assert_eq!(Span::select(None, 100), whole);
        assert_eq!(Span::select(Some("bytes=0-"), 0), Err(Unsatisfiable));
    }

    #[test]
    fn no_path_leads_out() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join("mirror");
        std::fs::create_dir_all(inside.join("bin")).unwrap();
        std::fs::write(inside.join("bin/kubelet"), "k").unwrap();
        std::fs::write(inside.join(".hidden"), "h").unwrap();
        std::fs::write(directory.path().join("secret"), "s").unwrap();
        std::fs::create_dir(directory.path().join("v1")).unwrap();
        std::fs::write(directory.path().join("v1/kubelet"), "k").unwrap();
        std::os::unix::fs::symlink("../v1", inside.join("v1")).unwrap();
        std::os::unix::fs::symlink("/proc/self/fd", inside.join("magic")).unwrap();
        let mirror = Mirror::open(&inside).unwrap();
        assert!(mirror.file("bin/kubelet").is_ok());
        // a link that the owner of the directory made
        assert!(mirror.file("v1/kubelet").is_ok());
        for path in [
            "../secret",
            "bin/../../secret",
            "v1/../../secret",
            "magic/0",
            "/etc/passwd",
            "",
            "bin//kubelet",
            ".hidden",
            "bin/%2e%2e",
            "nothing",
        ] {
            assert!(mirror.file(path).is_err(), "{path}");
        }
    }
}
