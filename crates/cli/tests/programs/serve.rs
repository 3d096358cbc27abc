//! The background process: metadata, mirror, switch, capture; seen as a node and as a machine see it.

use std::io::{BufRead, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use cloud::qemu::Seat;
use cloud::qemu::client::QemuMetadata;
use cluster::{Metadata, Role};

use crate::harness::{HOST_PORTS, Lab};
use crate::host::assert_only_the_config_is_left;

/// A lab whose background process was started the way `mini up` starts it: by `mini up`, which then fails because the
/// "image" does not boot. The machines are stopped again, so that only the process is left.
struct Served {
    lab: Lab,
    server: std::process::Child,
    run: std::path::PathBuf,
}

impl Served {
    fn start() -> Self {
        let lab = Lab::configured();
        let run = lab.runtime_dir().join("constellation-test");
        std::fs::create_dir(&run).unwrap();
        std::fs::create_dir(lab.file("constellation-mini")).unwrap();
        let plan = serde_json::json!({
            "controlPlanes": 1, "workers": 1,
            "initSecretHash": bcrypt::hash("secret of sixteen", 4).unwrap(),
            "components": lab.components(),
        });
        std::fs::write(lab.file("constellation-mini/plan.json"), plan.to_string()).unwrap();
        let mut server = lab
            .command(&["mini", "serve", "--run-dir", run.to_str().unwrap()])
            .spawn()
            .unwrap();
        for _ in 0..200 {
            if run.join("capture").exists()
                && std::net::TcpStream::connect("127.0.0.1:8080").is_ok()
            {
                return Self { lab, server, run };
            }
            assert!(server.try_wait().unwrap().is_none(), "the process ended");
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the process does not serve");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }
}

fn node(role: Role) -> QemuMetadata {
    QemuMetadata::new(
        "http://127.0.0.1:8080",
        Seat::new(role, 0).unwrap().cluster_mac(),
    )
    .unwrap()
}

fn http(request: &str) -> String {
    let mut stream = std::net::TcpStream::connect("127.0.0.1:8080").unwrap();
    stream
        .write_all(format!("{request}\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_learns_who_it_is() {
    let _turn = HOST_PORTS.lock().await;
    let _served = Served::start();
    let worker = node(Role::Worker).this_instance().await.unwrap();
    assert_eq!(
        (worker.name.as_str(), worker.role),
        ("worker-0", Role::Worker)
    );
    assert_eq!(worker.vpc_ip.to_string(), "10.42.2.10");
    let names: Vec<_> = node(Role::Worker)
        .list()
        .await
        .unwrap()
        .into_iter()
        .map(|i| i.name.to_string())
        .collect();
    assert_eq!(names, ["control-plane-0", "worker-0"]);
    assert!(
        bcrypt::verify(
            "secret of sixteen",
            &node(Role::Worker).init_secret_hash().await.unwrap()
        )
        .unwrap()
    );
    let endpoint = node(Role::Worker).endpoint().await.unwrap();
    assert_eq!(
        (endpoint.host.as_str(), endpoint.port),
        ("10.42.1.10", 6443)
    );
    assert!(http("GET /self?mac=52:54:00:42:09:09 HTTP/1.1").starts_with("HTTP/1.1 404"));
    assert!(http("GET /self HTTP/1.1").starts_with("HTTP/1.1 404"));
    assert!(http("POST /peers HTTP/1.1").starts_with("HTTP/1.1 405"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mirror_gives_parts_of_files_and_nothing_beside_them() {
    let _turn = HOST_PORTS.lock().await;
    let served = Served::start();
    let path = "/components/v1.20.2/bin/linux/amd64/kubelet";
    let whole = http(&format!("GET {path} HTTP/1.1"));
    assert!(whole.starts_with("HTTP/1.1 200") && whole.ends_with("kubelet\n"));
    let part = http(&format!("GET {path} HTTP/1.1\r\nrange: bytes=8-15"));
    assert!(
        part.starts_with("HTTP/1.1 206")
            && part
                .to_lowercase()
                .contains("content-range: bytes 8-15/8000"),
        "{part}"
    );
    assert!(part.ends_with("\r\n\r\nkubelet\n"), "{part}");
    let beyond = http(&format!("GET {path} HTTP/1.1\r\nrange: bytes=8000-"));
    assert!(beyond.starts_with("HTTP/1.1 416"), "{beyond}");
    let head = http(&format!("HEAD {path} HTTP/1.1"));
    assert!(
        head.to_lowercase().contains("content-length: 8000") && head.ends_with("\r\n\r\n"),
        "{head}"
    );
    std::fs::write(served.lab.path().join("secret"), "secret").unwrap();
    for path in [
        "../secret",
        "%2e%2e/secret",
        "v1.20.2/../../secret",
        "/etc/passwd",
        "",
        "v1.20.2",
        ".",
    ] {
        let answer = http(&format!("GET /components/{path} HTTP/1.1"));
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn machines_reach_each_other_and_a_capture_shows_it() {
    let _turn = HOST_PORTS.lock().await;
    let served = Served::start();
    // the command derives its run directory from the workspace: lead it to the one in use
    let file = served.lab.path().join("network.pcap");
    let mut watcher = UnixStream::connect(served.run.join("capture")).unwrap();
    let mut header = [0; 24];
    watcher.read_exact(&mut header).unwrap();
    std::fs::write(&file, header).unwrap();

    let (mut alice, mut bob) = (
        UnixStream::connect(served.run.join("switch")).unwrap(),
        UnixStream::connect(served.run.join("switch")).unwrap(),
    );
    bob.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let frame = [
        &[0xff_u8; 6][..],
        &[0x52, 0x54, 0, 0x42, 1, 10],
        &[8, 0],
        b"hello bob",
    ]
    .concat();
    let framed = [
        &u32::try_from(frame.len()).unwrap().to_be_bytes()[..],
        &frame,
    ]
    .concat();
    // bob's port may be a moment later than his connection
    let mut received = vec![0; framed.len()];
    for _ in 0..50 {
        alice.write_all(&framed).unwrap();
        bob.set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        if bob.read_exact(&mut received).is_ok() {
            break;
        }
    }
    assert_eq!(received, framed);
    let mut record = vec![0; 16 + frame.len()];
    watcher.read_exact(&mut record).unwrap();
    assert_eq!(record[16..], frame);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_up_is_continued_and_taken_down() {
    let _turn = HOST_PORTS.lock().await;
    let lab = Lab::configured();
    let arguments = lab.up();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    // the image does not boot: `up` waits for the bootstrapper until it is interrupted
    let interrupted = |lab: &Lab| {
        let mut child = lab
            .command(&arguments)
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
        while !said.contains("boot to bootstrapper") {
            assert_ne!(
                stderr.read_line(&mut said).unwrap(),
                0,
                "ended early: {said}"
            );
        }
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        stderr.read_to_string(&mut said).unwrap();
        (child.wait().unwrap().code(), said)
    };
    let first = interrupted(&lab);
    assert_eq!(first.0, Some(130), "{first:?}");
    assert!(
        first
            .1
            .contains("hint: the same command continues where it stopped"),
        "{first:?}"
    );
    let status = |lab: &Lab| -> serde_json::Value {
        serde_json::from_str(&lab.run(&["mini", "status", "-o", "json"]).stdout).unwrap()
    };
    let before = status(&lab);
    let pid = |status: &serde_json::Value| status["machines"][0]["pid"].as_i64();
    assert!(
        before["server"].is_number() && pid(&before).is_some(),
        "{before}"
    );
    let secret = std::fs::read(lab.file("constellation-state.yaml")).unwrap();

    let second = interrupted(&lab);
    assert_eq!(second.0, Some(130), "{second:?}");
    let after = status(&lab);
    assert_eq!(
        (pid(&after), &after["server"]),
        (pid(&before), &before["server"]),
        "the same processes"
    );
    assert_eq!(
        std::fs::read(lab.file("constellation-state.yaml")).unwrap(),
        secret
    );

    let down = lab.run(&["mini", "down", "--yes"]);
    assert_eq!(down.code, Some(0), "{down:?}");
    assert_only_the_config_is_left(&lab);
    for pid in [pid(&before).unwrap(), before["server"].as_i64().unwrap()] {
        assert!(has_ended(pid), "{pid} still runs");
    }
}

/// Gone, or dead and not yet fetched by its parent.
fn has_ended(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_none_or(|(_, rest)| rest.starts_with('Z'))
}
