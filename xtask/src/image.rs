//! `cargo xtask image`: the OS image and its measurements.
//!
//! mkosi installs the packages into one tree (minutes, and only when the list changes). The rest happens here, in seconds: what
//! stays and what is added (`crates/image/mkosi`), root file system, hash tree, initrd, UKI, disk, prediction. All of it depends
//! on the inputs alone, so that two builds give the same bytes.

mod build;
mod elf;
mod guard;
mod initrd;
mod packages;
mod root;
mod tools;
mod tree;

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

pub(crate) use build::Inputs;
use tree::Tree;

use crate::{dist, oci, workspace};

/// Options of `cargo xtask image`.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Builds twice in different directories and compares.
    #[arg(long)]
    check_reproducible: bool,
    /// Takes the release programs from this directory instead of building them.
    #[arg(long, value_name = "DIRECTORY")]
    programs: Option<PathBuf>,
}

impl Args {
    /// Compares with a second build.
    pub(crate) fn twice() -> Self {
        Self {
            check_reproducible: true,
            programs: None,
        }
    }
}

/// Builds the image where something changed, and gives its directory.
pub(crate) fn run(args: &Args) -> Result<PathBuf> {
    let programs = match &args.programs {
        Some(programs) => programs.clone(),
        None => dist::run()?,
    };
    let directory = workspace::target().join("image");
    std::fs::create_dir_all(&directory)?;
    let services = directory.join("services.tar");
    oci::write_services(&programs, &services)?;
    let inputs = Inputs {
        directory: workspace::root().join("crates/image/mkosi"),
        programs,
        services,
    };
    let tree = packages::tree(&inputs.directory, &directory)?;
    let stamp = build::stamp(&inputs, &tree)?;
    let stamp_file = directory.join("stamp");
    let fresh = std::fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp);
    if !fresh || image::Image::open(&directory).is_err() {
        if stamp_file.exists() {
            std::fs::remove_file(&stamp_file)?;
        }
        build::build(&inputs, &tree, &directory)?;
        std::fs::write(&stamp_file, &stamp)?;
    }
    if args.check_reproducible {
        check_reproducible(&inputs, &directory)?;
    }
    println!("{}", directory.display());
    Ok(directory)
}

/// Installs the packages and builds once more, elsewhere, and compares every file.
fn check_reproducible(inputs: &Inputs, directory: &std::path::Path) -> Result<()> {
    let second = workspace::target().join("image-second");
    if second.exists() {
        std::fs::remove_dir_all(&second)?;
    }
    std::fs::create_dir_all(&second)?;
    // The same packages, from the first build's download cache: which versions an archive has today is not the question.
    let tree = packages::tree_again(&inputs.directory, directory, &second)?;
    build::build(inputs, &tree, &second)?;
    for name in build::OUTPUTS {
        let (first, again) = (directory.join(name), second.join(name));
        let same = std::fs::read(&first)? == std::fs::read(&again)?;
        ensure!(
            same,
            "not reproducible: {} and {} differ",
            first.display(),
            again.display()
        );
        eprintln!("{name}: the same bytes in both builds");
    }
    std::fs::remove_dir_all(&second).context("cannot remove the second build")
}

/// The lines of a list without comments and empty ones.
fn lines(list: &str) -> impl Iterator<Item = &str> {
    list.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Makes the links that start units: `target: unit...`, `target requires: unit...` if it must not be reached without them, or
/// `name = unit` for an alias.
fn units(tree: &mut Tree, list: &str) -> Result<()> {
    const UNITS: &str = "usr/lib/systemd/system";
    for line in lines(list) {
        if let Some((alias, unit)) = line.split_once(" = ") {
            tree.link(&format!("{UNITS}/{alias}"), unit);
        } else if let Some((target, wanted)) = line.split_once(": ") {
            let (target, kind) = target
                .strip_suffix(" requires")
                .map_or((target, "wants"), |target| (target, "requires"));
            for unit in wanted.split_whitespace() {
                if !tree.0.contains_key(&format!("{UNITS}/{unit}")) {
                    bail!("{unit} is to be started and is not in the image");
                }
                tree.link(
                    &format!("{UNITS}/{target}.{kind}/{unit}"),
                    &format!("../{unit}"),
                );
            }
        } else {
            bail!("not a line of a unit list: {line}");
        }
    }
    Ok(())
}
