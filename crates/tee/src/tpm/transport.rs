//! Bytes to a TPM and back, bounded in size and time.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use tpm2_protocol::constant::TPM_MAX_COMMAND_SIZE;

/// Longer than a TPM under emulation takes for a key. A device has the kernel driver's own limits.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Tag, size and code.
const HEADER: usize = 10;
/// Where an answer's code is.
const CODE: usize = 6;
/// `TSS2_RESMGR_TPM_RC_LAYER`: what the kernel's resource manager writes above the code when it answers in the TPM's
/// place, as it does to a command that the TPM does not have (drivers/char/tpm/tpm2-space.c).
const RESOURCE_MANAGER: [u8; 2] = [0x00, 0x0b];

/// Where a TPM is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TpmAddress {
    /// A character device of the kernel.
    Device(PathBuf),
    /// swtpm's server channel on a unix socket.
    Unix(PathBuf),
    /// swtpm's server channel on TCP.
    Tcp(SocketAddr),
}

impl TpmAddress {
    /// This machine's TPM, by the kernel's resource manager, which keeps the objects of different programs apart.
    #[must_use]
    pub fn of_this_machine() -> Self {
        Self::Device("/dev/tpmrm0".into())
    }
}

impl fmt::Display for TpmAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(path) | Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

#[derive(Debug)]
pub(super) enum Transport {
    Device(File),
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Transport {
    pub(super) fn open(address: &TpmAddress) -> io::Result<Self> {
        match address {
            TpmAddress::Device(path) => OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .map(Self::Device),
            TpmAddress::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                Ok(Self::Unix(stream))
            }
            TpmAddress::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, TIMEOUT)?;
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
        }
    }

    /// Sends one command and reads its answer. What the resource manager answers reads as if the TPM had.
    pub(super) fn exchange(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        let mut answer = self.transfer(command)?;
        if let Some(layer) = answer.get_mut(CODE..CODE + RESOURCE_MANAGER.len())
            && layer == RESOURCE_MANAGER
        {
            layer.fill(0);
        }
        Ok(answer)
    }

    fn transfer(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Device(device) => {
                // one write is one command, and one read gives its whole answer
                let written = device.write(command)?;
                if written != command.len() {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                let mut answer = vec![0; TPM_MAX_COMMAND_SIZE];
                let length = device.read(&mut answer)?;
                answer.truncate(length);
                Ok(answer)
            }
            Self::Unix(stream) => over_stream(stream, command),
            Self::Tcp(stream) => over_stream(stream, command),
        }
    }
}

fn over_stream<S: Read + Write>(stream: &mut S, command: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(command)?;
    let mut header = [0; HEADER];
    stream.read_exact(&mut header)?;
    let [_, _, size @ .., _, _, _, _] = header;
    let size = usize::try_from(u32::from_be_bytes(size)).unwrap_or(usize::MAX);
    let Some(left) = size
        .checked_sub(HEADER)
        .filter(|_| size <= TPM_MAX_COMMAND_SIZE)
    else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("an answer of {size} bytes"),
        ));
    };
    let mut answer = header.to_vec();
    stream.take(left as u64).read_to_end(&mut answer)?;
    if answer.len() != size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}
