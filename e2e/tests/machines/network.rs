//! Pods of different nodes reach each other, and the network between the machines sees WireGuard and nothing of it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cloud::qemu::Seat;
use cloud::qemu::machine::Machine;
use e2e::capture::summarise;
use e2e::commands::wait;

use crate::pods::{output, pod, remove};
use crate::world::World;

/// What the server answers; an eavesdropper looks for it.
const MARKER: &str = "constellation-marker-0f9c2e7d41";

fn running_address(world: &World, name: &str) -> Result<String> {
    wait(
        &format!("pod {name} running"),
        Duration::from_secs(240),
        || {
            let pod = world.get(&["pod", name])?;
            ensure!(pod["status"]["phase"] == "Running", "{}", pod["status"]);
            Ok(pod["status"]["podIP"]
                .as_str()
                .context("no address")?
                .to_owned())
        },
    )
}

pub(crate) fn a_pod_on_the_worker_reaches_a_pod_on_the_control_plane_through_wireguard_only(
    world: &mut World,
) -> Result<()> {
    let answer = format!(
        "while true; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\n{MARKER}\\n' | /bin/busybox nc -l -p 8000; done"
    );
    world.apply(&pod(
        "server",
        "control-plane-0",
        &["/bin/busybox", "sh", "-c", &answer],
    ))?;
    let address = running_address(world, "server")?;
    ensure!(
        address.starts_with("10.244."),
        "the server's address {address} is not one of the pods' network"
    );

    let scratch = world.scratch("capture")?;
    let file = scratch.join("worker.pcap");
    let machine = Machine::new(
        Seat::plan(1, 1)?[1],
        &world.workspace.join("constellation-mini"),
        &world.run_directory()?,
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // QEMU itself writes what crosses the worker's NIC on the network between the machines
    runtime.block_on(async { machine.control().await?.capture(&file).await })?;

    // not wget: it looks up the name of its port, which a static busybox without a system's files does not survive
    let ask = format!(
        "for i in 1 2 3 4 5 6 7 8 9; do printf 'GET / HTTP/1.0\\r\\n\\r\\n' | /bin/busybox nc -w 20 {address} 8000 \
         | /bin/busybox grep {MARKER} && exit 0; /bin/busybox sleep 3; done; exit 1"
    );
    world.apply(&pod(
        "client",
        "worker-0",
        &["/bin/busybox", "sh", "-c", &ask],
    ))?;
    let said = output(world, "client");
    runtime.block_on(async { machine.control().await?.stop_capture().await })?;
    let said = said?;
    ensure!(said.contains(MARKER), "the client got: {said:?}");

    let summary = summarise(&std::fs::read(&file)?, MARKER.as_bytes())?;
    eprintln!("on the wire: {summary:?}");
    ensure!(
        summary.wireguard >= 8,
        "hardly any WireGuard on the wire: {summary:?}"
    );
    ensure!(
        summary.marker == 0 && summary.inner_addresses == 0,
        "pod traffic in the clear: {summary:?}"
    );
    remove(world, &["server", "client"])
}
