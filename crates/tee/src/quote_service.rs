//! Intel's quote generation service, which a host offers to its trust domains on a virtual socket.
//!
//! The service belongs to the host: it can withhold a quote and make none, for the quoting enclave signs only what the processor vouches for.
//!
//! One connection is one exchange. A message has its length in four bytes, big endian, and then, little endian: version (major, minor), type,
//! size, error code; of a request the sizes of report and key list, and the report; of an answer the sizes of key id and quote, and both.
//!
//! Specification: Intel, `SGXDataCenterAttestationPrimitives`, `QuoteGeneration/quote_wrapper/qgs_msg_lib/inc/qgs_msg_lib.h`, version 1.1.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use attest::tdx::MAX_QUOTE;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags};
use thiserror::Error;

use crate::devices::TD_REPORT;
use crate::sys;

/// `VMADDR_CID_HOST`.
const HOST: u32 = 2;
/// Where Intel's service listens unless it is configured otherwise.
const PORT: u32 = 4050;
/// For the whole exchange. The enclave answers in less than a second; a host that is busy takes longer.
const EXCHANGE: Duration = Duration::from_secs(30);
const MAJOR: u16 = 1;
const MINOR: u16 = 1;
const REQUEST: u32 = 0;
const RESPONSE: u32 = 1;
/// Version, type, size, error code.
const HEADER: usize = 16;
/// Of the two lengths behind it.
const LENGTHS: usize = 8;
/// An id of a key is a UUID.
const MAX_ID: usize = 256;

/// Why there is no quote.
#[derive(Debug, Error)]
pub enum QuoteServiceError {
    /// Nobody is there.
    #[error(
        "no quote generation service at {service}: the host has to run one (Intel's qgsd) and let this machine reach it"
    )]
    Connect {
        /// Where.
        service: QuoteService,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It stops, or takes too long.
    #[error("the quote generation service at {service} does not answer")]
    Transfer {
        /// Where.
        service: QuoteService,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It says no.
    #[error("the quote generation service makes no quote: code {0:#x}{hint}", hint = code_hint(*.0))]
    Refused(u32),
    /// Another version of the protocol.
    #[error("the quote generation service speaks version {0} of its protocol, not {MAJOR}")]
    Version(u16),
    /// Not the protocol, or more than a quote.
    #[error("the quote generation service's answer cannot be read: {0}")]
    Format(&'static str),
}

fn code_hint(code: u32) -> &'static str {
    match code {
        0x1_2001 => " (unexpected error): see the service's log on the host",
        0x1_2002 => " (out of memory)",
        0x1_2003 => " (invalid parameter)",
        0x1_2004 => " (invalid version)",
        0x1_2005 => " (invalid type)",
        0x1_2006 => " (invalid size)",
        0x1_2007 => " (invalid code)",
        _ => "",
    }
}

/// Where a service listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuoteService {
    /// A virtual socket.
    Vsock {
        /// The machine: 2 is the host.
        cid: u32,
        /// The port.
        port: u32,
    },
    /// A unix socket, as the service has one on the host.
    Unix(PathBuf),
}

impl QuoteService {
    /// Of this machine's host, at the port that is the default.
    #[must_use]
    pub const fn of_this_machine() -> Self {
        Self::Vsock {
            cid: HOST,
            port: PORT,
        }
    }

    /// A quote of `td_report`.
    ///
    /// # Errors
    /// When nobody listens or answers within 30 seconds, or the service refuses, or its answer is no quote or longer than one is read.
    pub fn quote(&self, td_report: &[u8; TD_REPORT]) -> Result<Vec<u8>, QuoteServiceError> {
        self.quote_within(EXCHANGE, td_report)
    }

    /// The same, in another time than 30 seconds.
    ///
    /// # Errors
    /// As [`QuoteService::quote`].
    pub fn quote_within(
        &self,
        limit: Duration,
        td_report: &[u8; TD_REPORT],
    ) -> Result<Vec<u8>, QuoteServiceError> {
        let end = Instant::now() + limit;
        let connect = |source| QuoteServiceError::Connect {
            service: self.clone(),
            source,
        };
        match self {
            Self::Vsock { cid, port } => {
                let socket = sys::connect_vsock(*cid, *port).map_err(connect)?;
                self.quote_over(Vsock(socket), end, td_report)
            }
            Self::Unix(path) => {
                let stream = UnixStream::connect(path).map_err(connect)?;
                self.quote_over(stream, end, td_report)
            }
        }
    }

    fn quote_over<S: Stream>(
        &self,
        stream: S,
        end: Instant,
        td_report: &[u8; TD_REPORT],
    ) -> Result<Vec<u8>, QuoteServiceError> {
        let transfer = |source| QuoteServiceError::Transfer {
            service: self.clone(),
            source,
        };
        let mut stream = Timed { stream, end };
        stream.write_all(&request(td_report)).map_err(transfer)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length).map_err(transfer)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > HEADER + LENGTHS + MAX_ID + MAX_QUOTE {
            return Err(QuoteServiceError::Format("it is longer than any quote"));
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).map_err(transfer)?;
        quote_in(&answer)
    }
}

