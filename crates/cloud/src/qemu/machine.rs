//! One machine: UEFI firmware, TPM, the measured image, an empty disk for state, two NICs. Started, looked at, stopped.
//!
//! The guest gets nothing else from the host: no fw_cfg or SMBIOS strings, no command line, no credentials, no default
//! devices. What it learns it asks the metadata server for. Design: `cluster.md`, "Local provider"; `boot-and-disk.md`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Seat;
use super::accelerator::Accelerator;
use super::process::{Handle, ProcessError, Running, remove_if_present, search};
use super::qmp::Qmp;
use super::swtpm::{self, Swtpm, SwtpmError, last_lines};

mod arguments;

use arguments::{option, reconnect_option};

/// The program.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// Ports of a node that are reached through the host's loopback addresses, the same on both sides.
pub const FORWARDED_PORTS: [u16; 6] = [6443, 9000, 9999, 30080, 30081, 30090];

/// Names of the pid files in a machine's directory.
const PID: &str = "qemu.pid";
const TPM_PID: &str = "tpm.pid";

/// A machine could not be made, started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// A file of the machine can not be made.
    #[error("{what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// QEMU can not be run.
    #[error("run {PROGRAM}")]
    Run(#[source] io::Error),
    /// QEMU ran and gave up.
    #[error("{PROGRAM} could not start {machine}: {output}")]
    Refused {
        /// The machine.
        machine: String,
        /// The last of what QEMU said.
        output: String,
    },
    /// The TPM could not be started or stopped.
    #[error("the TPM of {machine}")]
    Tpm {
        /// The machine.
        machine: String,
        /// Why.
        #[source]
        source: SwtpmError,
    },
    /// The process can not be controlled.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

/// UEFI firmware with a TPM driver and no keys enrolled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firmware {
    /// Code, shared and read-only.
    pub code: PathBuf,
    /// Template of the variable store; each machine gets a copy.
    pub variables: PathBuf,
}

impl Firmware {
    /// Debian's and Ubuntu's package `ovmf`.
    pub fn debian() -> Self {
        Self {
            code: PathBuf::from("/usr/share/OVMF/OVMF_CODE_4M.fd"),
            variables: PathBuf::from("/usr/share/OVMF/OVMF_VARS_4M.fd"),
        }
    }

    pub(crate) fn arguments(&self, variables: &Path) -> [OsString; 4] {
        [
            "-drive".into(),
            option("if=pflash,unit=0,format=raw,readonly=on,file=", &self.code),
            "-drive".into(),
            option("if=pflash,unit=1,format=raw,file=", variables),
        ]
    }
}

/// How big machines are and what they boot.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The firmware.
    pub firmware: Firmware,
    /// The measured image; never written to.
    pub image: PathBuf,
    /// Virtual processors.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Size of the state disk in GiB; a sparse file.
    pub state_disk_gib: u64,
    /// What executes it.
    pub accelerator: Accelerator,
}

/// One machine and its files. All paths are absolute.
#[derive(Debug, Clone)]
pub struct Machine {
    seat: Seat,
    /// Disks, firmware variables, TPM state, logs and pid files.
    directory: PathBuf,
    /// Sockets, whose paths have at most 107 bytes.
    run: PathBuf,
}

impl Machine {
    /// The machine of `seat`, with its files in `workspace/<name>` and its sockets in `run`.
    pub fn new(seat: Seat, workspace: &Path, run: &Path) -> Self {
        Self {
            seat,
            directory: workspace.join(seat.to_string()),
            run: run.to_owned(),
        }
    }

    /// Its place in the plan.
    pub fn seat(&self) -> Seat {
        self.seat
    }

    /// What it writes to its serial console.
    pub fn console(&self) -> PathBuf {
        self.directory.join("console.log")
    }

    /// Its state disk.
    pub fn state_disk(&self) -> PathBuf {
        self.directory.join("state.raw")
    }

