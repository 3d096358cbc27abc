//! `config`: makes, checks and changes the config file.

use std::path::{Path, PathBuf};

use attest::{Policy, Variant};
use cluster::config::{self, Choices, Config};
use cluster::{ClusterName, kubernetes};
use image::Image;

use crate::arguments::{AttestationVariant, GenerateArguments, ImageArguments, ProviderName};
use crate::failure::Failure;
use crate::output::{self, Terminal};
use crate::workspace::{self, Workspace};

const CSP: &str = "qemu";
/// Size of state disks in a new file. The whole disk is written once to give it valid tags.
pub(crate) const STATE_DISK_GB: u32 = 8;

/// Writes a new config file, with the measurements of the image.
pub(crate) fn generate(
    workspace: &Workspace,
    terminal: &Terminal,
    arguments: &GenerateArguments,
) -> Result<(), Failure> {
    let (ProviderName::Qemu, AttestationVariant::QemuVtpm) =
        (arguments.provider, arguments.attestation);
    let _lock = workspace.lock()?;
    let image = open_image(arguments.image.image_dir.as_deref())?;
    let kubernetes_version = match &arguments.kubernetes {
        Some(text) => supported(text)?,
        None => default_kubernetes(),
    };
    let name = ClusterName::new(arguments.name.clone())
        .map_err(|error| Failure::usage(format!("--name {:?}", arguments.name)).because(error))?;
    let text = config::generate(&Choices {
        name: &name,
        kubernetes_version,
        policy: &policy(&image)?,
        control_planes: 1,
        workers: 1,
        state_disk_size_gb: STATE_DISK_GB,
    });
    let path = workspace.config_path();
    if path.exists() {
        return Err(Failure::config(format!("{} is there already", path.display()))
            .hint("`constellation config fetch-measurements` changes its image; remove it to begin anew"));
    }
    workspace::create(&path, text.as_bytes(), 0o644)?;
    terminal.line(format_args!("Wrote {}.", path.display()));
    Ok(())
}

/// Puts an image's measurements into the config file.
pub(crate) fn fetch_measurements(
    workspace: &Workspace,
    terminal: &Terminal,
    arguments: &ImageArguments,
) -> Result<(), Failure> {
    let _lock = workspace.lock()?;
    let image = open_image(arguments.image_dir.as_deref())?;
    let policy = policy(&image)?;
    let text = workspace.config_text()?.ok_or_else(|| {
        Failure::config(format!("there is no {}", workspace.config_path().display()))
            .hint("`constellation config generate qemu` writes one")
    })?;
    let new = config::with_measurements(&text, &policy);
    // what is written must be readable, whatever was there
    Config::parse(config::FILE_NAME, &new).map_err(|problems| {
        Failure::config("the config file has other problems").detail(problems)
    })?;
    workspace::replace(&workspace.config_path(), new.as_bytes(), 0o644)?;
    terminal.line(format_args!(
        "{} now accepts {}.",
        config::FILE_NAME,
        policy.image_name().unwrap_or("the image")
    ));
    Ok(())
}

/// Checks the file and says what it asks for.
pub(crate) fn check(workspace: &Workspace, terminal: &Terminal) -> Result<(), Failure> {
    let config = workspace.config()?;
    tell_without_effect(&config, terminal);
    output::data(&format!("{}\n", config.summary()))
}

/// Names the fields that a user set and that change nothing.
pub(crate) fn tell_without_effect(config: &Config, terminal: &Terminal) {
    for field in config.without_effect() {
        terminal.note(format_args!(
            "{}: {field} has no effect with provider qemu",
            config::FILE_NAME
        ));
    }
}

/// Lists releases.
pub(crate) fn kubernetes_versions() -> Result<(), Failure> {
    let mut text = String::new();
    for minor in (kubernetes::OLDEST_SUPPORTED_MINOR..=kubernetes::NEWEST_KNOWN_MINOR).rev() {
        text.push_str(&format!("v1.{minor}\tsupported\n"));
    }
    text.push_str(&format!("v1.{}\tfor tests only\n", kubernetes::TEST_MINOR));
    output::data(&text)
}

/// The release of a new file when nothing else is known.
pub(crate) fn default_kubernetes() -> kubernetes::Version {
    kubernetes::Version::new(kubernetes::NEWEST_KNOWN_MINOR, 0)
}

fn supported(text: &str) -> Result<kubernetes::Version, Failure> {
    let version: kubernetes::Version = text
        .parse()
        .map_err(|error| Failure::usage(format!("--kubernetes {text:?}")).because(error))?;
    version
        .support()
        .map_err(|error| Failure::usage(format!("--kubernetes {text:?}")).because(error))?;
    Ok(version)
}

/// The image's directory: as named, or where a build leaves it.
pub(crate) fn open_image(named: Option<&Path>) -> Result<Image, Failure> {
    let directory = match named {
        Some(path) => path.to_owned(),
        None => built_image(),
    };
    let directory = std::path::absolute(&directory).unwrap_or(directory);
    Image::open(&directory).map_err(|error| {
        Failure::config(format!(
            "there is no usable image in {}",
            directory.display()
        ))
        .because(error)
        .hint("`cargo xtask image` builds one; --image-dir names another directory")
    })
}

/// `target/image` here, in an ancestor of this directory, or beside this program.
fn built_image() -> PathBuf {
    let fallback = PathBuf::from("target/image");
    let exe = std::env::current_exe().ok();
    let here = std::env::current_dir().ok();
    let candidates = here
        .iter()
        .flat_map(|here| {
            here.ancestors()
                .map(|directory| directory.join("target/image"))
        })
        .chain(
            exe.iter()
                .flat_map(|exe| exe.ancestors().map(|directory| directory.join("image"))),
        );
    candidates
        .into_iter()
        .find(|directory| directory.join(Image::INFO).is_file())
        .unwrap_or(fallback)
}

/// What machines of the image are accepted by.
pub(crate) fn policy(image: &Image) -> Result<Policy, Failure> {
    Policy::from_image_measurements(image.measurements(), CSP, Variant::QemuVtpm)
        .map_err(|error| Failure::config("the image's measurements.json").because(error))
}