impl fmt::Display for QuoteService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vsock { cid: HOST, port } => write!(f, "port {port} of the host (vsock)"),
            Self::Vsock { cid, port } => write!(f, "port {port} of machine {cid} (vsock)"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// The whole of a `GET_QUOTE_REQ`. No list of keys: the service has one.
fn request(td_report: &[u8; TD_REPORT]) -> Vec<u8> {
    const REPORT: u32 = 1024;
    const SIZE: u32 = 16 + 8 + REPORT;
    const { assert!(REPORT as usize == TD_REPORT && SIZE as usize == HEADER + LENGTHS + TD_REPORT) };
    let mut bytes = SIZE.to_be_bytes().to_vec();
    bytes.extend(MAJOR.to_le_bytes());
    bytes.extend(MINOR.to_le_bytes());
    for number in [REQUEST, SIZE, 0, REPORT, 0] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend_from_slice(td_report);
    bytes
}

/// The quote in a `GET_QUOTE_RESP`, without the length before it. At most [`MAX_QUOTE`] bytes.
///
/// # Errors
/// When it is none, or says why there is no quote.
pub fn quote_in(answer: &[u8]) -> Result<Vec<u8>, QuoteServiceError> {
    const CUT: QuoteServiceError = QuoteServiceError::Format("it is cut off");
    let (header, rest) = answer.split_first_chunk::<HEADER>().ok_or(CUT)?;
    let [m0, m1, _, _, t0, t1, t2, t3, s0, s1, s2, s3, e0, e1, e2, e3] = *header;
    // minor versions are compatible
    match u16::from_le_bytes([m0, m1]) {
        MAJOR => {}
        other => return Err(QuoteServiceError::Version(other)),
    }
    if u32::from_le_bytes([t0, t1, t2, t3]) != RESPONSE {
        return Err(QuoteServiceError::Format("it is no answer to this request"));
    }
    if usize::try_from(u32::from_le_bytes([s0, s1, s2, s3])) != Ok(answer.len()) {
        return Err(QuoteServiceError::Format(
            "it has another size than it says",
        ));
    }
    match u32::from_le_bytes([e0, e1, e2, e3]) {
        0 => {}
        code => return Err(QuoteServiceError::Refused(code)),
    }
    let (lengths, rest) = rest.split_first_chunk::<LENGTHS>().ok_or(CUT)?;
    let [i0, i1, i2, i3, q0, q1, q2, q3] = *lengths;
    let number = |bytes| usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX);
    let (id, length) = (number([i0, i1, i2, i3]), number([q0, q1, q2, q3]));
    let quote = rest.get(id..).ok_or(CUT)?;
    if quote.len() != length {
        return Err(QuoteServiceError::Format(
            "its quote has another size than it says",
        ));
    }
    match length {
        0 => Err(QuoteServiceError::Format("its quote is empty")),
        _ if length > MAX_QUOTE => Err(QuoteServiceError::Format("it is longer than any quote")),
        _ => Ok(quote.to_vec()),
    }
}

/// A stream whose next operation can be bounded.
trait Stream: Read + Write {
    fn limit(&self, next: Duration) -> io::Result<()>;
}

impl Stream for UnixStream {
    fn limit(&self, next: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(next))?;
        self.set_write_timeout(Some(next))
    }
}

#[derive(Debug)]
struct Vsock(OwnedFd);

impl Read for Vsock {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (length, _) = rustix::net::recv(&self.0, buffer, RecvFlags::empty())?;
        Ok(length)
    }
}

impl Write for Vsock {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(rustix::net::send(&self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Vsock {
    fn limit(&self, next: Duration) -> io::Result<()> {
        set_socket_timeout(&self.0, Timeout::Recv, Some(next))?;
        Ok(set_socket_timeout(&self.0, Timeout::Send, Some(next))?)
    }
}

/// Bounds the whole: a byte at a time is too slow, however patient each read is.
struct Timed<S> {
    stream: S,
    end: Instant,
}

impl<S: Stream> Timed<S> {
    fn limit(&self) -> io::Result<()> {
        let left = self
            .end
            .checked_duration_since(Instant::now())
            .filter(|left| !left.is_zero())
            .ok_or(io::ErrorKind::TimedOut)?;
        self.stream.limit(left)
    }
}

impl<S: Stream> Read for Timed<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.limit()?;
        self.stream.read(buffer)
    }
}

impl<S: Stream> Write for Timed<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.limit()?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(quote: &[u8]) -> Vec<u8> {
        let size = u32::try_from(HEADER + LENGTHS + quote.len()).unwrap();
        let mut bytes = [MAJOR.to_le_bytes(), MINOR.to_le_bytes()].concat();
        for number in [RESPONSE, size, 0, 0, size - 24] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(quote);
        bytes
    }

    /// Foreign bytes never panic, and what is taken for a quote is the end of what was answered.
    #[test]
    fn damaged_answers_are_refused_or_hold_their_quote() {
        let whole = answer(&[7; 40]);
        assert_eq!(quote_in(&whole).unwrap(), [7; 40]);
        for length in 0..whole.len() {
            assert!(quote_in(&whole[..length]).is_err(), "{length}");
        }
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let is_free = (16..32).contains(&bit) || bit >= 8 * (HEADER + LENGTHS);
            match quote_in(&damaged) {
                // the minor version, and the quote itself
                Ok(quote) => assert!(is_free && damaged.ends_with(&quote), "bit {bit}"),
                Err(error) => assert!(!is_free, "bit {bit}: {error}"),
            }
        }
    }
}
