//! A host that lacks something: one clear sentence, exit code 5, and nothing left running.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{HOST_PORTS, Lab, Ran, await_end};

fn up(lab: &Lab) -> Ran {
    let arguments = lab.up();
    lab.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Runs `mini up` behind another program, such as `prlimit`.
fn up_behind(lab: &Lab, wrapper: &[&str]) -> Ran {
    let (program, arguments) = wrapper.split_first().unwrap();
    let mut command = Command::new(program);
    lab.dress(&mut command);
    command
        .args(arguments)
        .arg(Lab::binary())
        .arg("-C")
        .arg(lab.workspace())
        .args(lab.up());
    command.output().unwrap().into()
}

#[test]
fn a_missing_program_is_named_with_the_line_that_installs_it() {
    let lab = Lab::configured();
    let arguments = lab.up();
    let mut command = lab.command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let ran: Ran = command.env("PATH", "/nonexistent").output().unwrap().into();
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert_eq!(
        ran.stderr,
        "error: the program qemu-system-x86_64 is not installed\nhint: install it: apt-get install -y qemu-system-x86 ovmf swtpm swtpm-tools\n"
    );
}

#[test]
fn each_missing_program_and_firmware_is_named() {
    let lab = Lab::configured();
    let arguments = lab.up();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let programs = ["qemu-system-x86_64", "swtpm", "swtpm_setup"];
    for missing in programs {
        let bin = lab.path().join(format!("without-{missing}"));
        std::fs::create_dir(&bin).unwrap();
        for program in programs.iter().filter(|program| **program != missing) {
            std::os::unix::fs::symlink("/bin/true", bin.join(program)).unwrap();
        }
        let mut command = lab.command(&arguments);
        let ran: Ran = command.env("PATH", &bin).output().unwrap().into();
        assert_eq!(ran.code, Some(5), "{ran:?}");
        assert!(
            ran.stderr.starts_with(&format!(
                "error: the program {missing} is not installed\nhint: install it: apt-get install"
            )),
            "{ran:?}"
        );
    }
    for field in ["firmware", "nvram"] {
        let lab = Lab::configured();
        lab.change_config(
            "imageFormat: raw",
            &format!("imageFormat: raw\n    {field}: /nowhere/OVMF.fd"),
        );
        let ran = up(&lab);
        assert_eq!(ran.code, Some(5), "{ran:?}");
        assert!(
            ran.stderr.starts_with(
                "error: the UEFI firmware /nowhere/OVMF.fd is not installed\nhint: install it: apt-get install"
            ),
            "{ran:?}"
        );
        assert!(!lab.file("constellation-mini").exists());
    }
}

#[test]
fn a_command_that_is_killed_while_it_writes_leaves_no_half_file() {
    let lab = Lab::new();
    let image = lab.image_dir();
    let generate = [
        "config",
        "generate",
        "qemu",
        "-a",
        "qemu-vtpm",
        "--image-dir",
        image.to_str().unwrap(),
    ];
    let mut command = Command::new("prlimit");
    lab.dress(&mut command);
    // the kernel kills whoever writes beyond the limit
    let killed = command
        .args(["--fsize=100", Lab::binary(), "-C"])
        .arg(lab.workspace())
        .args(generate)
        .output()
        .unwrap();
    assert_eq!(killed.status.signal(), Some(25), "{killed:?}");
    assert!(!lab.file("constellation-conf.yaml").exists());
    let ran = lab.run(&generate);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_only_the_config_is_left(&lab);
}

#[test]
fn ctrl_c_at_the_question_of_down_is_heard_every_time() {
    let lab = Lab::configured();
    std::fs::create_dir(lab.file("constellation-mini")).unwrap();
    let question = format!(
        "{} -C {} mini down",
        Lab::binary(),
        lab.workspace().display()
    );
    for _ in 0..8 {
        // a terminal, which makes a signal of the third letter
        let mut command = Command::new("script");
        lab.dress(&mut command);
        let mut child = command
            .args(["--quiet", "--return", "--command", &question, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut screen = child.stdout.take().unwrap();
        let mut said = Vec::new();
        let mut byte = [0];
        while !said.ends_with(b"[y/N] ") {
            screen.read_exact(&mut byte).unwrap();
            said.push(byte[0]);
        }
        // open until the end: a terminal that goes away would be another reason to stop
        let mut keyboard = child.stdin.take().unwrap();
        keyboard.write_all(b"\x03").unwrap();
        assert_eq!(await_end(&mut child).code(), Some(130));
        drop(keyboard);
        assert!(lab.file("constellation-mini").exists());
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn too_little_memory_is_told() {
    let lab = Lab::configured();
    let ran = up_behind(&lab, &["prlimit", "--as=3000000000"]);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(
        ran.stderr
            .contains("error: too little memory: 2 machine(s) of 3072 MiB need "),
        "{ran:?}"
    );
    assert!(
        ran.stderr
            .contains("lower provider.qemu.memory in constellation-conf.yaml"),
        "{ran:?}"
    );
    assert!(!lab.file("constellation-mini").exists());
}

#[test]
fn a_busy_port_of_a_machine_is_told() {
    let _turn = HOST_PORTS.blocking_lock();
    let lab = Lab::configured();
    let _listener = TcpListener::bind("127.42.1.10:9999").unwrap();
    let ran = up(&lab);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(
        ran.stderr.contains("error: 127.42.1.10:9999 is busy: another program listens there, and machine control-plane-0 needs it"),
        "{ran:?}"
    );
    assert!(!lab.file("constellation-mini").exists());
}

#[test]
fn a_busy_port_of_the_metadata_server_is_told_and_the_run_can_be_taken_down() {
    let _turn = HOST_PORTS.blocking_lock();
    let lab = Lab::configured();
    let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
    let ran = up(&lab);
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(
        ran.stderr.contains("error: 127.0.0.1:8080 is busy"),
        "{ran:?}"
    );
    assert_eq!(mode(&lab.file("constellation-mini")), 0o700);

    // stopped between the state and the plan: that is continued, with the same secret
    let state = std::fs::read(lab.file("constellation-state.yaml")).unwrap();
    std::fs::remove_file(lab.file("constellation-mini/plan.json")).unwrap();
    let again = up(&lab);
    assert_eq!(again.code, Some(5), "{again:?}");
    assert!(
        again.stderr.contains("error: 127.0.0.1:8080 is busy"),
        "{again:?}"
    );
    assert_eq!(
        std::fs::read(lab.file("constellation-state.yaml")).unwrap(),
        state
    );

    drop(listener);
    // what a command that was killed while it wrote leaves
    for file in ["mastersecret.json", "init.json", "state.yaml", "conf.yaml"] {
        std::fs::write(lab.file(&format!("constellation-{file}.new")), "x").unwrap();
    }
    let down = lab.run(&["mini", "down", "--yes"]);
    assert_eq!(down.code, Some(0), "{down:?}");
    assert_only_the_config_is_left(&lab);
}

#[test]
fn a_full_disk_is_told_before_and_while_writing() {
    let lab = Lab::configured();
    let config = std::fs::read_to_string(lab.file("constellation-conf.yaml")).unwrap();
    // the workspace on a file system of a few MiB, in a namespace that ends with the command
    let on_small_disk = |size: &str, then: &str| -> Ran {
        let script = format!(
            "set -e; mount -t tmpfs -o size={size} small {workspace}; cd {workspace}; {then}",
            workspace = lab.workspace().display()
        );
        let mut command = Command::new("unshare");
        lab.dress(&mut command);
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .env("CONFIG", &config);
        command.output().unwrap().into()
    };
    let before = on_small_disk(
        "8m",
        &format!(
            "printf %s \"$CONFIG\" > constellation-conf.yaml; exec {} mini up --image-dir {}",
            Lab::binary(),
            lab.image_dir().display()
        ),
    );
    assert_eq!(before.code, Some(5), "{before:?}");
    assert!(
        before
            .stderr
            .contains("error: too little disk space: 2 state disk(s) need 4352 MiB, "),
        "{before:?}"
    );

    let while_writing = on_small_disk(
        "64k",
        &format!(
            "dd if=/dev/zero of=filler bs=4k 2>/dev/null || true; exec {} config generate qemu -k v1.20.2 --image-dir {}",
            Lab::binary(),
            lab.image_dir().display()
        ),
    );
    assert_eq!(while_writing.code, Some(5), "{while_writing:?}");
    assert!(
        while_writing.stderr.contains("No space left on device"),
        "{while_writing:?}"
    );
    assert!(
        while_writing.stderr.contains("hint: free some space"),
        "{while_writing:?}"
    );
}

#[test]
fn missing_components_are_told_with_their_path() {
    let lab = Lab::configured();
    std::fs::remove_file(lab.components().join("v1.20.2/bin/linux/amd64/kubelet")).unwrap();
    std::fs::write(
        lab.file("constellation-state.yaml"),
        format!(
            "version: v1\ninfrastructure:\n  clusterEndpoint: 127.43.0.1\n  initSecret: \"{}\"\n",
            "ab".repeat(32)
        ),
    )
    .unwrap();
    let ran = lab.run(&["apply"]);
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(
        ran.stderr.contains("v1.20.2/bin/linux/amd64/kubelet"),
        "{ran:?}"
    );
    assert!(
        ran.stderr
            .contains("the directory must be laid out like dl.k8s.io"),
        "{ran:?}"
    );
}

#[test]
fn down_asks_first_and_does_nothing_where_nothing_is() {
    let lab = Lab::configured();
    let nothing = lab.run(&["mini", "down"]);
    assert_eq!(
        (nothing.code, nothing.stderr.as_str()),
        (Some(0), "There is no local cluster in this workspace.\n")
    );
    std::fs::create_dir(lab.file("constellation-mini")).unwrap();
    let unasked = lab.run(&["mini", "down"]);
    assert_eq!(unasked.code, Some(2), "{unasked:?}");
    assert!(lab.file("constellation-mini").exists());
    assert_eq!(lab.run(&["mini", "down", "-y"]).code, Some(0));
    assert_only_the_config_is_left(&lab);
}

pub(crate) fn assert_only_the_config_is_left(lab: &Lab) {
    let names = |path| {
        std::fs::read_dir(path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(lab.workspace()), ["constellation-conf.yaml"]);
    assert_eq!(names(lab.runtime_dir()), [""; 0]);
}
