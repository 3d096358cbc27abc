//! `version`: what this program is.

use crate::arguments::{Format, OutputArguments};
use crate::failure::Failure;
use crate::output;

pub(crate) fn run(arguments: &OutputArguments) -> Result<(), Failure> {
    let version = cluster::config::RELEASE;
    let target = format!("{}-{}", std::env::consts::OS, std::env::consts::ARCH);
    match arguments.output {
        Format::Table => output::data(&format!(
            "Version:  {version}\nPlatform: {target}\nVariants: qemu-vtpm\n"
        )),
        Format::Json => output::json(
            &serde_json::json!({ "version": version, "platform": target, "variants": ["qemu-vtpm"] }),
        ),
    }
}
