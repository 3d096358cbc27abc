//! Benchmark: how long a new cluster's API takes, beside the bare start of etcd and kube-apiserver in a guest of the same size.
//! Both on this host, one after the other. `cargo xtask bench control-plane` builds and names what it needs.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cloud::qemu::accelerator::{self, Accelerator};
use cloud::qemu::machine::Firmware;
use cluster::config::{self, Config, Provider, QemuProvider};
use e2e::bare::Bare;
use e2e::commands::{directory, run, succeed};
use image::Image;
use serde_json::Value;

fn main() -> Result<()> {
    let scratch = std::env::temp_dir().join(format!("cst-bench-{}", std::process::id()));
    std::fs::create_dir(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let measured = measure(&scratch);
    std::fs::remove_dir_all(&scratch)
        .with_context(|| format!("cannot remove {}", scratch.display()))?;
    measured
}

fn measure(scratch: &Path) -> Result<()> {
    let accelerator = accelerator::probe(&Firmware::debian()).accelerator;
    let (shape, phases) = our_side(scratch)?;
    let ours = seconds(&phases, "init to API ready")?;

    let components = directory("CONSTELLATION_COMPONENTS")?;
    let api_server = std::fs::read_dir(&components)?
        .flatten()
        .map(|entry| entry.path().join("bin/linux/amd64/kube-apiserver"))
        .find(|path| path.is_file())
        .context("no kube-apiserver among the components")?;
    let image = Image::open(&directory("CONSTELLATION_IMAGE")?)?;
    let bare = Bare {
        image: &image,
        api_server: &api_server,
        vcpus: shape.vcpus,
        memory_mib: shape.memory_mib,
        accelerator,
    }
    .measure(scratch)?;
    print(&shape, accelerator, &phases, ours, bare);
    Ok(())
}

/// One control plane, from nothing to an API that answers, and down again.
fn our_side(scratch: &Path) -> Result<(QemuProvider, Value)> {
    let workspace = scratch.join("workspace");
    let runtime = scratch.join("run");
    std::fs::create_dir(&workspace)?;
    std::fs::create_dir(&runtime)?;
    let program = directory("CONSTELLATION_PROGRAMS")?.join("constellation");
    let constellation = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command
            .arg("-C")
            .arg(&workspace)
            .args(arguments)
            .env("XDG_RUNTIME_DIR", &runtime);
        command
    };
    let up = constellation(&["mini", "up", "--workers", "0", "--image-dir"])
        .arg(directory("CONSTELLATION_IMAGE")?)
        .status()
        .context("cannot start constellation")?;
    let read = |name: &str| {
        let path = workspace.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let results = read("constellation-mini/phases.json");
    let text = read(config::FILE_NAME);
    let down = run(&mut constellation(&["mini", "down", "--yes"]))?;
    if !up.success() || down.code != 0 {
        bail!(
            "mini up ended with {up}, mini down with {}: {}",
            down.code,
            down.stderr
        );
    }
    let config = Config::parse(config::FILE_NAME, &text?)?;
    let Provider::Qemu(shape) = config.provider;
    Ok((shape, serde_json::from_str(&results?)?))
}

fn seconds(phases: &Value, name: &str) -> Result<f64> {
    phases["phases"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|phase| phase["name"] == name)
        .and_then(|phase| phase["seconds"].as_f64())
        .with_context(|| format!("mini up has no phase {name:?}: {phases}"))
}

fn print(
    shape: &QemuProvider,
    accelerator: Accelerator,
    phases: &Value,
    ours: f64,
    bare: Duration,
) {
    let processor =
        succeed(Command::new("sed").args(["-n", "s/^model name[^:]*: //p;T;q", "/proc/cpuinfo"]))
            .unwrap_or_default();
    let (vcpus, memory) = (shape.vcpus, shape.memory_mib);
    println!(
        "guest: {vcpus} processors, {memory} MiB, {accelerator}; host {}",
        processor.trim()
    );
    println!("| what | seconds |\n|---|---|");
    println!("| `mini up`, init to API ready | {ours:.1} |");
    println!(
        "| bare etcd and kube-apiserver, start to `/readyz` | {:.1} |",
        bare.as_secs_f64()
    );
    println!("| ratio | {:.2} |", ours / bare.as_secs_f64());
    println!("\nThe node's own account of its init:");
    for entry in phases["init"].as_array().into_iter().flatten() {
        println!("{entry}");
    }
}
