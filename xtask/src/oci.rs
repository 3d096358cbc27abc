//! The cluster's own service images as one archive: an OCI layout with an image for each program.
//!
//! An image is one layer with one file, the static program. containerd imports the archive from the OS image, so that a new
//! cluster asks no registry for its own parts. The archive depends on the programs alone.
//!
//! Specification: OCI image layout and image specification 1.1.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::json;

/// Programs with an image, which is called `constellation.local/<name>:<version>`.
const IMAGES: [&str; 4] = [
    "pause",
    "join-service",
    "key-service",
    "verification-service",
];
const VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// Writes the archive of the programs in `programs` to `path`.
pub(crate) fn write_services(programs: &Path, path: &Path) -> Result<()> {
    let mut blobs = std::collections::BTreeMap::new();
    let mut add = |bytes: Vec<u8>| {
        let name = hex::encode(digest(&SHA256, &bytes));
        let (digest, size) = (format!("sha256:{name}"), bytes.len());
        blobs.insert(name, bytes);
        (digest, size)
    };
    let mut manifests = Vec::new();
    for name in IMAGES {
        let program = programs.join(name);
        let program = std::fs::read(&program)
            .with_context(|| format!("cannot read {}", program.display()))?;
        let (layer, layer_size) = add(archive(
            [(name.to_owned(), 0o755, program.as_slice())].into_iter(),
        )?);
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": { "Entrypoint": [format!("/{name}")] },
            "rootfs": { "type": "layers", "diff_ids": [layer] },
        });
        let (config, config_size) = add(serde_json::to_vec(&config)?);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size,
            },
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": layer_size,
            }],
        });
        let (digest, size) = add(serde_json::to_vec(&manifest)?);
        let reference = format!("constellation.local/{name}:{VERSION}");
        manifests.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest,
            "size": size,
            "platform": { "architecture": "amd64", "os": "linux" },
            "annotations": { "io.containerd.image.name": reference, "org.opencontainers.image.ref.name": reference },
        }));
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": manifests,
    });
    let index = serde_json::to_vec(&index)?;
    let layout = serde_json::to_vec(&json!({ "imageLayoutVersion": "1.0.0" }))?;
    let files = [
        ("oci-layout".to_owned(), layout.as_slice()),
        ("index.json".to_owned(), index.as_slice()),
    ];
    let blobs = blobs
        .iter()
        .map(|(name, bytes)| (format!("blobs/sha256/{name}"), bytes.as_slice()));
    let bytes = archive(
        files
            .into_iter()
            .chain(blobs)
            .map(|(name, bytes)| (name, 0o644, bytes)),
    )?;
    // Left alone when nothing changed, so that what depends on it is not built again.
    if std::fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    std::fs::File::create(path)
        .and_then(|mut file| file.write_all(&bytes))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// A tar archive of files of root, without times.
fn archive<'a>(files: impl Iterator<Item = (String, u32, &'a [u8])>) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, mode, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len().try_into()?);
        header.set_mode(mode);
        header.set_mtime(0);
        archive.append_data(&mut header, name, bytes)?;
    }
    Ok(archive.into_inner()?)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn the_archive_names_every_image_and_has_what_it_names() {
        let directory = tempfile::tempdir().unwrap();
        for name in IMAGES {
            std::fs::write(directory.path().join(name), name.as_bytes()).unwrap();
        }
        let path = directory.path().join("services.tar");
        write_services(directory.path(), &path).unwrap();
        let first = std::fs::read(&path).unwrap();
        write_services(directory.path(), &path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);

        let mut files = std::collections::BTreeMap::new();
        for entry in tar::Archive::new(first.as_slice()).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(name, bytes);
        }
        let blob = |digest: &serde_json::Value| {
            let digest = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
            let bytes = &files[&format!("blobs/sha256/{digest}")];
            assert_eq!(
                hex::encode(aws_lc_rs::digest::digest(&SHA256, bytes)),
                digest
            );
            bytes
        };
        let index: serde_json::Value = serde_json::from_slice(&files["index.json"]).unwrap();
        let manifests = index["manifests"].as_array().unwrap();
        assert_eq!(manifests.len(), IMAGES.len());
        for (manifest, name) in manifests.iter().zip(IMAGES) {
            let reference = &manifest["annotations"]["io.containerd.image.name"];
            assert_eq!(
                reference,
                &json!(format!("constellation.local/{name}:{VERSION}"))
            );
            let manifest: serde_json::Value =
                serde_json::from_slice(blob(&manifest["digest"])).unwrap();
            let config: serde_json::Value =
                serde_json::from_slice(blob(&manifest["config"]["digest"])).unwrap();
            assert_eq!(
                config["rootfs"]["diff_ids"][0],
                manifest["layers"][0]["digest"]
            );
            let mut layer = tar::Archive::new(blob(&manifest["layers"][0]["digest"]).as_slice());
            let entry = layer.entries().unwrap().next().unwrap().unwrap();
            assert_eq!(entry.path().unwrap().to_str(), Some(name));
            assert_eq!(entry.header().mode().unwrap(), 0o755);
        }
    }
}
