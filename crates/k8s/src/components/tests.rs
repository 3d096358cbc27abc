//! Downloads against servers that misbehave in every way they do in the field, and some more.

use std::{
    collections::VecDeque, fs, io::Write as _, net::Ipv4Addr, os::unix::fs::PermissionsExt as _,
    sync::Mutex,
};

use cluster::kubernetes::Version;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::*;

/// What a server does with one request.
#[derive(Clone)]
enum Answer {
    /// The file, or the part asked for.
    Right,
    /// Only so many bytes of what it announced, then the end.
    CutAfter(usize),
    /// The whole file, whatever part was asked for.
    IgnoreRange,
    /// Says that it sends the part asked for, and sends the file's beginning.
    LieAboutRange,
    /// Another part than the one asked for, and says so.
    OtherRange,
    /// Other bytes of the same length.
    Wrong,
    /// A status without a body.
    Status(u16),
    /// Nothing for longer than the client waits.
    Silence,
    /// The file in small pieces with pauses.
    Slow,
    /// Hangs up.
    HangUp,
}

/// A server with a script; after its end it answers right. Keeps the requests' ranges.
struct Server {
    url: String,
    ranges: Arc<Mutex<Vec<Option<usize>>>>,
}

impl Server {
    async fn start(content: &[u8], script: &[Answer]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let ranges = Arc::new(Mutex::new(Vec::new()));
        let (content, seen) = (Arc::new(content.to_vec()), Arc::clone(&ranges));
        let mut script: VecDeque<_> = script.iter().cloned().collect();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let answer = script.pop_front().unwrap_or(Answer::Right);
                let (content, seen) = (Arc::clone(&content), Arc::clone(&seen));
                // a client that hangs up is none of the server's errors
                tokio::spawn(async move { serve(stream, &content, answer, &seen).await });
            }
        });
        Self { url, ranges }
    }

    fn ranges(&self) -> Vec<Option<usize>> {
        self.ranges.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    content: &[u8],
    answer: Answer,
    seen: &Mutex<Vec<Option<usize>>>,
) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        let mut buffer = [0; 1024];
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => request.extend_from_slice(&buffer[..count]),
        }
    }
    let request = String::from_utf8_lossy(&request).to_lowercase();
    let offset = request.lines().find_map(|line| {
        line.strip_prefix("range: bytes=")?
            .strip_suffix('-')?
            .parse::<usize>()
            .ok()
    });
    seen.lock().unwrap().push(offset);
    let (status, range, body) = match (&answer, offset) {
        (Answer::Status(status), _) => (*status, None, Vec::new()),
        (Answer::HangUp, _) => return Ok(()),
        (Answer::Silence, _) => {
            tokio::time::sleep(Duration::from_secs(60)).await;
            return Ok(());
        }
        (Answer::IgnoreRange, _) | (_, None) => (200, None, content.to_vec()),
        (Answer::LieAboutRange, Some(offset)) => (
            206,
            Some(offset),
            content[..content.len() - offset].to_vec(),
        ),
        (Answer::OtherRange, Some(_)) => (206, Some(1), content[1..].to_vec()),
        (_, Some(offset)) if offset >= content.len() => (416, None, Vec::new()),
        (_, Some(offset)) => (206, Some(offset), content[offset..].to_vec()),
    };
    let body = if matches!(answer, Answer::Wrong) {
        vec![b'!'; body.len()]
    } else {
        body
    };
    let mut head = format!(
        "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    if let Some(offset) = range {
        head.push_str(&format!(
            "Content-Range: bytes {offset}-{}/{}\r\n",
            content.len() - 1,
            content.len()
        ));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    match answer {
        Answer::CutAfter(count) => stream.write_all(&body[..count.min(body.len())]).await?,
        Answer::Slow => {
            for piece in body.chunks(body.len() / 5 + 1) {
                stream.write_all(piece).await?;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        _ => stream.write_all(&body).await?,
    }
    stream.shutdown().await
}

/// Three and a half chunks, so that parts of a file reach the disk.
fn content() -> Vec<u8> {
    (0_u32..3_500_000)
        .map(|index| u8::try_from((index * 7 + index / 251) % 256).unwrap())
        .collect()
}

fn component(content: &[u8]) -> Component {
    Component::program("kubelet", Version::new(20, 2), Sha256::of(content))
}

fn installer(root: &Path, mirror: &str) -> Installer {
    let retry = Retry {
        attempts: 4,
        first_pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(20),
        silence: Duration::from_secs(1),
    };
    Installer::new(Some(mirror))
        .unwrap()
        .with_retry(retry)
        .below(root)
}

fn quiet() -> Progress {
    Arc::new(|_, _| {})
}

/// Components of tests must not go to the real upstream when the mirror fails.
fn mirror_only(mut component: Component) -> Component {
    component.url = component.url.replace("https://dl.k8s.io/", "mirror:///");
    component
}

async fn after(script: &[Answer]) -> (Result<(), InstallError>, Server, tempfile::TempDir) {
    let (root, content) = (tempfile::tempdir().unwrap(), content());
    let server = Server::start(&content, script).await;
    let result = installer(root.path(), &server.url)
        .install(&[mirror_only(component(&content))], &quiet())
        .await;
    if result.is_ok() {
        let path = root.path().join("run/state/bin/kubelet");
        assert!(fs::read(&path).unwrap() == content, "the file is right");
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
            0o755
        );
    }
    let left: Vec<_> = fs::read_dir(root.path().join("run/state/bin"))
        .map(|entries| {
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        })
        .unwrap_or_default();
    for name in left.iter().filter(|name| *name != "kubelet") {
        let mode = fs::metadata(root.path().join("run/state/bin").join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o7777;
        assert_eq!(mode, 0o600, "{name} is not executable");
    }
    assert_eq!(
        left.contains(&"kubelet".to_owned()),
        result.is_ok(),
        "only a right file gets its name"
    );
    (result, server, root)
}

#[tokio::test]
async fn a_cut_download_goes_on_where_it_stopped() {
    let (result, server, _root) =
        after(&[Answer::CutAfter(1_500_000), Answer::CutAfter(700_000)]).await;
    result.unwrap();
    let ranges = server.ranges();
    assert_eq!(ranges[0], None);
    // TCP may lose the tail of what was sent before the cut, never more than the rest
    assert!(
        matches!(ranges[1..], [Some(first), Some(second)] if first > 0 && first <= 1_500_000 && second > first),
        "{ranges:?}"
    );
}

#[tokio::test]
async fn every_transient_failure_is_tried_again() {
    for answer in [
        Answer::Status(503),
        Answer::Status(500),
        Answer::Status(408),
        Answer::Status(425),
        Answer::Status(429),
        Answer::HangUp,
        Answer::Silence,
    ] {
        let (result, server, _root) = after(&[answer.clone(), answer]).await;
        result.unwrap();
        assert_eq!(server.ranges().len(), 3);
    }
}

#[tokio::test]
async fn a_server_that_stays_broken_is_given_up() {
    let (result, server, _root) = after(&[const { Answer::Status(503) }; 8]).await;
    let error = result.unwrap_err().to_string();
    assert!(
        error.contains("kubelet") && error.contains("503") && error.contains("after 4 tries"),
        "{error}"
    );
    assert_eq!(server.ranges().len(), 4);
}

#[tokio::test]
async fn a_refusal_is_final() {
    let (result, server, _root) = after(&[Answer::Status(404)]).await;
    assert!(matches!(result, Err(InstallError::Unreachable { .. })));
    assert_eq!(server.ranges().len(), 1);
}

#[tokio::test]
async fn a_slow_server_is_waited_for() {
    let (result, server, _root) = after(&[Answer::Slow]).await;
    result.unwrap();
    assert_eq!(server.ranges(), [None]);
}

#[tokio::test]
async fn a_server_without_ranges_begins_again() {
    let (result, _, _root) = after(&[Answer::CutAfter(1_500_000), Answer::IgnoreRange]).await;
    result.unwrap();
}

#[tokio::test]
async fn a_server_that_sends_another_part_is_asked_for_all() {
    let (result, server, _root) = after(&[Answer::CutAfter(1_500_000), Answer::OtherRange]).await;
    result.unwrap();
    assert_eq!(server.ranges().last(), Some(&None));
}

#[tokio::test]
async fn a_server_that_lies_about_ranges_costs_one_more_download() {
    let (result, server, _root) =
        after(&[Answer::CutAfter(1_500_000), Answer::LieAboutRange]).await;
    result.unwrap();
    assert_eq!(
        server.ranges().last(),
        Some(&None),
        "from the beginning, once"
    );
}

#[tokio::test]
async fn wrong_bytes_stop_the_installation() {
    let (result, server, root) = after(&[Answer::Wrong]).await;
    let error = result.unwrap_err();
    let InstallError::WrongHash {
        expected, actual, ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_ne!(expected, actual);
    assert!(
        error.to_string().contains("it was not installed")
            && error.to_string().contains(&expected.to_string())
    );
    assert_eq!(server.ranges().len(), 1, "not asked again");
    assert_eq!(
        fs::read_dir(root.path().join("run/state/bin"))
            .unwrap()
            .count(),
        0,
        "nothing is left"
    );
}

#[tokio::test]
async fn a_part_of_another_file_is_thrown_away() {
    let (root, content) = (tempfile::tempdir().unwrap(), content());
    let server = Server::start(&content, &[]).await;
    let bin = root.path().join("run/state/bin");
    fs::create_dir_all(&bin).unwrap();
    for left in [
        vec![b'?'; 1000],
        vec![b'?'; content.len() + 10],
        content.clone(),
    ] {
        fs::write(bin.join(".kubelet.part"), left).unwrap();
        installer(root.path(), &server.url)
            .install(&[component(&content)], &quiet())
            .await
            .unwrap();
        assert!(fs::read(bin.join("kubelet")).unwrap() == content);
        fs::remove_file(bin.join("kubelet")).unwrap();
    }
}

#[tokio::test]
async fn what_is_there_is_not_fetched() {
    let (root, content) = (tempfile::tempdir().unwrap(), content());
    let server = Server::start(&content, &[]).await;
    let installer = installer(root.path(), &server.url);
    let events = Arc::new(Mutex::new(Vec::new()));
    let progress: Progress = {
        let events = Arc::clone(&events);
        Arc::new(move |name, event| events.lock().unwrap().push((name.to_owned(), event)))
    };
    for _ in 0..2 {
        installer
            .install(&[component(&content)], &progress)
            .await
            .unwrap();
    }
    assert_eq!(server.ranges().len(), 1);
    let events = std::mem::take(&mut *events.lock().unwrap());
    assert_eq!(events.last(), Some(&("kubelet".to_owned(), Event::Present)));
    let total = Some(content.len() as u64);
    assert!(events.contains(&(
        "kubelet".to_owned(),
        Event::Received {
            bytes: content.len() as u64,
            total
        }
    )));

    // a changed file is replaced, a lost mode mended
    let path = root.path().join("run/state/bin/kubelet");
    fs::write(&path, "changed").unwrap();
    installer
        .install(&[component(&content)], &quiet())
        .await
        .unwrap();
    assert_eq!(server.ranges().len(), 2);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    installer
        .install(&[component(&content)], &quiet())
        .await
        .unwrap();
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o755
    );
    assert_eq!(server.ranges().len(), 2);
}

#[tokio::test]
async fn the_url_is_next_when_the_mirror_has_nothing() {
    let (root, content) = (tempfile::tempdir().unwrap(), content());
    let mirror = Server::start(&content, &[Answer::Status(404)]).await;
    let upstream = Server::start(&content, &[]).await;
    let mut component = component(&content);
    component.url = component.url.replace("https://dl.k8s.io", &upstream.url);
    installer(root.path(), &mirror.url)
        .install(&[component], &quiet())
        .await
        .unwrap();
    assert_eq!((mirror.ranges().len(), upstream.ranges().len()), (1, 1));
}

#[tokio::test]
async fn one_failure_stops_the_others() {
    let (root, content) = (tempfile::tempdir().unwrap(), content());
    let server = Server::start(&content, &[]).await;
    let wrong = Component {
        hash: Sha256::of(b"something else"),
        ..mirror_only(component(&content))
    };
    let others = ["a", "b", "c", "d", "e", "f"].map(|name| Component {
        name: name.into(),
        install_path: format!("/run/state/bin/{name}"),
        ..mirror_only(component(&content))
    });
    let list = [&[wrong], others.as_slice()].concat();
    let error = installer(root.path(), &server.url)
        .install(&list, &quiet())
        .await
        .unwrap_err();
    assert!(matches!(error, InstallError::WrongHash { .. }), "{error}");
    assert!(!root.path().join("run/state/bin/kubelet").exists());
}

#[tokio::test]
async fn a_mirror_component_needs_a_mirror() {
    let installer = Installer::new(None).unwrap().below("/nonexistent");
    let error = installer
        .install(&[mirror_only(component(b""))], &quiet())
        .await
        .unwrap_err();
    assert!(matches!(error, InstallError::NoMirror(name) if name == "kubelet"));
}

/// A tar.gz with one entry, its name written as it is.
fn archive(name: &str, kind: tar::EntryType, mode: u32, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    if kind == tar::EntryType::Symlink {
        header.set_link_name("/etc/passwd").unwrap();
    }
    header.set_cksum();
    let mut builder = tar::Builder::new(Vec::new());
    builder.append(&header, content).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&builder.into_inner().unwrap()).unwrap();
    gzip.finish().unwrap()
}

async fn unpacked(
    archive: &[u8],
    prepare: fn(&Path),
) -> (Result<(), InstallError>, tempfile::TempDir) {
    let root = tempfile::tempdir().unwrap();
    prepare(&root.path().join("run/state/bin"));
    let server = Server::start(archive, &[]).await;
    let component = Component {
        name: "crictl".into(),
        install_path: "/run/state/bin".into(),
        extract: true,
        hash: Sha256::of(archive),
        ..mirror_only(component(b""))
    };
    let result = installer(root.path(), &server.url)
        .install(&[component], &quiet())
        .await;
    (result, root)
}

#[tokio::test]
async fn archives_are_unpacked_below_their_directory() {
    let good = archive("./sub/crictl", tar::EntryType::Regular, 0o4777, b"program");
    let (result, root) = unpacked(&good, |_| {}).await;
    result.unwrap();
    let path = root.path().join("run/state/bin/sub/crictl");
    assert_eq!(fs::read(&path).unwrap(), b"program");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o755,
        "no bits beyond the component's mode"
    );

    for (name, kind) in [
        ("../escaped", tar::EntryType::Regular),
        ("sub/../../escaped", tar::EntryType::Regular),
        ("/tmp/constellation-escaped", tar::EntryType::Regular),
        ("link", tar::EntryType::Symlink),
        ("device", tar::EntryType::Char),
        ("hard", tar::EntryType::Link),
    ] {
        let (result, root) = unpacked(&archive(name, kind, 0o755, b""), |_| {}).await;
        assert!(matches!(result, Err(InstallError::Unpack { .. })), "{name}");
        assert!(
            !root.path().join("run/state/escaped").exists()
                && !Path::new("/tmp/constellation-escaped").exists()
        );
    }

    // a link that lies there already is not followed
    let (result, root) = unpacked(
        &archive("sub/crictl", tar::EntryType::Regular, 0o755, b"x"),
        |bin| {
            fs::create_dir_all(bin).unwrap();
            std::os::unix::fs::symlink("/tmp", bin.join("sub")).unwrap();
        },
    )
    .await;
    assert!(matches!(result, Err(InstallError::Unpack { .. })));
    assert!(!Path::new("/tmp/crictl").exists());
    drop(root);

    let (result, _root) = unpacked(b"no archive at all", |_| {}).await;
    assert!(matches!(
        result,
        Err(InstallError::Unpack {
            source: UnpackError::Damaged(_),
            ..
        })
    ));
}

#[tokio::test]
async fn an_unpacked_archive_is_not_fetched_again() {
    let archive = archive("crictl", tar::EntryType::Regular, 0o755, b"program");
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(&archive, &[]).await;
    let component = Component {
        name: "crictl".into(),
        install_path: "/run/state/bin".into(),
        extract: true,
        hash: Sha256::of(&archive),
        ..mirror_only(component(b""))
    };
    for _ in 0..2 {
        installer(root.path(), &server.url)
            .install(std::slice::from_ref(&component), &quiet())
            .await
            .unwrap();
    }
    assert_eq!(server.ranges().len(), 1);
    assert!(!root.path().join("run/state/bin/.crictl.part").exists());
}
