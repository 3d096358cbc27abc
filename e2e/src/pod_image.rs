//! A container image for test pods: Debian's static busybox in an OCI archive.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

/// Reference of the image.
pub const REFERENCE: &str = "constellation.local/busybox:e2e";

/// Where Debian's package `busybox-static` puts the program.
pub(crate) const BUSYBOX: &str = "/bin/busybox";

fn sha256(bytes: &[u8]) -> String {
    hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes))
}

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, mode: u32, bytes: &[u8]) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    header.set_cksum();
    archive.append_data(&mut header, name, bytes)?;
    Ok(())
}

/// Writes the archive to `path`.
///
/// # Errors
/// When busybox is not installed or the file cannot be written.
pub fn write(path: &Path) -> Result<()> {
    let busybox = std::fs::read(BUSYBOX)
        .with_context(|| format!("cannot read {BUSYBOX} (package busybox-static)"))?;
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "bin/busybox", 0o755, &busybox)?;
    let layer = layer.into_inner()?;

    let config = serde_json::to_vec(&json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Entrypoint": ["/bin/busybox"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", sha256(&layer))]},
    }))?;
    let descriptor = |kind: &str, bytes: &[u8]| json!({"mediaType": format!("application/vnd.oci.image.{kind}"), "digest": format!("sha256:{}", sha256(bytes)), "size": bytes.len()});
    let manifest = serde_json::to_vec(&json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", &config),
        "layers": [descriptor("layer.v1.tar", &layer)],
    }))?;
    let mut entry = descriptor("manifest.v1+json", &manifest);
    entry["annotations"] =
        json!({"io.containerd.image.name": REFERENCE, "org.opencontainers.image.ref.name": "e2e"});
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [entry]}))?;

    let mut archive = tar::Builder::new(Vec::new());
    append(
        &mut archive,
        "oci-layout",
        0o644,
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    append(&mut archive, "index.json", 0o644, &index)?;
    for blob in [&config, &manifest, &layer] {
        append(
            &mut archive,
            &format!("blobs/sha256/{}", sha256(blob)),
            0o644,
            blob,
        )?;
    }
    std::fs::write(path, archive.into_inner()?)
        .with_context(|| format!("cannot write {}", path.display()))
}
