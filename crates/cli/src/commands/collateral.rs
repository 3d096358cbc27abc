//! `collateral`: what hardware vendors publish about their machines. Fetches it, shows it, carries it.
//!
//! Decides nothing about trust: that something was fetched says that it is there, not that evidence is good.

mod evidence;
mod show;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use collateral::{
    Ages, Ambient, Answer, Bounds, Bundle, Cache, Collateral, CrlOrigin, Demand, Endpoints, Entry,
    FetchError, Item, Listed, MAX_BUNDLE, OnFailure, Product, Proxies, Refresh, Settings, Update,
    Written, default_directory,
};
use futures::future::join_all;
use jiff::Timestamp;

use crate::arguments::{
    CollateralExportArguments, CollateralFetchArguments, CollateralImportArguments,
    CollateralListArguments, CollateralPlace, ProductName, UpdateName,
};
use crate::failure::Failure;
use crate::output::Terminal;
use crate::text::{chain, printable};
use crate::workspace;

/// Fetches what evidence needs.
pub(crate) async fn fetch(
    terminal: &Terminal,
    arguments: &CollateralFetchArguments,
) -> Result<(), Failure> {
    let items = wanted(terminal, arguments)?;
    let cache = open(&arguments.place)?;
    let collateral = Collateral::new(settings(arguments)?, Ambient::system(), cache)
        .map_err(|error| Failure::internal("make an HTTP client").because(error))?;
    let demand = Demand {
        refresh: if arguments.refresh {
            Refresh::Always
        } else {
            Refresh::WhenStale
        },
        on_failure: if arguments.allow_stale {
            OnFailure::Stale
        } else {
            OnFailure::Fail
        },
        deadline: Duration::from_secs(arguments.timeout),
    };
    let gets = items.iter().map(|item| {
        let collateral = &collateral;
        async move {
            let outcome = collateral.get(item, demand).await;
            match &outcome {
                Ok(answer) if answer.is_new => terminal.debug(format_args!("fetched {item}")),
                Ok(_) => terminal.debug(format_args!("{item} is there")),
                Err(error) => terminal.debug(chain(error)),
            }
            outcome
        }
    });
    let outcomes = join_all(gets).await;
    let (answers, errors) = sorted(outcomes);
    for answer in &answers {
        for note in &answer.notes {
            let item = answer.entry.item();
            terminal.note(format_args!("{item}: {}", printable(&note.to_string())));
        }
    }
    show::answers(&answers, collateral.now(), arguments.output)?;
    refuse(&errors)
}

fn sorted(outcomes: Vec<Result<Answer, FetchError>>) -> (Vec<Answer>, Vec<FetchError>) {
    let (mut answers, mut errors) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Ok(answer) => answers.push(answer),
            Err(error) => errors.push(error),
        }
    }
    (answers, errors)
}

/// All that failed, and what to do about the first.
fn refuse(errors: &[FetchError]) -> Result<(), Failure> {
    let Some(first) = errors.first() else {
        return Ok(());
    };
    let failure = Failure::infrastructure(format!("{} item(s) are missing", errors.len()))
        .because(first.clone())
        .hint(first.hint());
    if errors.len() == 1 {
        return Err(failure);
    }
    let lines: Vec<String> = errors.iter().map(|error| chain(error)).collect();
    Err(failure.detail(lines.join("\n")))
}

/// What the evidence needs, and what was named.
fn wanted(
    terminal: &Terminal,
    arguments: &CollateralFetchArguments,
) -> Result<BTreeSet<Item>, Failure> {
    let product = arguments.product.map(|product| match product {
        ProductName::Milan => Product::Milan,
        ProductName::Genoa => Product::Genoa,
        ProductName::Turin => Product::Turin,
    });
    let update = match arguments.update {
        UpdateName::Early => Update::Early,
        UpdateName::Standard => Update::Standard,
    };
    let mut items = BTreeSet::new();
    for name in &arguments.item {
        let item = name
            .parse()
            .map_err(|error| Failure::usage(format!("--item {name:?}")).because(error))?;
        items.insert(item);
    }
    for path in &arguments.evidence {
        let needs = evidence::needs_of(path, product, update)?;
        for unmet in &needs.unmet {
            terminal.note(format_args!(
                "{}: not fetched: {}",
                path.display(),
                printable(unmet)
            ));
        }
        items.extend(needs.items);
    }
    Ok(items)
}

fn settings(arguments: &CollateralFetchArguments) -> Result<Settings, Failure> {
    let usual = Endpoints::default();
    let mut settings = Settings {
        network: !arguments.offline,
        endpoints: Endpoints {
            amd: arguments.amd.clone().unwrap_or(usual.amd),
            intel: arguments.intel.clone().unwrap_or(usual.intel),
            intel_root_crl: arguments
                .intel_root_crl
                .clone()
                .unwrap_or(usual.intel_root_crl),
        },
        proxies: Proxies::Environment,
        ..Settings::default()
    };
    for prefix in &arguments.allow_crl {
        let origin = CrlOrigin::new(prefix).ok_or_else(|| {
            Failure::usage(format!(
                "--allow-crl {prefix:?} is not the beginning of a URL"
            ))
            .hint("write it as http[s]://host[:port]/path/")
        })?;
        settings.crl_origins.push(origin);
    }
    Ok(settings)
}

