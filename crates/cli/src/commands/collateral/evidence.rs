//! Evidence on disk: a directory of files of one machine, or one file.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use collateral::needs::{Needs, NeedsError, Piece, needs};
use collateral::{Product, Update};

use crate::failure::Failure;

/// The most files of a directory.
const MAX_FILES: usize = 256;
/// The most bytes of a file that is looked at. The largest evidence is a quote with its chain.
const MAX_FILE: u64 = 1 << 20;

/// What a machine's evidence needs.
pub(super) fn needs_of(
    path: &Path,
    product: Option<Product>,
    update: Update,
) -> Result<Needs, Failure> {
    let mut pieces = Vec::new();
    for file in files(path).map_err(|error| unreadable(path, error))? {
        let Some(bytes) = read(&file).map_err(|error| unreadable(&file, error))? else {
            continue;
        };
        let piece = Piece::recognise(&bytes).map_err(|error| {
            Failure::config(format!("{} can not be used", file.display())).because(error)
        })?;
        pieces.extend(piece);
    }
    if pieces.is_empty() {
        return Err(Failure::config(format!(
            "{} holds no evidence that is known",
            path.display()
        ))
        .hint("known are SNP reports of 1184 bytes, reports of Azure's paravisor, TDX quotes, and certificates (DER or PEM)"));
    }
    needs(&pieces, product, update).map_err(|error| {
        let failure = Failure::config(format!("what {} needs", path.display()));
        match error {
            NeedsError::Product { .. } => failure
                .because(error)
                .hint("name it with --product, or put the machine's VCEK or VLEK certificate beside the report"),
            error => failure.because(error),
        }
    })
}

fn unreadable(path: &Path, error: io::Error) -> Failure {
    Failure::config(format!("read {}", path.display())).because(error)
}

fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for file in std::fs::read_dir(path)?.take(MAX_FILES) {
        let file = file?.path();
        if file.is_file() {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// A file, unless it is too large to be evidence.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= MAX_FILE).then_some(bytes))
}
