//! Where the files of Kubernetes come from, and what each must be: the hashes that the init request carries.
//!
//! A directory of the admin's is vouched for by the admin: its files are hashed here. From a URL, the publisher's
//! `.sha256` files are taken, over TLS from dl.k8s.io. Nodes fetch the files themselves and believe only the hash.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aws_lc_rs::digest;
use cluster::Role;
use cluster::catalogue::{self, Component, Components, Sha256};
use cluster::kubernetes::Version;

use crate::failure::Failure;
use crate::output::Terminal;

/// A source of components.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A directory on this host.
    Directory(PathBuf),
    /// A base URL, https; nodes must reach it as well.
    Url(String),
}

impl Source {
    /// What the user named; else the files beside the checkout; else dl.k8s.io.
    pub(crate) fn choose(named: Option<&str>, terminal: &Terminal) -> Result<Self, Failure> {
        if let Some(named) = named.filter(|named| !named.is_empty()) {
            if named.starts_with("https://") {
                return Ok(Self::Url(named.trim_end_matches('/').to_owned()));
            }
            if named.starts_with("http://") {
                return Err(Failure::config(format!(
                    "the hashes of Kubernetes' files can not be taken from {named}: whoever is on the way there could choose what the cluster runs"
                ))
                .hint("name an https URL, or a directory of this host with files you trust"));
            }
            let path = std::fs::canonicalize(named).map_err(|error| {
                Failure::config(format!("open the directory of components {named}")).because(error)
            })?;
            return Ok(Self::Directory(path));
        }
        if let Some(unpack) = beside_the_checkout() {
            return unpacked(&unpack, terminal).map(Self::Directory);
        }
        Ok(Self::Url(catalogue::UPSTREAM.to_owned()))
    }

    /// The releases of Kubernetes that are there, newest first; of a URL nothing is known.
    pub(crate) fn versions(&self) -> Result<Vec<Version>, Failure> {
        let Self::Directory(path) = self else {
            return Ok(Vec::new());
        };
        let failed = |error| Failure::config(format!("list {}", path.display())).because(error);
        let mut versions: Vec<Version> = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            versions.extend(name.to_str().and_then(|name| name.parse::<Version>().ok()));
        }
        versions.sort_by(|a, b| b.cmp(a));
        Ok(versions)
    }

    /// The component list of a release.
    pub(crate) async fn catalogue(
        &self,
        version: Version,
        terminal: &Terminal,
    ) -> Result<Components, Failure> {
        let mut components = Vec::new();
        for program in catalogue::programs(Role::ControlPlane) {
            terminal.debug(format_args!("hash of {program}"));
            let hash = match self {
                Self::Directory(path) => {
                    let file = path.join(catalogue::program_path(program, version));
                    hash_file(&file).map_err(|error| {
                        Failure::config(format!("read {}", file.display()))
                            .because(error)
                            .hint(format!(
                                "the directory must be laid out like dl.k8s.io: {}",
                                catalogue::program_path(program, version)
                            ))
                    })?
                }
                Self::Url(base) => {
                    published_hash(base, &catalogue::program_path(program, version)).await?
                }
            };
            components.push(Component::program(program, version, hash));
        }
        if let Self::Directory(path) = self {
            components.extend(archives(&path.join("images"))?);
        }
        Components::new(components)
            .map_err(|error| Failure::config("the component list").because(error))
    }
}

/// OCI archives that every node imports, such as CoreDNS.
fn archives(directory: &Path) -> Result<Vec<Component>, Failure> {
    let failed = |error| Failure::config(format!("read {}", directory.display())).because(error);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        names.extend(
            name.into_string()
                .ok()
                .filter(|name| name.ends_with(".tar")),
        );
    }
    names.sort();
    let component = |name: &String| {
        hash_file(&directory.join(name))
            .map(|hash| Component::image_archive(name, hash))
            .map_err(failed)
    };
    names.iter().map(component).collect()
}

fn hash_file(path: &Path) -> std::io::Result<Sha256> {
    let mut file = std::fs::File::open(path)?;
    let mut context = digest::Context::new(&digest::SHA256);
    let mut chunk = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut chunk)?;
        match chunk.get(..read) {
            Some([]) | None => break,
            Some(bytes) => context.update(bytes),
        }
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    Ok(Sha256::new(bytes))
}

