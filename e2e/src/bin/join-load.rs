//! Benchmark: the join service under many nodes that join at once, first alone, then beside a flood of connections that never
//! become attested. `cargo xtask bench join` builds and names what it needs. Fails when a node is not admitted, or two get one
//! place; says nothing about what is fast enough.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e::commands::directory;
use e2e::join_load::flood::flood;
use e2e::join_load::nodes::{Joined, join_all};
use e2e::join_load::services::Services;
use rustix::process::{Resource, getrlimit, setrlimit};
use testkit::boot::Image;

const NODES: u16 = 1_000;
/// Connections of the flood for as long as the nodes took without it; more than 10,000 when they take less beside it.
const FLOOD: u32 = 15_000;

/// One row of the table.
struct Row {
    took: Duration,
    /// Of each node, in order.
    tickets: Vec<Duration>,
    in_vain: u32,
    processor: Duration,
    memory: u64,
    flood: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let nodes = match std::env::args().nth(1) {
        Some(text) => text.parse().context("the argument is a number of nodes")?,
        None => NODES,
    };
    raise_descriptors()?;
    let alone = measure(nodes, None).await?;
    let flooded = measure(nodes, Some(alone.took / FLOOD)).await?;
    println!("{nodes} nodes at once; seconds from a node's first connection to its ticket");
    println!("| | beside nothing | beside a flood |\n|---|---|---|");
    let row = |what: &str, of: &dyn Fn(&Row) -> String| {
        println!("| {what} | {} | {} |", of(&alone), of(&flooded));
    };
    row("p50, s", &|row| seconds(row.percentile(50)));
    row("p99, s", &|row| seconds(row.percentile(99)));
    row("tickets per second", &|row| {
        format!("{:.1}", row.tickets.len() as f64 / row.took.as_secs_f64())
    });
    row(
        "tickets per second of the join service's processor time",
        &|row| {
            format!(
                "{:.1}",
                row.tickets.len() as f64 / row.processor.as_secs_f64()
            )
        },
    );
    row("join service's most memory, MiB", &|row| {
        row.memory.to_string()
    });
    row("attempts in vain", &|row| row.in_vain.to_string());
    row("connections of the flood", &|row| row.flood.to_string());
    let [before, after] = [&alone, &flooded].map(|row| row.percentile(99).as_secs_f64());
    println!(
        "p99 beside the flood is {:.2} times that without",
        after / before
    );
    Ok(())
}

impl Row {
    fn percentile(&self, percent: usize) -> Duration {
        let at = (self.tickets.len() * percent).div_ceil(100).max(1) - 1;
        self.tickets.get(at).copied().unwrap_or_default()
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64())
}

/// One new cluster and all nodes at once; with `flood_every`, beside a flood of one connection in that time.
async fn measure(nodes: u16, flood_every: Option<Duration>) -> Result<Row> {
    let image = Image::default();
    let services = Services::start(&directory("CONSTELLATION_PROGRAMS")?, &image).await?;
    let opened = AtomicU32::new(0);
    let flooding = async {
        match flood_every {
            Some(period) => flood(services.address, period, &opened).await,
            None => std::future::pending().await,
        }
    };
    let processor = services.processor_time()?;
    let begun = Instant::now();
    let joined = tokio::select! {
        joined = join_all(services.address, &image, nodes) => joined?,
        () = flooding => unreachable!("a flood has no end"),
    };
    let took = begun.elapsed();
    let processor = services.processor_time()? - processor;
    check(&services, &joined).await?;
    let mut tickets: Vec<_> = joined.iter().map(|node| node.took).collect();
    tickets.sort_unstable();
    Ok(Row {
        took,
        tickets,
        in_vain: joined.iter().map(|node| node.in_vain).sum(),
        processor,
        memory: services.peak_memory()?,
        flood: opened.into_inner(),
    })
}

/// Every node has the place that is on record under its name, and nobody has another's.
async fn check(services: &Services, joined: &[Joined]) -> Result<()> {
    let records = services.records().await?;
    ensure!(
        records.len() == joined.len(),
        "{} nodes have tickets, {} are on record",
        joined.len(),
        records.len()
    );
    let (mut indices, mut machines, mut tokens, mut keys) = (
        BTreeSet::new(),
        BTreeSet::new(),
        BTreeSet::new(),
        BTreeSet::new(),
    );
    for Joined { name, ticket, .. } in joined {
        let record = records.iter().find(|record| record.name.as_str() == name);
        let record = record.with_context(|| format!("{name} is not on record"))?;
        ensure!(
            record.mesh_ip.to_string() == ticket.mesh_ip,
            "{name} has the ticket of another place than its own"
        );
        let new = indices.insert(record.index)
            & machines.insert(&record.attestation_key_id)
            & tokens.insert(&ticket.token)
            & keys.insert(&ticket.state_disk_key);
        ensure!(new, "{name} has what another node has");
    }
    Ok(())
}

/// Every node and every connection of the flood is a descriptor of this process.
fn raise_descriptors() -> Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("raise the number of open files")
}
