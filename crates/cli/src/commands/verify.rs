//! `verify`: demands evidence from every node and prints each check.

use std::fmt::Write;

use attest::{ClusterIdDigest, ClusterMark, Outcome};
use cloud::qemu::Seat;
use cluster::config::Config;
use comfy_table::{ContentArrangement, Table, presets};
use keys::ClusterId;
use serde_json::json;

use crate::arguments::{VerifyArguments, VerifyFormat};
use crate::failure::Failure;
use crate::output::{self, Terminal};
use crate::text::address;
use crate::verify::{self, Answer, NodeReport, PORT, Record, Target, Verdict};
use crate::workspace::Workspace;
use crate::{commands, kubernetes, mini};

pub(crate) async fn run(
    workspace: &Workspace,
    terminal: &Terminal,
    arguments: &VerifyArguments,
) -> Result<(), Failure> {
    let config = workspace.config()?;
    let cluster_id = cluster_id(workspace, arguments)?;
    let targets = match &arguments.node_endpoint {
        Some(endpoint) => vec![Target {
            name: None,
            address: commands::with_port("--node-endpoint", endpoint, PORT)?,
            record: Record::NotAsked,
        }],
        None => every_node(workspace).await?,
    };
    let reports = check(&config, &cluster_id, &targets).await?;
    print(&config, &cluster_id, &reports, arguments.output)?;
    verdict(&reports, terminal)
}

/// Demands the evidence and appraises it.
pub(crate) async fn check(
    config: &Config,
    cluster_id: &ClusterId,
    targets: &[Target],
) -> Result<Vec<NodeReport>, Failure> {
    let mark = ClusterMark::Cluster(ClusterIdDigest::of(cluster_id.as_bytes()));
    verify::verify(targets, &config.attestation.policy, &mark).await
}

/// Success only if every node was accepted.
pub(crate) fn verdict(reports: &[NodeReport], terminal: &Terminal) -> Result<(), Failure> {
    let refused: Vec<_> = reports
        .iter()
        .filter(|report| !report.is_accepted())
        .collect();
    if refused.is_empty() {
        let confidential = |report: &NodeReport| {
            matches!(
                report.verdict,
                Verdict::Verified {
                    confidential: true,
                    ..
                }
            )
        };
        if !reports.iter().all(confidential) {
            terminal.note("qemu-vtpm is not confidential: its TPM is software on the host, which can forge all of this");
        }
        return Ok(());
    }
    let names: Vec<_> = refused.iter().map(|report| report.title()).collect();
    let unreachable = refused
        .iter()
        .all(|report| matches!(report.verdict, Verdict::Unreachable { .. }));
    let names = names.join(", ");
    Err(if unreachable {
        Failure::trust(format!("no evidence could be had from {names}"))
            .hint("a node that gives no evidence is not verified; `constellation status` shows whether it is Ready")
    } else {
        Failure::trust(format!("not verified: {names}"))
            .hint("give such a node no data and no secrets; the checks above say what differs")
    })
}

fn cluster_id(workspace: &Workspace, arguments: &VerifyArguments) -> Result<ClusterId, Failure> {
    if let Some(text) = &arguments.cluster_id {
        return text
            .parse()
            .map_err(|error| Failure::usage(format!("--cluster-id {text:?}")).because(error));
    }
    let values = workspace.state()?.cluster_values.ok_or_else(|| {
        Failure::config("constellation-state.yaml names no cluster yet")
            .hint("make one with `constellation mini up` or `constellation apply`, or name one with --cluster-id")
    })?;
    Ok(values.cluster_id)
}

