//! A real TPM 2.0 as a process: swtpm on a unix socket in a directory of its own, started, stopped with the value.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use attest::{Digest, PcrIndex};
use tempfile::TempDir;

use crate::boot::Image;

/// A started process answers within milliseconds; a loaded machine may take longer.
const START: Duration = Duration::from_secs(30);
const ANSWER: Duration = Duration::from_secs(30);

/// Which PCR banks the TPM allocates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Banks {
    /// The one this system quotes.
    Sha256,
    /// The way many machines come: all of SHA-1, SHA-256, SHA-384 and SHA-512.
    All,
}

/// A running swtpm.
#[derive(Debug)]
pub struct Swtpm {
    process: Child,
    directory: TempDir,
}

impl Swtpm {
    /// Starts a TPM with the SHA-256 bank, new seeds, and all PCRs as after a reset.
    ///
    /// # Errors
    /// When swtpm or swtpm_setup (packages `swtpm`, `swtpm-tools`) is missing or does not start.
    pub fn start() -> Result<Self> {
        Self::start_with(Banks::Sha256)
    }

    /// As [`Swtpm::start`], with these banks.
    ///
    /// # Errors
    /// As [`Swtpm::start`].
    pub fn start_with(banks: Banks) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("swtpm-").tempdir()?;
        let state = directory.path().join("state");
        std::fs::create_dir(&state)?;
        let list = match banks {
            Banks::Sha256 => "sha256",
            Banks::All => "sha1,sha256,sha384,sha512",
        };
        let setup = Command::new("swtpm_setup")
            .args([
                "--tpm2",
                "--not-overwrite",
                "--pcr-banks",
                list,
                "--tpmstate",
            ])
            .arg(format!("dir://{}", state.display()))
            .stdin(Stdio::null())
            .output()
            .context("cannot run swtpm_setup (package swtpm-tools)")?;
        ensure!(
            setup.status.success(),
            "swtpm_setup failed: {}",
            String::from_utf8_lossy(&setup.stdout)
        );

        let socket = directory.path().join("tpm.sock");
        let process = Command::new("swtpm")
            .args([
                "socket",
                "--tpm2",
                "--flags",
                "not-need-init,startup-clear",
                "--tpmstate",
            ])
            .arg(format!("dir={}", state.display()))
            .arg("--server")
            .arg(format!("type=unixio,path={}", socket.display()))
            .arg("--ctrl")
            .arg(format!(
                "type=unixio,path={}",
                directory.path().join("ctrl.sock").display()
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // it reports every client that goes away; shown only if it does not start
            .stderr(std::fs::File::create(directory.path().join("stderr"))?)
            .spawn()
            .context("cannot run swtpm (package swtpm)")?;
        let mut tpm = Self { process, directory };
        tpm.wait_for(&socket)?;
        Ok(tpm)
    }

    /// Starts a TPM and measures into it what a boot of `image` would.
    ///
    /// # Errors
    /// As [`Swtpm::start`], or when the TPM refuses an extend.
    pub fn boot(image: &Image) -> Result<Self> {
        let tpm = Self::start()?;
        tpm.measure(image)?;
        Ok(tpm)
    }

    /// Measures into it what a boot of `image` would.
    ///
    /// # Errors
    /// When the TPM refuses an extend.
    pub fn measure(&self, image: &Image) -> Result<()> {
        for measured in image.boot() {
            self.extend(measured.pcr, &measured.digest)?;
        }
        Ok(())
    }

    /// Where a client connects. The TPM serves one connection at a time.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("tpm.sock")
    }

    /// A directory for the files of this machine, removed with it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes the log of `image` to a file, as the kernel would show it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_event_log(&self, image: &Image) -> Result<PathBuf> {
        let path = self.directory.path().join("binary_bios_measurements");
        std::fs::write(&path, image.event_log())?;
        Ok(path)
    }

    /// TPM2_PCR_Extend of the SHA-256 bank, with the empty password.
    ///
    /// # Errors
    /// When the TPM does not answer or refuses.
    pub fn extend(&self, pcr: PcrIndex, digest: &Digest) -> Result<()> {
        self.extend_bank(pcr, 0x000b, digest.as_bytes())
    }

    /// TPM2_PCR_Extend of one bank, by its `TPM_ALG_ID`.
    ///
    /// # Errors
    /// As [`Swtpm::extend`].
    pub fn extend_bank(&self, pcr: PcrIndex, bank: u16, digest: &[u8]) -> Result<()> {
        let mut body = u32::from(pcr.number()).to_be_bytes().to_vec();
        body.extend(9_u32.to_be_bytes()); // size of the authorization
        body.extend(0x4000_0009_u32.to_be_bytes()); // TPM_RS_PW
        body.extend([0; 5]); // no nonce, no attributes, empty password
        body.extend(1_u32.to_be_bytes());
        body.extend(bank.to_be_bytes());
        body.extend(digest);
        let response = self.command(0x8002, 0x0000_0182, &body)?;
        let code = response
            .get(6..10)
            .context("the TPM's answer has no code")?;
        ensure!(
            code == [0; 4],
            "TPM2_PCR_Extend failed with {}",
            hex::encode(code)
        );
        Ok(())
    }

    /// TPM2_EvictControl as the owner: the key in a slot is kept at a persistent handle for good.
    ///
    /// # Errors
    /// When the TPM does not answer or refuses.
    pub fn keep(&self, slot: u32, handle: u32) -> Result<()> {
        let mut body = 0x4000_0001_u32.to_be_bytes().to_vec(); // TPM_RH_OWNER
        body.extend(slot.to_be_bytes());
        body.extend(9_u32.to_be_bytes());
        body.extend(0x4000_0009_u32.to_be_bytes());
        body.extend([0; 5]);
        body.extend(handle.to_be_bytes());
        let response = self.command(0x8002, 0x0000_0120, &body)?;
        let code = response
            .get(6..10)
            .context("the TPM's answer has no code")?;
        ensure!(
            code == [0; 4],
            "TPM2_EvictControl failed with {}",
            hex::encode(code)
        );
        Ok(())
    }

    fn command(&self, tag: u16, code: u32, body: &[u8]) -> Result<Vec<u8>> {
        let size = u32::try_from(10 + body.len())?;
        let mut command = tag.to_be_bytes().to_vec();
        command.extend(size.to_be_bytes());
        command.extend(code.to_be_bytes());
        command.extend_from_slice(body);
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(&command)?;
        let mut response = vec![0; 10];
        stream.read_exact(&mut response)?;
        let size = u32::from_be_bytes(response[2..6].try_into()?);
        ensure!(
            (10..=4096).contains(&size),
            "the TPM's answer says it has {size} bytes"
        );
        response.resize(usize::try_from(size)?, 0);
        stream.read_exact(&mut response[10..])?;
        Ok(response)
    }

    fn wait_for(&mut self, socket: &Path) -> Result<()> {
        let started = Instant::now();
        // the socket's file is there before anybody listens on it
        while UnixStream::connect(socket).is_err() {
            if let Some(status) = self.process.try_wait()? {
                let said = std::fs::read_to_string(self.directory.path().join("stderr"))?;
                bail!("swtpm ended at once with {status}: {said}");
            }
            ensure!(
                started.elapsed() < START,
                "swtpm did not open its socket within {START:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        // nothing can be done about a process that cannot be killed, and a test must not hide its own failure
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