/// Shows what is there.
pub(crate) fn list(
    terminal: &Terminal,
    arguments: &CollateralListArguments,
) -> Result<(), Failure> {
    let cache = open(&arguments.place)?;
    let entries = entries(&cache, terminal)?;
    show::entries(
        &entries,
        Timestamp::now(),
        &Ages::default(),
        arguments.output,
    )
}

/// Every entry that can be read; tells of those that can not.
fn entries(cache: &Cache, terminal: &Terminal) -> Result<Vec<Entry>, Failure> {
    let listed = cache.list().map_err(|error| {
        Failure::infrastructure("look at the collateral that is there").because(error)
    })?;
    let mut entries = Vec::new();
    for one in listed {
        match one {
            Listed::Entry(entry) => entries.push(*entry),
            Listed::Damaged(error) => {
                terminal.note(format_args!(
                    "{}; it is fetched anew when it is needed",
                    chain(&error)
                ));
            }
        }
    }
    entries.sort_by(|one, other| one.item().cmp(other.item()));
    Ok(entries)
}

/// Writes a bundle.
pub(crate) fn export(
    terminal: &Terminal,
    arguments: &CollateralExportArguments,
) -> Result<(), Failure> {
    let cache = open(&arguments.place)?;
    let all = entries(&cache, terminal)?;
    for name in &arguments.items {
        if !all.iter().any(|entry| is_meant(entry, name)) {
            return Err(Failure::usage(format!("there is no item {name:?}"))
                .hint("`constellation collateral list` shows what is there"));
        }
    }
    let chosen: Vec<Entry> = all
        .into_iter()
        .filter(|entry| {
            arguments.items.is_empty() || arguments.items.iter().any(|name| is_meant(entry, name))
        })
        .collect();
    if chosen.is_empty() {
        return Err(
            Failure::infrastructure("there is no collateral to put into a bundle")
                .hint("`constellation collateral fetch` fetches what evidence needs"),
        );
    }
    let count = chosen.len();
    let bytes = Bundle::new(Timestamp::now(), chosen)
        .and_then(|bundle| bundle.to_bytes())
        .map_err(|error| Failure::usage("make the bundle").because(error))?;
    workspace::replace(&arguments.file, &bytes, 0o644)?;
    terminal.line(format_args!(
        "Wrote {count} item(s) to {}.",
        arguments.file.display()
    ));
    Ok(())
}

/// Whether an item is named, or the beginning of its name at a slash.
fn is_meant(entry: &Entry, name: &str) -> bool {
    let item = entry.item().to_string();
    match item.strip_prefix(name.trim_end_matches('/')) {
        Some(rest) => rest.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

/// Takes what is in a bundle.
pub(crate) fn import(
    terminal: &Terminal,
    arguments: &CollateralImportArguments,
) -> Result<(), Failure> {
    let path = &arguments.file;
    let failed = |error| Failure::config(format!("read {}", path.display())).because(error);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_BUNDLE as u64 + 1).read_to_end(&mut bytes))
        .map_err(failed)?;
    let bundle = Bundle::parse(&bytes).map_err(|error| {
        Failure::config(format!("{} is not a whole bundle", path.display()))
            .because(error)
            .hint("nothing of it was taken; copy it again, or make it again with `constellation collateral export`")
    })?;
    let now = Timestamp::now();
    for entry in bundle.entries() {
        entry.check_genuine(now).map_err(|error| {
            Failure::config(format!("{} of {} is not to be taken", entry.item(), path.display()))
                .because(error)
                .hint("nothing of the bundle was taken; look at the clock, and make the bundle again where the vendor can be reached")
        })?;
    }
    let cache = open(&arguments.place)?;
    let (mut taken, mut kept) = (0, 0);
    for entry in bundle.entries() {
        let written = cache.write(entry, now).map_err(|error| {
            Failure::infrastructure(format!("take {}", entry.item())).because(error)
        })?;
        match written {
            Written::New | Written::Replaced => taken += 1,
            Written::Kept => kept += 1,
            Written::Superseded => terminal.note(format_args!(
                "{}: not taken: its publisher has replaced it by what is here",
                entry.item()
            )),
            Written::Unverified => terminal.note(format_args!(
                "{}: not taken: nobody knows here who made it, and what is here is its publisher's",
                entry.item()
            )),
        }
    }
    let kept = match kept {
        0 => String::new(),
        kept => format!(" {kept} were as new here already."),
    };
    terminal.line(format_args!(
        "Took {taken} item(s) of {}, made at {}.{kept}",
        path.display(),
        bundle.made_at()
    ));
    Ok(())
}

fn open(place: &CollateralPlace) -> Result<Cache, Failure> {
    let directory = match &place.dir {
        Some(directory) => directory.clone(),
        None => user_directory()?,
    };
    open_at(&directory)
}

fn user_directory() -> Result<PathBuf, Failure> {
    default_directory(|name| std::env::var_os(name)).ok_or_else(|| {
        Failure::infrastructure("neither XDG_CACHE_HOME nor HOME is set")
            .hint("name a directory with --dir")
    })
}

fn open_at(directory: &Path) -> Result<Cache, Failure> {
    Cache::open(directory, Bounds::default()).map_err(|error| {
        let failure = Failure::infrastructure("open the collateral's directory");
        match error {
            collateral::CacheError::Permissions { .. } => failure.because(error).hint(format!(
                "`chmod 700 {}`, as its owner, or another directory with --dir",
                directory.display()
            )),
            error => failure.because(error),
        }
    })
}
