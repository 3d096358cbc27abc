//! QEMU's command line for a machine.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use super::{FORWARDED_PORTS, Machine, MachineError, PROGRAM, Shape};

impl Machine {
    pub(super) fn arguments(&self, shape: &Shape, switch: &Path, reconnect: &str) -> Vec<OsString> {
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
        arguments.extend(self.handle().arguments);
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
pub(super) fn reconnect_option() -> Result<&'static str, MachineError> {
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
pub(super) fn option(prefix: &str, path: &Path) -> OsString {
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
    use std::path::PathBuf;

    use cluster::Role;

    use super::*;
    use crate::qemu::Seat;
    use crate::qemu::accelerator::Accelerator;
    use crate::qemu::machine::Firmware;

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
