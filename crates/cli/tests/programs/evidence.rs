//! `evidence verify` and `evidence inspect`: every sample of real machines, and samples with one thing changed.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use crate::harness::{Lab, Ran};

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../attest/testdata/evidence")
}

fn manifest() -> Vec<Value> {
    let json = std::fs::read(samples().join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&json).unwrap();
    manifest["samples"].as_array().unwrap().clone()
}

fn folder(id: &str) -> String {
    samples().join(id).to_str().unwrap().to_owned()
}

fn variant(id: &str) -> &str {
    id.split('/').next().unwrap()
}

/// One run of the program.
struct Run {
    id: String,
    arguments: Vec<String>,
    /// The exit code.
    expected: i32,
}

impl Run {
    fn verify(id: &str, at: Option<&str>, expected: i32) -> Self {
        let mut arguments = vec!["evidence", "verify", "--variant", variant(id)];
        let folder = folder(id);
        arguments.push(&folder);
        arguments.extend(at.iter().flat_map(|at| ["--at", at]));
        Self {
            id: id.to_owned(),
            arguments: arguments.into_iter().map(str::to_owned).collect(),
            expected,
        }
    }

    fn with(mut self, more: &[&str]) -> Self {
        self.arguments.extend(more.iter().map(|it| (*it).to_owned()));
        self
    }

    fn endorsed(self, id: &str) -> Self {
        self.with(&["--endorsements", &folder(id)])
    }
}

/// Runs all of them beside each other.
fn run_all(runs: &[Run], check: impl Fn(&Run, &Ran) + Sync) {
    let lab = Lab::new();
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let arguments: Vec<&str> = run.arguments.iter().map(String::as_str).collect();
                    let ran = lab.run(&arguments);
                    if ran.code == Some(run.expected) {
                        check(run, &ran);
                    } else {
                        wrong.lock().unwrap().push(format!(
                            "{}: exit code {:?} and not {}\n{}\n{}",
                            run.id, ran.code, run.expected, ran.stdout, ran.stderr
                        ));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
