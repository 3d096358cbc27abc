//! The exchange with a NitroTPM: a program that answers as one does, with the document of a real one.
//!
//! swtpm cannot stand in for it: its NV areas are too short for a document, and it has no command of AWS.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use attest::aws::Document;
use attest::aws::nsm::attestation_request;
use tee::tpm::NitroError;
use tee::{Tpm, TpmError};

const READ_PUBLIC: u32 = 0x0000_0169;
const DEFINE_SPACE: u32 = 0x0000_012a;
const UNDEFINE_SPACE: u32 = 0x0000_0122;
const NV_READ: u32 = 0x0000_014e;
const NV_WRITE: u32 = 0x0000_0137;
const NSM_REQUEST: u32 = 0x2000_0001;
/// `TPM_RC_HANDLE` of the first handle.
const NO_SUCH_HANDLE: u32 = 0x0000_018b;
/// Handles and the authorization by the empty password: what stands in front of the parameters.
const TWO_HANDLES: usize = 8 + 4 + 9;

fn document() -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../attest/testdata/evidence/aws-nitrotpm/vaportpm/2026-02-03/document.cbor");
    fs::read(path).unwrap()
}

/// The answer of the security module with a document in it.
fn attestation(document: &[u8]) -> Vec<u8> {
    let mut answer = b"\xa1\x6bAttestation\xa1\x68document\x59".to_vec();
    answer.extend(u16::try_from(document.len()).unwrap().to_be_bytes());
    answer.extend_from_slice(document);
    answer
}

/// One NV area and the module behind it.
struct NitroTpm {
    area: Option<Vec<u8>>,
    answer: Vec<u8>,
    /// What was asked.
    requests: Vec<Vec<u8>>,
    /// Of the command of AWS.
    code: u32,
}

impl NitroTpm {
    /// Parameters of the answer to one command, or why it is refused.
    fn run(&mut self, command: u32, body: &[u8]) -> Result<Vec<u8>, u32> {
        match command {
            READ_PUBLIC if self.area.is_none() => Err(NO_SUCH_HANDLE),
            DEFINE_SPACE => {
                assert!(self.area.is_none(), "defined twice");
                // the length stands last
                let length = u16::from_be_bytes(*body.last_chunk().unwrap());
                self.area = Some(vec![0xff; usize::from(length)]);
                Ok(Vec::new())
            }
            UNDEFINE_SPACE => {
                self.area.take().expect("nothing to remove");
                Ok(Vec::new())
            }
            NV_WRITE => {
                let parameters = &body[TWO_HANDLES..];
                let offset = usize::from(u16::from_be_bytes(*parameters.last_chunk().unwrap()));
                let data = &parameters[2..parameters.len() - 2];
                self.area.as_mut().unwrap()[offset..offset + data.len()].copy_from_slice(data);
                Ok(Vec::new())
            }
            NV_READ => {
                let parameters = body[TWO_HANDLES..].as_chunks::<2>().0;
                let (size, offset) = (parameters[0], parameters[1]);
                let from = usize::from(u16::from_be_bytes(offset));
                let until = from + usize::from(u16::from_be_bytes(size));
                Ok([&size[..], &self.area.as_ref().unwrap()[from..until]].concat())
            }
            NSM_REQUEST if self.code != 0 => Err(self.code),
            NSM_REQUEST => {
                assert_eq!(body.len(), TWO_HANDLES);
                let area = self.area.as_mut().unwrap();
                self.requests.push(area.clone());
                area[..self.answer.len()].copy_from_slice(&self.answer);
                Ok(Vec::new())
            }
            other => panic!("command {other:#010x}"),
        }
    }
}

/// What was seen of one client.
struct Seen {
    requests: Vec<Vec<u8>>,
    /// An area that it left behind.
    area: Option<Vec<u8>>,
}

/// Serves one client. Whatever is refused is refused by the layer of `code`.
fn serve(socket: &Path, answer: Vec<u8>, code: u32) -> JoinHandle<Seen> {
    let listener = UnixListener::bind(socket).unwrap();
    let layer = code & 0xffff_0000;
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut tpm = NitroTpm {
            area: None,
            answer,
            requests: Vec::new(),
            code,
        };
        while let Some((tag, command, body)) = read_command(&mut stream) {
            let (code, parameters) = match tpm.run(command, &body) {
                Ok(parameters) => (0, parameters),
                Err(code) => (code | layer, Vec::new()),
            };
            write_answer(&mut stream, tag, code, &parameters);
        }
        Seen {
            requests: tpm.requests,
            area: tpm.area,
        }
    })
}

