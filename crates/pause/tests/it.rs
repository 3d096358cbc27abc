//! The program itself: it waits, reaps a child it inherits, and stops when told to.

use std::{
    process::{Child, Command, ExitStatus},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

fn started() -> Child {
    let child = Command::new(env!("CARGO_BIN_EXE_pause")).spawn().unwrap();
    // Wait until it catches SIGTERM: SigCgt is a bit mask in /proc.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !catches(child.id(), 15) {
        assert!(
            Instant::now() < deadline,
            "pause never set its signal handlers"
        );
        sleep(Duration::from_millis(5));
    }
    child
}

fn catches(pid: u32, signal: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & (1 << (signal - 1)) != 0
}

fn ended(child: &mut Child) -> ExitStatus {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "pause did not stop");
        sleep(Duration::from_millis(5));
    }
}

#[test]
fn waits_until_sigterm_and_ends_with_success() {
    let mut child = started();
    sleep(Duration::from_millis(50));
    assert!(child.try_wait().unwrap().is_none(), "it must wait");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    // A stray SIGCHLD must not end the pod.
    kill_process(pid, Signal::CHILD).unwrap();
    sleep(Duration::from_millis(50));
    assert!(
        child.try_wait().unwrap().is_none(),
        "SIGCHLD must not end it"
    );
    kill_process(pid, Signal::TERM).unwrap();
    assert!(ended(&mut child).success());
}

#[test]
fn reaps_a_child_it_inherits() {
    // sh starts a child and becomes pause: the child's end is then pause's to collect.
    let mut child = Command::new("/bin/sh")
        .args(["-c", "sleep 0.3 & exec \"$0\"", env!("CARGO_BIN_EXE_pause")])
        .spawn()
        .unwrap();
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut seen = false;
    loop {
        let now = std::fs::read_to_string(&children).unwrap();
        seen |= !now.trim().is_empty();
        if seen && now.trim().is_empty() {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "the ended child was never reaped: {now}"
        );
        sleep(Duration::from_millis(20));
    }
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert!(ended(&mut child).success());
}