async fn published_hash(base: &str, path: &str) -> Result<Sha256, Failure> {
    let url = format!("{base}/{path}.sha256");
    let failed = |error| {
        Failure::infrastructure(format!("fetch {url}"))
            .because(error)
            .hint("without the Internet, name a directory or mirror with --components or $CONSTELLATION_COMPONENTS")
    };
    let client = reqwest::Client::builder()
        .timeout(std::time::Duration::from_secs(30))
        // for where a redirect leads as well
        .https_only(true)
        .build()
        .map_err(|error| Failure::internal("make an HTTP client").because(error))?;
    let answer = client
        .get(&url)
        .send()
        .await
        .and_then(reqwest::Response::error_for_status)
        .map_err(failed)?;
    let mut text = String::new();
    let mut answer = answer;
    while let Some(chunk) = answer.chunk().await.map_err(failed)? {
        text.push_str(&String::from_utf8_lossy(&chunk));
        if text.len() > 4096 {
            break;
        }
    }
    let digits = text.split_whitespace().next().unwrap_or_default();
    format!("sha256:{digits}")
        .parse()
        .map_err(|error| Failure::config(format!("{url} holds no hash")).because(error))
}

/// `../shared/kubernetes/unpack` of the checkout this program was built in or is run from.
fn beside_the_checkout() -> Option<PathBuf> {
    let exe = std::env::current_exe().ok();
    let here = std::env::current_dir().ok();
    let ancestors = |path: &PathBuf| path.ancestors().map(Path::to_owned).collect::<Vec<_>>();
    let checkouts = here.iter().chain(exe.iter()).flat_map(ancestors);
    checkouts
        .filter(|directory| {
            directory.join("Cargo.toml").is_file() && directory.join("crates/cli").is_dir()
        })
        .filter_map(|checkout| Some(checkout.parent()?.join("shared/kubernetes/unpack")))
        .find(|unpack| unpack.is_file())
}

/// Runs the unpack script, which skips what is there and right, into the user's cache.
fn unpacked(unpack: &Path, terminal: &Terminal) -> Result<PathBuf, Failure> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .ok_or_else(|| Failure::infrastructure("neither XDG_CACHE_HOME nor HOME is set"))?;
    let target = cache.join("constellation/kubernetes");
    let failed = |error| {
        Failure::infrastructure(format!("unpack Kubernetes into {}", target.display()))
            .because(error)
    };
    std::fs::create_dir_all(&target).map_err(failed)?;
    terminal.debug(format_args!(
        "unpacking Kubernetes with {}",
        unpack.display()
    ));
    let output = Command::new(unpack)
        .arg(&target)
        .stdin(Stdio::null())
        .output()
        .map_err(failed)?;
    if output.status.success() {
        return Ok(target);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::infrastructure(format!(
        "{} failed: {}",
        unpack.display(),
        said.trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_come_over_tls_or_from_this_host() {
        let terminal = Terminal::detect(false);
        for url in ["http://mirror.example.org", "http://127.0.0.1:8000/"] {
            let error = Source::choose(Some(url), &terminal).unwrap_err();
            assert_eq!(error.kind(), crate::failure::Kind::Config);
            assert!(error.to_string().contains(url), "{error}");
        }
        assert_eq!(
            Source::choose(Some("https://mirror.example.org/"), &terminal).unwrap(),
            Source::Url("https://mirror.example.org".to_owned())
        );
    }

    #[tokio::test]
    async fn plain_http_is_not_even_asked() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        published_hash(&base, "kubelet").await.unwrap_err();
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "somebody connected");
    }

    #[tokio::test]
    async fn a_directory_is_hashed() {
        let directory = tempfile::tempdir().unwrap();
        let bin = directory.path().join("v1.20.2/bin/linux/amd64");
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(directory.path().join("images")).unwrap();
        std::fs::create_dir_all(directory.path().join("v1.35.1")).unwrap();
        for program in catalogue::programs(Role::ControlPlane) {
            std::fs::write(bin.join(program), program).unwrap();
        }
        std::fs::write(directory.path().join("images/coredns.tar"), "archive").unwrap();
        let terminal = Terminal::detect(false);
        let source = Source::choose(directory.path().to_str(), &terminal).unwrap();
        assert_eq!(
            source.versions().unwrap(),
            [Version::new(35, 1), Version::new(20, 2)]
        );
        let components = source
            .catalogue(Version::new(20, 2), &terminal)
            .await
            .unwrap();
        let kubelet = components
            .as_slice()
            .iter()
            .find(|component| component.name == "kubelet")
            .unwrap();
        assert_eq!(kubelet.hash, Sha256::of(b"kubelet"));
        assert!(
            components
                .as_slice()
                .iter()
                .any(|c| c.import && c.hash == Sha256::of(b"archive"))
        );
        let error = source
            .catalogue(Version::new(35, 1), &terminal)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("kube-apiserver"), "{error}");
    }
}