/// Every node the cluster admitted, by its records; a node of the API without a record is listed as well, and can not
/// be verified.
pub(crate) async fn every_node(workspace: &Workspace) -> Result<Vec<Target>, Failure> {
    let client = kubernetes::client(&workspace.kubeconfig_path()).await?;
    let records = k8s::api::records::node_identities(&client)
        .await
        .map_err(|error| {
            Failure::cluster("list the cluster's records of its nodes")
                .because(error)
                .hint("-e verifies one machine without asking the cluster")
        })?;
    let nodes = kubernetes::nodes(&client)
        .await
        .map_err(|error| Failure::cluster("list the nodes").because(error))?;
    let seats = mini::seats(workspace)?;
    let host = |name: &str, fallback: String| {
        let seat = seats.iter().find(|seat: &&Seat| seat.to_string() == name);
        seat.map_or(fallback, |seat| seat.host_address().to_string())
    };
    let mut targets: Vec<Target> = records
        .into_iter()
        .map(|record| Target {
            name: Some(record.name.to_string()),
            address: address(
                &host(record.name.as_str(), record.node_ip.to_string()),
                PORT,
            ),
            record: Record::Found(Box::new(record)),
        })
        .collect();
    for node in nodes {
        if !targets
            .iter()
            .any(|target| target.name.as_deref() == Some(&node.name))
        {
            let address = address(&host(&node.name, node.name.clone()), PORT);
            targets.push(Target {
                name: Some(node.name),
                address,
                record: Record::Missing,
            });
        }
    }
    if targets.is_empty() {
        return Err(Failure::cluster("the cluster has no nodes"));
    }
    Ok(targets)
}

fn print(
    config: &Config,
    cluster_id: &ClusterId,
    reports: &[NodeReport],
    format: VerifyFormat,
) -> Result<(), Failure> {
    match format {
        VerifyFormat::Json => output::json(&json!({
            "clusterID": cluster_id.to_string(),
            "image": config.image,
            "accepted": reports.iter().all(NodeReport::is_accepted),
            "nodes": reports,
        })),
        VerifyFormat::Raw => output::json(&reports.iter().map(raw).collect::<Vec<_>>()),
        VerifyFormat::Table => {
            let mut table = Table::new();
            table
                .load_preset(presets::NOTHING)
                .set_content_arrangement(ContentArrangement::Disabled);
            table.set_header(["NODE", "ADDRESS", "VERDICT", "CONFIDENTIAL", "IMAGE"]);
            for report in reports {
                let (image, confidential) = match &report.verdict {
                    Verdict::Verified {
                        evidence,
                        confidential,
                    } => (
                        evidence.image_name().unwrap_or("-"),
                        if *confidential { "yes" } else { "no" },
                    ),
                    Verdict::Refused { .. } | Verdict::Unreachable { .. } => ("-", "-"),
                };
                table.add_row([
                    report.title(),
                    &report.address,
                    word(report),
                    confidential,
                    image,
                ]);
            }
            output::data(&format!("{table}\n"))
        }
        VerifyFormat::Tree => {
            output::data(&reports.iter().map(tree).collect::<Vec<_>>().join("\n"))
        }
    }
}

fn word(report: &NodeReport) -> &'static str {
    match &report.verdict {
        Verdict::Verified { .. } if report.is_accepted() => "verified",
        Verdict::Verified { .. } => "wrong machine",
        Verdict::Refused { .. } => "REFUSED",
        Verdict::Unreachable { .. } => "no evidence",
    }
}

/// A node's evidence as it came, with the nonce it must be bound to.
fn raw(report: &NodeReport) -> serde_json::Value {
    let answer = report.answer.as_ref().map(|Answer { nonce, evidence }| {
        json!({
            "nonce": hex::encode(nonce),
            "attestationVariant": evidence.variant().to_string(),
            "attestation": hex::encode(evidence.document()),
        })
    });
    json!({ "name": report.name, "address": report.address, "answer": answer })
}

/// A node's checks as a tree.
pub(crate) fn tree(report: &NodeReport) -> String {
    let mut text = format!(
        "{} ({}): {}\n",
        report.title(),
        report.address,
        word(report)
    );
    let body = match &report.verdict {
        Verdict::Verified { evidence, .. } => evidence.to_string(),
        Verdict::Refused { refusal } => refusal.to_string(),
        Verdict::Unreachable { reason } => reason.clone(),
    };
    for line in body.lines() {
        // writing to a String can not fail
        writeln!(text, "  {line}").ok();
    }
    if !report.identity.is_empty() {
        writeln!(text, "  identity").ok();
        for check in &report.identity {
            let sign = match check.outcome {
                Outcome::Passed => "ok     ",
                Outcome::Warning => "warning",
                Outcome::Failed => "FAILED ",
                Outcome::Skipped => "skipped",
            };
            writeln!(text, "    {sign} {}", check.name).ok();
            if check.outcome != Outcome::Passed {
                if let Some(expected) = &check.expected {
                    writeln!(text, "            expected {expected}").ok();
                }
                if let Some(actual) = &check.actual {
                    writeln!(text, "            actual   {actual}").ok();
                }
            }
        }
    }
    text
}
