//! Makes `crates/proto/src/generated` from `crates/proto/proto`, and `crates/k8s/src/etcd/generated` from `crates/k8s/proto`.
//!
//! The result is checked in, so that a build needs no generator; [`run`] with `check` proves that it is fresh. The `.proto`
//! files are compiled by protox, so no `protoc` is needed either.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

/// Messages that carry a secret: they get no derived `Debug`; `crates/proto/src/redacted.rs` gives them one by hand.
const SECRET: &[&str] = &[
    ".backup.CreateRequest",
    ".backup.UploadRequest",
    ".init.InitRequest",
    ".init.InitSuccess",
    ".join.IssueJoinTicketResponse",
    ".join.ControlPlaneFile",
    ".join.IssueRejoinTicketResponse",
    ".kms.GetDataKeyResponse",
    ".recoverproto.RecoverRequest",
];

/// Code that is made of one folder of `.proto` files.
struct Output {
    /// The `.proto` files, below `crates`.
    sources: &'static str,
    /// Where the code goes, below `crates`.
    generated: &'static str,
    /// Whether this project serves any of it.
    servers: bool,
}

const OUTPUTS: &[Output] = &[
    Output {
        sources: "proto/proto",
        generated: "proto/src/generated",
        servers: true,
    },
    // etcd's API is not this project's own
    Output {
        sources: "k8s/proto",
        generated: "k8s/src/etcd/generated",
        servers: false,
    },
];

/// Writes the generated code, or with `check` only compares it with what is checked in.
pub(crate) fn run(check: bool) -> anyhow::Result<()> {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    for output in OUTPUTS {
        let generated = crates.join(output.generated);
        let fresh = generate(&crates.join(output.sources), output.servers)?;
        if check {
            compare(&generated, &fresh)?;
        } else {
            replace(&generated, &fresh)?;
        }
    }
    Ok(())
}

fn replace(generated: &Path, fresh: &BTreeMap<String, String>) -> anyhow::Result<()> {
    fs::create_dir_all(generated).with_context(|| format!("create {}", generated.display()))?;
    for name in read_all(generated)?
        .keys()
        .filter(|name| !fresh.contains_key(*name))
    {
        let stale = generated.join(name);
        fs::remove_file(&stale).with_context(|| format!("remove {}", stale.display()))?;
    }
    for (name, text) in fresh {
        let path = generated.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

/// File name -> text of everything generated from the `.proto` files in `folder`.
fn generate(folder: &Path, servers: bool) -> anyhow::Result<BTreeMap<String, String>> {
    let mut sources: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "proto")
        {
            sources.push(path);
        }
    }
    sources.sort();
    let descriptors = protox::compile(&sources, [folder]).context("compile .proto files")?;

    let out = tempfile::tempdir().context("make a temporary folder")?;
    tonic_prost_build::configure()
        // A generated client cannot dial on its own: whoever makes it has to bring a connection.
        .build_transport(false)
        .build_server(servers)
        .skip_debug(SECRET)
        .out_dir(out.path())
        .compile_fds(descriptors)
        .context("generate code")?;
    read_all(out.path())
}

fn read_all(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        let text = fs::read_to_string(entry.path())
            .with_context(|| format!("read {}", entry.path().display()))?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), text);
    }
    Ok(files)
}

fn compare(generated: &Path, fresh: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let present = read_all(generated)?;
    let stale: Vec<&str> = fresh
        .keys()
        .chain(present.keys())
        .filter(|name| fresh.get(*name) != present.get(*name))
        .map(String::as_str)
        .collect();
    if stale.is_empty() {
        return Ok(());
    }
    bail!(
        "generated code is stale ({}): run `cargo xtask codegen`",
        stale.join(", ")
    );
}

#[cfg(test)]
mod tests {
    #[test]
    fn generated_code_is_fresh() {
        super::run(true).expect("fresh");
    }
}
