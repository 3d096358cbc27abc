//! `policy`: checks a policy document, and says what it accepts and which known attacks it closes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use attest::PolicyDocument;
use attest::policy::Preset;
use attest::policy::explain::explain as words;
use attest::yaml::Problems;
use cluster::config::CLUSTER_VARIANT;
use jiff::Timestamp;

use crate::arguments::{DataFormat, PolicyCheckArguments, PolicyExplainArguments, PresetArguments};
use crate::failure::Failure;
use crate::output::{self, Terminal};
use crate::workspace::Workspace;

/// No policy and no preset is longer.
const MAX_FILE: u64 = 256 * 1024;

/// Checks a document; what is wrong with it is a failure, what will be wrong is a note.
pub(crate) fn check(terminal: &Terminal, arguments: &PolicyCheckArguments) -> Result<(), Failure> {
    let name = arguments.file.display();
    let policy = with_presets(read(&arguments.file)?, &arguments.presets)?;
    for warning in policy.warnings(Timestamp::now()) {
        terminal.note(format_args!("{name}: {}: {}", warning.field, warning.what));
    }
    let machine = policy.machine();
    if machine != CLUSTER_VARIANT.machine() {
        terminal.note(format_args!(
            "{name}: this release does not let {machine} machines into a cluster"
        ));
    }
    let generations = if policy.older().is_some() {
        "2 generations"
    } else {
        "1 generation"
    };
    let presets: Vec<&str> = policy.presets().map(Preset::name).collect();
    let presets = if presets.is_empty() {
        "no presets".to_owned()
    } else {
        format!("presets {}", presets.join(", "))
    };
    output::data(&format!("{name}: {machine}, {generations}, {presets}\n"))
}

/// Prints a policy in words.
pub(crate) fn explain(workspace: &Path, arguments: &PolicyExplainArguments) -> Result<(), Failure> {
    let policy = match &arguments.file {
        Some(file) => read(file)?,
        None => Workspace::open(workspace)?
            .config()?
            .attestation
            .policy
            .document()
            .clone(),
    };
    let explanation = words(&with_presets(policy, &arguments.presets)?);
    match arguments.output {
        DataFormat::Json => output::json(&explanation),
        DataFormat::Yaml => {
            let text = serde_saphyr::to_string(&explanation)
                .map_err(|error| Failure::internal("write the answer as YAML").because(error))?;
            output::data(&text)
        }
        DataFormat::Table => output::data(&explanation.to_string()),
    }
}

/// The policy in a file.
pub(crate) fn read(file: &Path) -> Result<PolicyDocument, Failure> {
    let text = text(file)?;
    PolicyDocument::parse(&file.display().to_string(), &text)
        .map_err(|problems| refused(&problems, file))
}

fn with_presets(
    mut policy: PolicyDocument,
    arguments: &PresetArguments,
) -> Result<PolicyDocument, Failure> {
    for name in &arguments.preset {
        let preset = match name.to_str().and_then(Preset::built_in) {
            Some(preset) => preset,
            None => Preset::parse(&name.display().to_string(), &text(name)?)
                .map_err(|problems| refused(&problems, name))?,
        };
        policy = policy
            .with_preset(preset)
            .map_err(|why| Failure::config(format!("--preset {}: {why}", name.display())))?;
    }
    Ok(policy)
}

fn text(file: &Path) -> Result<String, Failure> {
    let failed = |error: io::Error| {
        let names: Vec<&str> = Preset::names().collect();
        Failure::config(format!("read {}", file.display()))
            .because(error)
            .hint(format!("presets of this release: {}", names.join(", ")))
    };
    let mut text = String::new();
    if file == Path::new("-") {
        io::stdin()
            .take(MAX_FILE)
            .read_to_string(&mut text)
            .map_err(failed)?;
    } else {
        File::open(file)
            .and_then(|file| file.take(MAX_FILE).read_to_string(&mut text))
            .map_err(failed)?;
    }
    Ok(text)
}

fn refused(problems: &Problems, file: &Path) -> Failure {
    let count = problems.list().len();
    let noun = if count == 1 { "problem" } else { "problems" };
    Failure::config(format!("{count} {noun} in {}", file.display()))
        .detail(problems)
        .hint("docs/attestation.md describes the document, docs/policy.schema.json its form")
}