    /// Its control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.run.join(format!("{}.qmp", self.seat))
    }

    /// Its TPM.
    pub fn tpm(&self) -> Swtpm {
        Swtpm {
            state: self.directory.join("tpm"),
            socket: self.run.join(format!("{}.tpm", self.seat)),
            pid_file: self.directory.join(TPM_PID),
            log: self.directory.join("tpm.log"),
        }
    }

    /// How its process is found again.
    pub fn handle(&self) -> Handle {
        let pid_file = self.directory.join(PID);
        Handle {
            arguments: vec!["-pidfile".into(), pid_file.clone().into()],
            pid_file,
        }
    }

    /// Connects to its control socket.
    pub async fn control(&self) -> Result<Qmp, super::qmp::QmpError> {
        Qmp::connect(&self.control_socket()).await
    }

    /// Starts it, if it does not run: makes what it has not got yet, and uses again what it has.
    pub fn start(&self, shape: &Shape, switch: &Path) -> Result<(), MachineError> {
        if self.handle().find()?.is_some() {
            return Ok(());
        }
        self.make_files(shape)?;
        let machine = self.seat.to_string();
        self.tpm().start().map_err(|source| MachineError::Tpm {
            machine: machine.clone(),
            source,
        })?;
        let output = Command::new(PROGRAM)
            .args(self.arguments(shape, switch, reconnect_option()?))
            .stdin(Stdio::null())
            .output()
            .map_err(MachineError::Run)?;
        if output.status.success() {
            return Ok(());
        }
        let said = last_lines(&[output.stdout, output.stderr].concat());
        self.tpm().stop().map_err(|source| MachineError::Tpm {
            machine: machine.clone(),
            source,
        })?;
        Err(MachineError::Refused {
            machine,
            output: said,
        })
    }

    /// Stops it and its TPM, as pulling the plug does. Its files stay.
    pub fn stop(&self) -> Result<bool, MachineError> {
        let was_running = self.handle().stop()?;
        self.tpm().stop().map_err(|source| MachineError::Tpm {
            machine: self.seat.to_string(),
            source,
        })?;
        let socket = self.control_socket();
        remove_if_present(&socket).map_err(|source| MachineError::File {
            what: "remove",
            path: socket,
            source,
        })?;
        Ok(was_running)
    }

    fn make_files(&self, shape: &Shape) -> Result<(), MachineError> {
        let failed = |what, path: &Path, source| MachineError::File {
            what,
            path: path.to_owned(),
            source,
        };
        std::fs::create_dir_all(&self.directory)
            .map_err(|source| failed("make the directory", &self.directory, source))?;
        let disk = self.state_disk();
        if !disk.exists() {
            let file = std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&disk)
                .map_err(|source| failed("make the disk", &disk, source))?;
            file.set_len(shape.state_disk_gib << 30)
                .map_err(|source| failed("make the disk", &disk, source))?;
        }
        let variables = self.variables();
        if !variables.exists() {
            std::fs::copy(&shape.firmware.variables, &variables)
                .map_err(|source| failed("copy the firmware's variables to", &variables, source))?;
        }
        Ok(())
    }

    fn variables(&self) -> PathBuf {
        self.directory.join("vars.fd")
    }
}

/// Machines and TPMs that run with their files below `workspace`, as their own arguments say, for a workspace whose
/// records were lost.
pub fn processes_below(workspace: &Path) -> Result<Vec<Running>, ProcessError> {
    let is_below = |path: &OsStr, name: &str| {
        let path = Path::new(path);
        path.starts_with(workspace) && path.file_name() == Some(OsStr::new(name))
    };
    search(|arguments| {
        let program = arguments.first().map(Path::new).and_then(Path::file_name);
        arguments.windows(2).any(|pair| match pair {
            [flag, path] if *flag == "-pidfile" => {
                program == Some(OsStr::new(PROGRAM)) && is_below(path, PID)
            }
            [flag, file] if *flag == "--pid" => {
                let path = file
                    .as_bytes()
                    .strip_prefix(b"file=")
                    .map(OsStr::from_bytes);
                program == Some(OsStr::new(swtpm::PROGRAM))
                    && path.is_some_and(|path| is_below(path, TPM_PID))
            }
            _ => false,
        })
    })
}
