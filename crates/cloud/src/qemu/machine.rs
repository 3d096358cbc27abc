//! One machine: UEFI firmware, TPM, the measured image, an empty disk for state, two NICs. Started, looked at, stopped.
//!
//! The guest gets nothing else from the host: no fw_cfg or SMBIOS strings, no command line, no credentials, no default
//! devices. What it learns it asks the metadata server for. Design: `cluster.md`, "Local provider"; `boot-and-disk.md`.

use std::ffi::OsString;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Seat;
use super::accelerator::Accelerator;
use super::process::{Handle, ProcessError, remove_if_present};
use super::qmp::Qmp;
use super::swtpm::{Swtpm, SwtpmError, last_lines};

/// The program.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// Ports of a node that are reached through the host's loopback addresses, the same on both sides.
pub const FORWARDED_PORTS: [u16; 6] = [6443, 9000, 9999, 30080, 30081, 30090];

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
    /// Disks, firmware variables, TPM state and logs.
    directory: PathBuf,
    /// Sockets and pid files.
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
            pid_file: self.run.join(format!("{}.tpm.pid", self.seat)),
            log: self.directory.join("tpm.log"),
        }
    }

    /// How its process is found again.
    pub fn handle(&self) -> Handle {
        Handle {
            pid_file: self.run.join(format!("{}.pid", self.seat)),
            mark: format!("unix:{},server=on", self.control_socket().display()),
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

    fn arguments(&self, shape: &Shape, switch: &Path, reconnect: &str) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut add = |name: &str, value: OsString| arguments.extend([OsString::from(name), value]);
        let [accelerator, which, cpu, model] = shape.accelerator.arguments();
        add(
            "-name",
            format!("constellation-{},debug-threads=on", self.seat).into(),
        );
        add(
            "-machine",
            "q35,smm=off,vmport=off,usb=off,graphics=off".into(),
        );
        add(accelerator, which.into());
        add(cpu, model.into());
        add("-smp", shape.vcpus.to_string().into());
        add("-m", shape.memory_mib.to_string().into());
        add("-display", "none".into());
        for pair in shape.firmware.arguments(&self.variables()).chunks_exact(2) {
            if let [name, value] = pair {
                add(&name.to_string_lossy(), value.clone());
            }
        }
        add(
            "-drive",
            option(
                "if=none,id=image,format=raw,readonly=on,file=",
                &shape.image,
            ),
        );
        add(
            "-device",
            "virtio-blk-pci,drive=image,serial=image,bootindex=0".into(),
        );
        add(
            "-drive",
            option(
                "if=none,id=state,format=raw,discard=unmap,file=",
                &self.state_disk(),
            ),
        );
        add("-device", "virtio-blk-pci,drive=state,serial=state".into());
        add(
            "-chardev",
            option("socket,id=tpm,path=", &self.tpm().socket),
        );
        add("-tpmdev", "emulator,id=tpm,chardev=tpm".into());
        add("-device", "tpm-crb,tpmdev=tpm".into());
        add(
            "-netdev",
            format!(
                "user,id=outside,ipv6=off,hostname={}{}",
                self.seat,
                forwards(self.seat.host_address())
            )
            .into(),
        );
        add(
            "-device",
            format!(
                "virtio-net-pci,netdev=outside,mac={},romfile=",
                self.seat.outside_mac()
            )
            .into(),
        );
        let mut stream = option(
            "stream,id=cluster,server=off,addr.type=unix,addr.path=",
            switch,
        );
        stream.push(reconnect);
        add("-netdev", stream);
        add(
            "-device",
            format!(
                "virtio-net-pci,netdev=cluster,mac={},romfile=",
                self.seat.cluster_mac()
            )
            .into(),
        );
        add("-device", "virtio-rng-pci".into());
        add("-serial", option("file:", &self.console()));
        let mut control = option("unix:", &self.control_socket());
        control.push(",server=on,wait=off");
        add("-qmp", control);
        add("-pidfile", self.handle().pid_file.into());
        arguments.extend(["-nodefaults", "-no-user-config", "-daemonize"].map(OsString::from));
        arguments
    }
}

fn forwards(host: Ipv4Addr) -> String {
    FORWARDED_PORTS
        .iter()
        .map(|port| format!(",hostfwd=tcp:{host}:{port}-:{port}"))
        .collect()
}

/// The stream's option to connect again, should the switch be started anew: its name changed with QEMU 9.2.
fn reconnect_option() -> Result<&'static str, MachineError> {
    let output = Command::new(PROGRAM)
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(MachineError::Run)?;
    Ok(match version(&String::from_utf8_lossy(&output.stdout)) {
        Some(version) if version < (9, 2) => ",reconnect=1",
        _ => ",reconnect-ms=1000",
    })
}

/// `QEMU emulator version 10.0.2 (Debian ...)`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split_once("version ")?.1.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// `prefix` + `path` as QEMU's option parser wants it: a comma in a value is doubled.
fn option(prefix: &str, path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut bytes = prefix.as_bytes().to_vec();
    for byte in path.as_os_str().as_bytes() {
        bytes.push(*byte);
        if *byte == b',' {
            bytes.push(b',');
        }
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use cluster::Role;

    use super::*;

    fn arguments() -> Vec<String> {
        let machine = Machine::new(
            Seat::new(Role::Worker, 0).unwrap(),
            Path::new("/w,s"),
            Path::new("/run/c"),
        );
        let shape = Shape {
            firmware: Firmware::debian(),
            image: PathBuf::from("/w,s/image.raw"),
            vcpus: 2,
            memory_mib: 2048,
            state_disk_gib: 8,
            accelerator: Accelerator::Tcg,
        };
        machine
            .arguments(&shape, Path::new("/run/c/switch"), ",reconnect=1")
            .into_iter()
            .map(|a| a.into_string().unwrap())
            .collect()
    }

    #[test]
    fn the_image_is_never_written_and_commas_are_kept() {
        let arguments = arguments();
        assert!(
            arguments.contains(
                &"if=none,id=image,format=raw,readonly=on,file=/w,,s/image.raw".to_owned()
            )
        );
        assert!(arguments.contains(
            &"if=none,id=state,format=raw,discard=unmap,file=/w,,s/worker-0/state.raw".to_owned()
        ));
    }

    #[test]
    fn the_disk_for_state_is_the_second() {
        let drives: Vec<_> = arguments()
            .into_iter()
            .filter(|a| a.starts_with("virtio-blk"))
            .collect();
        assert!(drives[0].contains("drive=image") && drives[1].contains("drive=state"));
    }

    #[test]
    fn nothing_is_injected() {
        for argument in arguments() {
            for word in [
                "fw_cfg",
                "smbios",
                "kernel",
                "append",
                "initrd",
                "acpitable",
            ] {
                assert!(!argument.contains(word), "{argument}");
            }
        }
    }

    #[test]
    fn ports_are_forwarded_from_the_machines_own_address() {
        let netdev = arguments()
            .into_iter()
            .find(|a| a.starts_with("user,"))
            .unwrap();
        for port in FORWARDED_PORTS {
            assert!(
                netdev.contains(&format!("hostfwd=tcp:127.42.2.10:{port}-:{port}")),
                "{netdev}"
            );
        }
    }

    #[test]
    fn the_version_is_read() {
        assert_eq!(
            version("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\n"),
            Some((10, 0))
        );
        assert_eq!(
            version("QEMU emulator version 8.2.2 (Debian 1:8.2.2+ds-0ubuntu1)\n"),
            Some((8, 2))
        );
        assert_eq!(version("something else"), None);
    }
}
