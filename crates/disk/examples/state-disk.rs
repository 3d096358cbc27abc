//! Drives a state disk by hand or from a test of machines, which can stop the machine at every line it prints. No part of a release.
//!
//!     state-disk DEVICE probe
//!     state-disk DEVICE first-boot [KEY]     formats; with a key in hex sets it and closes
//!     state-disk DEVICE open KEY             opens an initialised disk

use std::path::Path;

use disk::{Found, Progress, RunFiles, StateDisk, mounts, probe};
use keys::DiskKey;

const MOUNT: &str = "/run/state";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let [device, action, key @ ..] = arguments.as_slice() else {
        anyhow::bail!("see the source")
    };
    let device = Path::new(device);
    let key = key
        .first()
        .map(|key| anyhow::Ok(DiskKey::from_vec(hex::decode(key)?)?))
        .transpose()?;
    let files = RunFiles::new(RunFiles::DIRECTORY);
    match (*action, probe(device)?, key) {
        ("probe", found, _) => match found {
            Found::New(why) => println!("new: {why:?}"),
            Found::Initialized(disk) => println!("initialized: {}", disk.uuid()),
        },
        ("first-boot", Found::New(why), key) => {
            let mut disk =
                StateDisk::format(device, files.clone(), why, &mut |progress| match progress {
                    Progress::Begin(step) => println!("step: {step:?}"),
                    Progress::Wiped { done, total } => println!("wiped: {done} of {total}"),
                })?;
            disk.mount(Path::new(MOUNT))?;
            std::fs::write(Path::new(MOUNT).join("witness"), disk.uuid().to_string())?;
            if let Some(key) = key {
                println!("step: set key");
                disk = StateDisk::load(files)?;
                disk.set_key(&key)?;
                println!("key is set: {}", disk.uuid());
            }
            mounts::unmount(Path::new(MOUNT))?;
            disk.close()?;
        }
        ("open", Found::Initialized(found), Some(key)) => {
            let mut disk = StateDisk::open(device, files, &found, &key)?;
            disk.mount(Path::new(MOUNT))?;
            println!(
                "witness: {}",
                std::fs::read_to_string(Path::new(MOUNT).join("witness"))?
            );
            mounts::unmount(Path::new(MOUNT))?;
            disk.close()?;
        }
        (action, found, _) => anyhow::bail!("{action} does not go with {found:?}"),
    }
    Ok(())
}