fn read_command(stream: &mut UnixStream) -> Option<(u16, u32, Vec<u8>)> {
    let mut head = [0; 10];
    stream.read_exact(&mut head).ok()?;
    let size = u32::from_be_bytes(head[2..6].try_into().unwrap());
    let mut body = vec![0; usize::try_from(size).unwrap() - 10];
    stream.read_exact(&mut body).unwrap();
    let tag = u16::from_be_bytes(head[..2].try_into().unwrap());
    Some((tag, u32::from_be_bytes(head[6..].try_into().unwrap()), body))
}

fn write_answer(stream: &mut UnixStream, tag: u16, code: u32, parameters: &[u8]) {
    let has_sessions = tag == 0x8002 && code == 0;
    let mut body = Vec::new();
    if has_sessions {
        body.extend(u32::try_from(parameters.len()).unwrap().to_be_bytes());
    }
    body.extend_from_slice(parameters);
    if has_sessions {
        body.extend([0, 0, 1, 0, 0]); // no nonce, the session goes on, no value
    }
    let tag: u16 = if has_sessions { 0x8002 } else { 0x8001 };
    let mut answer = tag.to_be_bytes().to_vec();
    answer.extend(u32::try_from(10 + body.len()).unwrap().to_be_bytes());
    answer.extend(code.to_be_bytes());
    answer.extend(body);
    stream.write_all(&answer).unwrap();
}

fn asked(
    answer: Vec<u8>,
    code: u32,
    user_data: Option<&[u8]>,
) -> (Result<Vec<u8>, NitroError>, Seen) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("tpm.sock");
    let served = serve(&socket, answer, code);
    let document = {
        let mut tpm = Tpm::connect_swtpm(&socket).unwrap();
        tpm.nitro_document(Some(&[7; 32]), user_data, Some(&[4; 65]))
    };
    (document, served.join().unwrap())
}

#[test]
fn a_nitrotpm_gives_its_document_and_keeps_no_area() {
    // longer than one write of an area
    let data = vec![9; 700];
    let (found, seen) = asked(attestation(&document()), 0, Some(&data));
    let found = found.unwrap();
    assert_eq!(found, document());
    assert!(Document::parse(&found).is_ok());
    let request = attestation_request(Some(&[7; 32]), Some(&data), Some(&[4; 65]));
    assert_eq!(seen.requests.len(), 1);
    assert_eq!(seen.requests[0][..request.len()], request);
    assert_eq!(seen.area, None);
}

#[test]
fn what_a_nitrotpm_refuses_is_told_and_no_area_is_kept() {
    let (found, seen) = asked(b"\xa1\x65Error\x6dInputTooLarge".to_vec(), 0, None);
    assert_eq!(
        found.unwrap_err().to_string(),
        "the Nitro Security Module refuses: InputTooLarge"
    );
    assert_eq!(seen.area, None);
    // TPM_RC_COMMAND_CODE
    let (found, seen) = asked(Vec::new(), 0x0000_0143, None);
    assert!(matches!(found, Err(NitroError::NoNitroTpm)), "{found:?}");
    assert_eq!(seen.area, None);
    // TPM_RC_FAILURE
    let (found, seen) = asked(Vec::new(), 0x0000_0101, None);
    assert!(matches!(found, Err(NitroError::Tpm(_))), "{found:?}");
    assert_eq!(seen.area, None);
}

/// What the kernel's resource manager answers in the TPM's place to a command that is not in the TPM's list
/// (`tpm_dev_transmit` in drivers/char/tpm/tpm-dev-common.c): these ten bytes.
#[test]
fn the_resource_manager_of_another_tpm_says_that_it_has_no_such_command() {
    const ANSWER: [u8; 10] = [0x80, 0x01, 0, 0, 0, 0x0a, 0x00, 0x0b, 0x01, 0x43];
    let code = u32::from_be_bytes(*ANSWER.last_chunk().unwrap());
    let (found, seen) = asked(Vec::new(), code, None);
    assert!(matches!(found, Err(NitroError::NoNitroTpm)), "{found:?}");
    assert_eq!(seen.area, None);

    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("tpm.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (_, command, _) = read_command(&mut stream).unwrap();
        stream.write_all(&ANSWER).unwrap();
        command
    });
    let mut tpm = Tpm::connect_swtpm(&socket).unwrap();
    assert!(!tpm.has_nitro_command().unwrap());
    assert_eq!(served.join().unwrap(), NSM_REQUEST);
}

#[test]
fn an_answer_of_a_layer_that_nobody_put_there_is_told() {
    // of the system API, which is not between this program and the TPM
    let (found, seen) = asked(Vec::new(), 0x0008_0143, None);
    assert!(
        matches!(found, Err(NitroError::Tpm(TpmError::Format { .. }))),
        "{found:?}"
    );
    assert_eq!(seen.area, None);
}
