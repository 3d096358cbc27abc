//! The background process: metadata, mirror, switch, capture; seen as a node and as a machine see it.

use std::io::{BufRead, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use cloud::qemu::Seat;
use cloud::qemu::client::QemuMetadata;
use cloud::qemu::machine::Machine;
use cluster::{Metadata, Role};

use crate::harness::{HOST_PORTS, Lab, Ran, await_end};
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
            "runDirectory": run,
        });
        std::fs::write(lab.file("constellation-mini/plan.json"), plan.to_string()).unwrap();
        let mut server = lab.command(&["mini", "serve"]).spawn().unwrap();
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
    // one capture that ends by itself, and one that goes to a pipe until Ctrl-C
    let file = served.lab.path().join("network.pcap");
    let write = ["mini", "capture", "--duration", "20", "-w"];
    let mut to_file = served
        .lab
        .command(&write)
        .arg(&file)
        .env("XDG_RUNTIME_DIR", "/")
        .spawn()
        .unwrap();
    let mut to_pipe = served
        .lab
        .command(&["mini", "capture"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut piped = to_pipe.stdout.take().unwrap();
    let mut header = [0; 24];
    piped.read_exact(&mut header).unwrap();
    assert_eq!(header[..4], 0xa1b2_c3d4_u32.to_le_bytes());

    let (mut alice, mut bob) = (
        UnixStream::connect(served.run.join("switch")).unwrap(),
        UnixStream::connect(served.run.join("switch")).unwrap(),
    );
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
    // bob's port may be a moment later than his connection, and the capture into the file as well
    let written = || std::fs::read(&file).unwrap_or_default();
    let mut received = vec![0; framed.len()];
    bob.set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    for _ in 0..100 {
        alice.write_all(&framed).unwrap();
        if bob.read_exact(&mut received).is_ok() && written().len() > header.len() {
            break;
        }
    }
    assert_eq!(received, framed);

    assert!(to_file.wait().unwrap().success());
    let interrupt = rustix::process::Pid::from_raw(i32::try_from(to_pipe.id()).unwrap()).unwrap();
    rustix::process::kill_process(interrupt, rustix::process::Signal::INT).unwrap();
    let mut rest = header.to_vec();
    piped.read_to_end(&mut rest).unwrap();
    assert!(to_pipe.wait().unwrap().success());
    for capture in [written(), rest] {
        assert_eq!(capture[..24], header);
        let length = u32::try_from(frame.len()).unwrap().to_le_bytes();
        assert_eq!(capture[32..40], [length, length].concat());
        assert_eq!(capture[40..40 + frame.len()], frame);
    }
}

/// A `mini up` that waits for the bootstrapper: for good, because the image does not boot.
struct Waiting {
    child: std::process::Child,
    stderr: std::io::BufReader<std::process::ChildStderr>,
    said: String,
}

impl Waiting {
    fn start(lab: &Lab) -> Self {
        let arguments = lab.up();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
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
        Self {
            child,
            stderr,
            said,
        }
    }

    /// Waits for its end; gives the exit code and what it said.
    fn end(mut self) -> (Option<i32>, String) {
        let status = await_end(&mut self.child);
        self.stderr.read_to_string(&mut self.said).unwrap();
        (status.code(), self.said)
    }

    fn interrupt(self) -> (Option<i32>, String) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
        self.end()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_up_is_continued_and_taken_down() {
    let _turn = HOST_PORTS.lock().await;
    let lab = Lab::configured();
    let interrupted = |lab: &Lab| Waiting::start(lab).interrupt();
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

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_machine_ends_up_and_goes_on_with_the_next() {
    let _turn = HOST_PORTS.lock().await;
    let lab = Lab::configured();
    let waiting = Waiting::start(&lab);
    let plan: serde_json::Value =
        serde_json::from_slice(&std::fs::read(lab.file("constellation-mini/plan.json")).unwrap())
            .unwrap();
    let run = Path::new(plan["runDirectory"].as_str().unwrap());
    let seat = Seat::new(Role::ControlPlane, 0).unwrap();
    let machine = Machine::new(seat, &lab.file("constellation-mini"), run);
    let mut control = machine.control().await.unwrap();
    control
        .execute("stop", serde_json::json!({}))
        .await
        .unwrap();
    drop(control);
    let (code, said) = tokio::task::spawn_blocking(|| waiting.end()).await.unwrap();
    assert_eq!(code, Some(5), "{said}");
    assert!(
        said.contains("error: control-plane-0 is paused\nhint: the same command lets it go on"),
        "{said}"
    );

    let again = Waiting::start(&lab);
    let status = machine.control().await.unwrap().status().await.unwrap();
    assert_eq!(status, "running");
    again.interrupt();
    let down = lab.run(&["mini", "down", "--yes"]);
    assert_eq!(down.code, Some(0), "{down:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn down_finds_every_process_from_another_session_and_without_records() {
    let _turn = HOST_PORTS.lock().await;
    for lost in [
        &[][..],
        &[
            "plan.json",
            "serve.pid",
            "control-plane-0/qemu.pid",
            "control-plane-0/tpm.pid",
        ],
    ] {
        let lab = Lab::configured();
        Waiting::start(&lab).interrupt();
        let mini = lab.file("constellation-mini");
        let pid = |file: &str| -> i64 {
            let text = std::fs::read_to_string(mini.join(file)).unwrap();
            text.trim().parse().unwrap()
        };
        let pids = [
            "serve.pid",
            "control-plane-0/qemu.pid",
            "control-plane-0/tpm.pid",
        ]
        .map(pid);
        for file in lost {
            std::fs::remove_file(mini.join(file)).unwrap();
        }
        let down: Ran = lab
            .command(&["mini", "down", "--yes"])
            .env("XDG_RUNTIME_DIR", lab.path())
            .output()
            .unwrap()
            .into();
        assert_eq!(down.code, Some(0), "{down:?}");
        for pid in pids {
            assert!(has_ended(pid), "{pid} still runs: {down:?}");
        }
        assert!(!mini.exists());
        if lost.is_empty() {
            assert_only_the_config_is_left(&lab);
        }
    }
}

/// Gone, or dead and not yet fetched by its parent.
fn has_ended(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_none_or(|(_, rest)| rest.starts_with('Z'))
}
