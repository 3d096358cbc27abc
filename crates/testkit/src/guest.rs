//! What stands behind the guest devices of confidential machines: the firmware's answers, and the host's quote generation service. Bytes
//! only, so that a test can hand them to whatever asks.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use tempfile::TempDir;

/// Longer than any request takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// The GUIDs of certificates, as they stand in a table.
pub const VCEK: [u8; 16] = [
    0x8d, 0x75, 0xda, 0x63, 0x64, 0xe6, 0x64, 0x45, 0xad, 0xc5, 0xf4, 0xb9, 0x3b, 0xe8, 0xac, 0xcd,
];
/// As [`VCEK`].
pub const VLEK: [u8; 16] = [
    0xc2, 0x4b, 0x07, 0xa8, 0x5a, 0xa2, 0x3e, 0x48, 0xaa, 0xe6, 0x39, 0xc0, 0x45, 0xa0, 0xb8, 0xa1,
];
/// As [`VCEK`].
pub const ASK: [u8; 16] = [
    0x79, 0xb3, 0xb7, 0x4a, 0xac, 0xbb, 0xe4, 0x4f, 0xa0, 0x2f, 0x05, 0xae, 0xf3, 0x27, 0xc7, 0x82,
];

/// `MSG_REPORT_RSP` of AMD's firmware, in the 4000 bytes that the kernel hands on.
///
/// # Panics
/// When the report is longer.
#[must_use]
pub fn snp_response(status: u32, report: &[u8]) -> [u8; 4000] {
    let mut response = [0; 4000];
    let length = u32::try_from(report.len()).expect("a short report");
    response[..4].copy_from_slice(&status.to_le_bytes());
    response[4..8].copy_from_slice(&length.to_le_bytes());
    response[32..32 + report.len()].copy_from_slice(report);
    response
}

/// The table of certificates that a host puts beside a report.
///
/// # Panics
/// When the certificates are longer than four gigabytes.
#[must_use]
pub fn certificate_table(entries: &[([u8; 16], &[u8])]) -> Vec<u8> {
    let mut list = Vec::new();
    let mut certificates = Vec::new();
    for (guid, certificate) in entries {
        let offset = 24 * (entries.len() + 1) + certificates.len();
        list.extend_from_slice(guid);
        for number in [offset, certificate.len()] {
            list.extend(u32::try_from(number).expect("a short table").to_le_bytes());
        }
        certificates.extend_from_slice(certificate);
    }
    list.extend([0; 24]);
    list.extend(certificates);
    list
}

/// The fields of a service's answer. [`QuoteAnswer::of`] fills in the truth; a test changes one.
#[derive(Clone, Debug)]
pub struct QuoteAnswer {
    /// Before the message, if not the truth.
    pub length: Option<u32>,
    /// Major and minor.
    pub version: [u16; 2],
    /// 1 is the answer to a request of a quote.
    pub kind: u32,
    /// Of the whole message, if not the truth.
    pub size: Option<u32>,
    /// 0 is success.
    pub error: u32,
    /// Of the key.
    pub id: Vec<u8>,
    /// Of the quote, if not the truth.
    pub quote_size: Option<u32>,
    /// The quote.
    pub quote: Vec<u8>,
}

impl QuoteAnswer {
    /// As Intel's service answers.
    #[must_use]
    pub const fn of(quote: Vec<u8>) -> Self {
        Self {
            length: None,
            version: [1, 1],
            kind: 1,
            size: None,
            error: 0,
            id: Vec::new(),
            quote_size: None,
            quote,
        }
    }

    /// The bytes on the socket.
    ///
    /// # Panics
    /// When a part is longer than four gigabytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let short = |length: usize| u32::try_from(length).expect("a short message");
        let size = short(24 + self.id.len() + self.quote.len());
        let mut bytes = self.length.unwrap_or(size).to_be_bytes().to_vec();
        bytes.extend(self.version.iter().flat_map(|number| number.to_le_bytes()));
        for number in [
            self.kind,
            self.size.unwrap_or(size),
            self.error,
            short(self.id.len()),
            self.quote_size.unwrap_or(short(self.quote.len())),
        ] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(&self.id);
        bytes.extend(&self.quote);
        bytes
    }
}

/// A quote generation service on a unix socket, for one request.
#[derive(Debug)]
pub struct QuoteServer {
    directory: TempDir,
    served: JoinHandle<Result<Vec<u8>>>,
}

impl QuoteServer {
    /// Reads one whole request, gives it to `answer`, writes what that makes, and closes.
    ///
    /// # Errors
    /// When there can be no socket.
    pub fn start(answer: impl FnOnce(&[u8]) -> Vec<u8> + Send + 'static) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("qgs-").tempdir()?;
        let listener = UnixListener::bind(directory.path().join("qgs.socket"))?;
        let served = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let mut request = vec![0; usize::try_from(u32::from_be_bytes(length))?];
            stream.read_exact(&mut request)?;
            // who reads no further closes
            drop(stream.write_all(&answer(&request)));
            Ok(request)
        });
        Ok(Self { directory, served })
    }

    /// Where it listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("qgs.socket")
    }

    /// The request, without its length.
    ///
    /// # Errors
    /// When it could not be read.
    ///
    /// # Panics
    /// When whoever was to make the answer did.
    pub fn request(self) -> Result<Vec<u8>> {
        self.served.join().expect("the answer is made")
    }
}
