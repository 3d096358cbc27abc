//! Frames: a length as four bytes, big endian, and that many bytes.
//!
//! A length over the limit of the frame that is due ends the connection before a byte of the body is read, and memory grows
//! with the bytes that arrived, not with the length that was announced. What the bytes mean is `message`'s.

use std::{fmt, io};

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The frames of the protocol, in the order a side sends them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Who a side says it is and what it wants.
    Hello,
    /// What an attester shows.
    Evidence,
    /// What a verifier says to it.
    Verdict,
}

impl Kind {
    /// The most bytes the body may have.
    pub(crate) const fn limit(self) -> usize {
        match self {
            Self::Hello => 4 * 1024,
            Self::Evidence => 256 * 1024,
            Self::Verdict => 1024,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hello => "hello",
            Self::Evidence => "evidence",
            Self::Verdict => "verdict",
        })
    }
}

/// A frame did not arrive or could not be sent.
#[derive(Debug, Error)]
pub enum FrameError {
    /// The peer announced more than the protocol allows; application data in the place of a frame looks like this, too.
    #[error("the peer's {kind} frame would have {length} bytes, more than {}", kind.limit())]
    TooLong {
        /// The frame that was due.
        kind: Kind,
        /// What the peer announced.
        length: u32,
    },
    /// The peer closed the connection before the end of a frame.
    #[error("the peer closed the connection where its {0} was due")]
    Truncated(Kind),
    /// The connection broke.
    #[error("cannot read the peer's {kind}")]
    Read {
        /// The frame that was due.
        kind: Kind,
        /// What the connection said.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("cannot send the {kind}")]
    Write {
        /// The frame that was to be sent.
        kind: Kind,
        /// What the connection said.
        #[source]
        source: io::Error,
    },
    /// A message of our own does not fit; nothing was sent.
    #[error("the {kind} to send has {length} bytes, more than {}", kind.limit())]
    OwnTooLong {
        /// The frame that was to be sent.
        kind: Kind,
        /// Its size.
        length: usize,
    },
}

/// A body with its length in front, as it is sent and as it goes into the transcript.
pub(crate) fn encode(kind: Kind, body: &[u8]) -> Result<Vec<u8>, FrameError> {
    let length = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() <= kind.limit())
        .ok_or(FrameError::OwnTooLong {
            kind,
            length: body.len(),
        })?;
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(body);
    Ok(frame)
}

pub(crate) async fn send<W: AsyncWrite + Unpin>(
    writer: &mut W,
    kind: Kind,
    frame: &[u8],
) -> Result<(), FrameError> {
    let sent = async {
        writer.write_all(frame).await?;
        writer.flush().await
    };
    sent.await
        .map_err(|source| FrameError::Write { kind, source })
}

/// The body of the frame that is due.
pub(crate) async fn receive<R: AsyncRead + Unpin>(
    reader: &mut R,
    kind: Kind,
) -> Result<Vec<u8>, FrameError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::UnexpectedEof => FrameError::Truncated(kind),
        _ => FrameError::Read { kind, source },
    };
    let length = reader.read_u32().await.map_err(failed)?;
    let expected = usize::try_from(length)
        .ok()
        .filter(|length| *length <= kind.limit());
    let Some(expected) = expected else {
        return Err(FrameError::TooLong { kind, length });
    };
    let mut body = Vec::new();
    reader
        .take(u64::from(length))
        .read_to_end(&mut body)
        .await
        .map_err(failed)?;
    if body.len() < expected {
        return Err(FrameError::Truncated(kind));
    }
    Ok(body)
}

/// The reader, on bytes that are all there.
pub(crate) fn fuzz(bytes: &[u8]) {
    for kind in [Kind::Hello, Kind::Evidence, Kind::Verdict] {
        let mut reader = bytes;
        let mut receive = std::pin::pin!(receive(&mut reader, kind));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        if let std::task::Poll::Ready(Ok(body)) = receive.as_mut().poll(&mut context) {
            assert!(body.len() <= kind.limit());
            assert_eq!(
                encode(kind, &body).ok().as_deref(),
                bytes.get(..4 + body.len())
            );
        }
    }
}

#[cfg(test)]
mod tests;
