//! A host that lacks something: one clear sentence, exit code 5, and nothing left running.

use std::net::TcpListener;
use std::process::Command;

use crate::harness::{HOST_PORTS, Lab, Ran};

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
    drop(listener);
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
            .contains("error: too little disk space: 2 state disk(s) need 4096 MiB, "),
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
