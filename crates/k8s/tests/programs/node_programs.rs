//! The programs that need a whole machine read our flags and files here; what they do with them is layer 3's.

use std::{
    fs,
    io::Read as _,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use k8s::{
    control_plane::{Program, Service},
    files,
};
use testkit::kubernetes::ControlPlane;

/// Runs a program in a network of its own until its output holds `sign`, then ends it.
fn until(program: &Program, sign: &str) -> Result<String> {
    let mut child = Command::new("unshare")
        .args(["--net", "--mount", "--"])
        .arg(&program.binary)
        .args(&program.args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("run unshare (this test needs root)")?;
    let mut output = child.stderr.take().context("the program's output")?;
    let (sender, receiver) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = output.read(&mut buffer) {
            if sender
                .send(String::from_utf8_lossy(&buffer[..count]).into_owned())
                .is_err()
            {
                break;
            }
        }
    });
    let (begun, mut text) = (Instant::now(), String::new());
    while !text.contains(sign) && begun.elapsed() < Duration::from_secs(60) {
        match receiver.recv_timeout(Duration::from_secs(1)) {
            Ok(more) => text.push_str(&more),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {}
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    child.kill().context("end the program")?;
    child.wait().context("wait for its end")?;
    drop(receiver);
    ensure!(reader.join().is_ok(), "the reader of the output panicked");
    ensure!(
        text.contains(sign),
        "no {sign:?} in the output of {}:\n{text}",
        program.binary.display()
    );
    Ok(text)
}

#[test]
fn kubelet_and_kube_proxy_take_our_flags_and_files() -> Result<()> {
    let control_plane = ControlPlane::prepare(Timestamp::now())?;
    let node = control_plane.node();
    let ca = control_plane.pki().authorities().cluster_certificate();
    node.ensure_kubelet_client(control_plane.pki().authorities(), Timestamp::now())?;
    node.kubelet_kubeconfig(ca).write()?;
    for service in [Service::Kubelet, Service::KubeProxy] {
        files::write_all(&node.files(service, ca))?;
    }
    let link = node.paths().kubelet_client_certificate();
    ensure!(
        fs::symlink_metadata(&link)?.is_symlink(),
        "the kubelet replaces a link, not a file"
    );

    // past flags and configuration it looks for the runtime, which is not there
    let text = until(
        &node.program(Service::Kubelet),
        node.paths().containerd_socket.to_str().context("a path")?,
    )?;
    ensure!(
        !text.contains("unknown") && !text.contains("failed to load"),
        "{text}"
    );
    // past flags and configuration it looks for iptables, which it finds or not
    let text = until(&node.program(Service::KubeProxy), "iptables")?;
    ensure!(
        !text.contains("unknown field") && !text.contains("failed"),
        "{text}"
    );
    Ok(())
}
