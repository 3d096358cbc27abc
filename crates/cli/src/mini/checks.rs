//! What a host must have before machines are started: programs, memory, disk space, free ports. One sentence each.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cloud::qemu::accelerator::Accelerator;
use cloud::qemu::machine::{self, FORWARDED_PORTS, Firmware};
use cloud::qemu::{METADATA_PORT, Seat, swtpm};

use crate::failure::Failure;

const PACKAGES: &str = "apt-get install -y qemu-system-x86 ovmf swtpm swtpm-tools";
/// What QEMU itself needs beside the guest's memory; the translator's cache is filled only in part.
const OVERHEAD_KVM_MIB: u64 = 150;
const OVERHEAD_TCG_MIB: u64 = 600;
/// Firmware variables, TPM state and logs of all machines.
const BESIDE_DISKS_MIB: u64 = 256;
const MIB: u64 = 1 << 20;

/// Programs and firmware.
pub(crate) fn programs(firmware: &Firmware) -> Result<(), Failure> {
    for program in [machine::PROGRAM, swtpm::PROGRAM, swtpm::SET_UP_PROGRAM] {
        if !is_in_path(program) {
            return Err(
                Failure::infrastructure(format!("the program {program} is not installed"))
                    .hint(format!("install it: {PACKAGES}")),
            );
        }
    }
    for file in [&firmware.code, &firmware.variables] {
        if !file.is_file() {
            return Err(Failure::infrastructure(format!(
                "the UEFI firmware {} is not installed",
                file.display()
            ))
            .hint(format!(
                "install it: {PACKAGES}; provider.qemu.firmware and nvram name another one"
            )));
        }
    }
    Ok(())
}

fn is_in_path(program: &str) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter(|directory| directory.is_absolute())
        .any(|directory| {
            std::fs::metadata(directory.join(program))
                .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        })
}

/// Memory for machines that do not run yet.
pub(crate) fn memory(
    machines: usize,
    memory_mib: u32,
    accelerator: Accelerator,
) -> Result<(), Failure> {
    let overhead = if accelerator.is_emulated() {
        OVERHEAD_TCG_MIB
    } else {
        OVERHEAD_KVM_MIB
    };
    let needed = (u64::from(memory_mib) + overhead).saturating_mul(machines as u64);
    let (available, limit) = available_memory_mib();
    if needed <= available {
        return Ok(());
    }
    Err(Failure::infrastructure(format!(
        "too little memory: {machines} machine(s) of {memory_mib} MiB need {needed} MiB, {available} MiB are {limit}"
    ))
    .hint("end other programs, or lower provider.qemu.memory in constellation-conf.yaml"))
}

/// What this process and its children may still use, and what limits it.
fn available_memory_mib() -> (u64, &'static str) {
    let free = std::fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| meminfo_available_mib(&text));
    let mut least = (free.unwrap_or(u64::MAX), "available");
    if let Some(cgroup) = cgroup_available_mib()
        && cgroup < least.0
    {
        least = (cgroup, "left in this control group");
    }
    if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::As).current
        && limit / MIB < least.0
    {
        least = (
            limit / MIB,
            "what the limit on address space (ulimit -v) allows",
        );
    }
    least
}

fn meminfo_available_mib(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}

fn cgroup_available_mib() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let directory = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    let number = |name: &str| {
        std::fs::read_to_string(directory.join(name))
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    Some(number("memory.max")?.saturating_sub(number("memory.current")?) / MIB)
}

