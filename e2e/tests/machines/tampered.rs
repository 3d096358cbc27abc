//! Machines that run something else: `verify` refuses and names the component, and they cannot join.

use anyhow::{Context, Result, bail, ensure};
use cloud::qemu::Seat;
use cloud::qemu::accelerator::probe;
use cloud::qemu::hang::ResetButton;
use cloud::qemu::machine::{Firmware, Machine, Shape};
use cluster::Role;
use e2e::commands::wait;
use e2e::tamper::{Component, tamper};

use serde_json::{Map, Value};

use crate::world::{PATIENCE, World};

/// One machine for each part, which boot together: most of a boot is one processor's work.
pub(crate) fn each_changed_part_of_the_image_is_refused_by_name(world: &mut World) -> Result<()> {
    let mut machines = [
        (Component::CommandLine, 5),
        (Component::Initrd, 6),
        (Component::RootFileSystem, 7),
    ]
    .into_iter()
    .map(|(component, index)| Changed::start(world, component, index))
    .collect::<Result<Vec<_>>>()?;
    // `mini serve` looks after the cluster's own machines only
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    for which in 0..machines.len() {
        let (code, report) = wait("evidence of the changed machine", PATIENCE, || {
            for machine in &mut machines {
                runtime.block_on(machine.button.look(&machine.started.0));
            }
            machines[which].verdict(world)
        })
        .inspect_err(|_| print_console(&machines[which].started.0))?;
        ensure!(code == 3, "verify must refuse with 3, not {code}: {report}");
        machines[which].is_refused(world, &report)?;
    }
    // and the cluster itself is as it was
    world.every_node_verified().map(drop)
}

/// Stops the machine however the test ends.
struct Started(Machine);

impl Drop for Started {
    fn drop(&mut self) {
        if let Err(error) = self.0.stop() {
            eprintln!("cannot stop {}: {error}", self.0.seat());
        }
    }
}

/// A machine that runs an image with one part changed.
struct Changed {
    started: Started,
    seat: Seat,
    component: Component,
    button: ResetButton,
}

impl Changed {
    fn start(world: &World, component: Component, index: usize) -> Result<Self> {
        let seat = Seat::new(Role::Worker, index)?;
        let scratch = world.scratch(&format!("tampered-{index}"))?;
        let image = scratch.join("image.raw");
        tamper(&world.image.join("image.raw"), &image, component)?;

        let run_directory = world.run_directory()?;
        let sockets = world.scratch(&format!("s{index}"))?;
        let started = Started(Machine::new(seat, &scratch, &sockets));
        let firmware = Firmware::debian();
        let accelerator = probe(&firmware).accelerator;
        let shape = Shape {
            firmware,
            image,
            vcpus: 2,
            memory_mib: 1536,
            state_disk_gib: 1,
            accelerator,
        };
        started.0.start(&shape, &run_directory.join("switch"))?;
        Ok(Self {
            started,
            seat,
            component,
            button: ResetButton::default(),
        })
    }

    /// What `verify` says of the first evidence that it gives.
    fn verdict(&self, world: &World) -> Result<(i32, Value)> {
        let endpoint = self.seat.host_address().to_string();
        let (code, report) = world.verify(&endpoint)?;
        ensure!(
            !report.to_string().contains("\"unreachable\""),
            "no evidence yet"
        );
        Ok((code, report))
    }

    fn is_refused(&self, world: &World, report: &Value) -> Result<()> {
        let component = self.component;
        let differences = differences(report);
        eprintln!("refused for: {differences:?}");
        let (_, actual) = differences
            .iter()
            .find(|(name, _)| name == component.name())
            .with_context(|| {
                format!(
                    "the refusal does not name the {}: {report:#}",
                    component.name()
                )
            })?;

        // it asked to join and was refused; the service that refused says why with the same words
        let log = wait("refusal in the join service's log", PATIENCE, || {
            let log = world.answer(&[
                "logs",
                "--namespace",
                "kube-system",
                "--selector",
                "app.kubernetes.io/name=join-service",
                "--tail",
                "-1",
            ])?;
            match log
                .lines()
                .rev()
                .find(|line| line.contains(component.name()) && line.contains(actual))
            {
                Some(line) => Ok(line.to_owned()),
                None => bail!(
                    "nothing about the {} in the join service's log:\n{log}",
                    component.name()
                ),
            }
        })
        .inspect_err(|_| print_console(&self.started.0))?;
        eprintln!("join service: {log}");

        let nodes = world.answer(&["get", "nodes", "-o", "name"])?;
        ensure!(
            !nodes.contains(&self.seat.to_string()),
            "a changed machine became a node: {nodes}"
        );
        let records = world.answer(&[
            "get",
            "configmaps",
            "--namespace",
            "constellation-nodes",
            "-o",
            "name",
        ])?;
        ensure!(
            !records.contains(&self.seat.to_string()),
            "a changed machine has a record: {records}"
        );
        Ok(())
    }
}

fn print_console(machine: &Machine) {
    let text = std::fs::read(machine.console()).unwrap_or_default();
    eprintln!(
        "---- console of {}\n{}",
        machine.seat(),
        String::from_utf8_lossy(&text)
    );
}

/// Components that the refusal names as different, with the value that was measured.
fn differences(report: &Value) -> Vec<(String, String)> {
    let mut found = vec![];
    walk(report, &mut |object| {
        for difference in object
            .get("differences")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            if let (Some(component), Some(actual)) = (
                difference["component"].as_str(),
                difference["actual"].as_str(),
            ) {
                found.push((component.to_owned(), actual.to_owned()));
            }
        }
    });
    found
}

fn walk(value: &Value, visit: &mut impl FnMut(&Map<String, Value>)) {
    match value {
        Value::Object(object) => {
            visit(object);
            object.values().for_each(|value| walk(value, visit));
        }
        Value::Array(values) => values.iter().for_each(|value| walk(value, visit)),
        _ => {}
    }
}