/// Space for the state disks of machines that are to be started, given with their size in GiB. A machine's first boot
/// writes its disk as a whole, to give every block a valid tag.
pub(crate) fn disk_space(workspace: &Path, disks: &[(PathBuf, u64)]) -> Result<(), Failure> {
    let missing = disks.iter().map(|(disk, gib)| {
        // a disk that is not there takes no blocks of 512 bytes
        let taken = std::fs::metadata(disk).map_or(0, |disk| disk.blocks() / (MIB / 512));
        (gib * 1024).saturating_sub(taken)
    });
    let missing: u64 = missing.sum();
    if missing == 0 {
        return Ok(());
    }
    let needed = missing + BESIDE_DISKS_MIB;
    let system = rustix::fs::statvfs(workspace).map_err(|error| {
        Failure::infrastructure(format!("look at the space of {}", workspace.display()))
            .because(error)
    })?;
    let available = system.f_bavail.saturating_mul(system.f_frsize) / MIB;
    if needed <= available {
        return Ok(());
    }
    Err(Failure::infrastructure(format!(
        "too little disk space: {} state disk(s) need {needed} MiB, {available} MiB are free in {}",
        disks.len(),
        workspace.display()
    ))
    .hint("free some space, use a workspace on another disk with -C, or lower stateDiskSizeGB in constellation-conf.yaml"))
}

/// The port of the metadata server.
pub(crate) fn metadata_port() -> Result<(), Failure> {
    is_free(Ipv4Addr::LOCALHOST, METADATA_PORT, "the metadata server")
}

/// The ports that lead to a machine.
pub(crate) fn ports(seat: Seat) -> Result<(), Failure> {
    FORWARDED_PORTS
        .iter()
        .try_for_each(|port| is_free(seat.host_address(), *port, &format!("machine {seat}")))
}

fn is_free(address: Ipv4Addr, port: u16, what: &str) -> Result<(), Failure> {
    match TcpListener::bind(SocketAddrV4::new(address, port)) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            Err(Failure::infrastructure(format!("{address}:{port} is busy: another program listens there, and {what} needs it"))
                .hint(format!("find it with `ss -ltnp 'sport = :{port}'` and stop it; a local cluster in another workspace is taken down with `constellation -C DIR mini down`")))
        }
        Err(error) => {
            Err(Failure::infrastructure(format!("{address}:{port}, which {what} needs, can not be used")).because(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Kind;

    #[test]
    fn a_busy_port_is_told() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let failure = is_free(Ipv4Addr::LOCALHOST, port, "a test").unwrap_err();
        assert_eq!(failure.kind(), Kind::Infrastructure);
        assert!(
            failure
                .to_string()
                .contains(&format!("127.0.0.1:{port} is busy")),
            "{failure}"
        );
        drop(listener);
        assert!(is_free(Ipv4Addr::LOCALHOST, port, "a test").is_ok());
    }

    #[test]
    fn too_many_machines_are_told() {
        let failure = memory(1000, 1 << 20, Accelerator::Kvm).unwrap_err();
        assert!(
            failure
                .to_string()
                .starts_with("too little memory: 1000 machine(s) of 1048576 MiB need"),
            "{failure}"
        );
        assert!(memory(0, 2048, Accelerator::Tcg).is_ok());
    }

    #[test]
    fn a_disk_needs_what_it_has_not_got_yet() {
        let directory = tempfile::tempdir().unwrap();
        let (fresh, written) = (
            directory.path().join("fresh"),
            directory.path().join("written"),
        );
        std::fs::write(&written, vec![1; 8 << 20]).unwrap();
        let petabyte = 1 << 20;
        let failure = disk_space(directory.path(), &[(fresh, petabyte)]).unwrap_err();
        let needed = (petabyte << 10) + BESIDE_DISKS_MIB;
        assert!(
            failure
                .to_string()
                .contains(&format!("1 state disk(s) need {needed} MiB")),
            "{failure}"
        );
        let failure = disk_space(directory.path(), &[(written, petabyte)]).unwrap_err();
        assert!(
            failure
                .to_string()
                .contains(&format!("need {} MiB", needed - 8)),
            "{failure}"
        );
        assert!(disk_space(directory.path(), &[]).is_ok());
    }

    #[test]
    fn meminfo_is_read() {
        assert_eq!(
            meminfo_available_mib("MemTotal: 1 kB\nMemAvailable:   20480 kB\n"),
            Some(20)
        );
        assert_eq!(meminfo_available_mib("MemTotal: 1 kB\n"), None);
    }
}
