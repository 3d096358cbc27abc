use std::time::Duration;

use super::*;

const ALICE: [u8; 6] = [0x52, 0x54, 0, 0x42, 1, 10];
const BOB: [u8; 6] = [0x52, 0x54, 0, 0x42, 2, 10];
const ALL: [u8; 6] = [0xff; 6];

fn frame(to: [u8; 6], from: [u8; 6], payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &[0x08, 0x00], payload].concat()
}

struct Lab {
    switch: Switch,
    ports: std::path::PathBuf,
    captures: std::path::PathBuf,
    _directory: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (ports, captures) = (
            directory.path().join("ports"),
            directory.path().join("captures"),
        );
        let switch = Switch::new();
        tokio::spawn(switch.clone().serve(UnixListener::bind(&ports).unwrap()));
        tokio::spawn(
            switch
                .clone()
                .serve_captures(UnixListener::bind(&captures).unwrap()),
        );
        Self {
            switch,
            ports,
            captures,
            _directory: directory,
        }
    }

    async fn machine(&self) -> UnixStream {
        let before = self.switch.state().next;
        let stream = UnixStream::connect(&self.ports).await.unwrap();
        while self.switch.state().next == before {
            tokio::task::yield_now().await;
        }
        stream
    }
}

async fn send(stream: &mut UnixStream, frame: &[u8]) {
    stream
        .write_u32(u32::try_from(frame.len()).unwrap())
        .await
        .unwrap();
    stream.write_all(frame).await.unwrap();
}

async fn receive(stream: &mut UnixStream) -> Vec<u8> {
    let within = Duration::from_secs(5);
    let length = tokio::time::timeout(within, stream.read_u32())
        .await
        .unwrap()
        .unwrap();
    let mut frame = vec![0; length as usize];
    stream.read_exact(&mut frame).await.unwrap();
    frame
}

#[tokio::test]
async fn a_known_address_gets_its_frames_alone() {
    let lab = Lab::new();
    let (mut alice, mut bob, mut eve) = (
        lab.machine().await,
        lab.machine().await,
        lab.machine().await,
    );
    let call = frame(ALL, ALICE, b"who is bob");
    send(&mut alice, &call).await;
    assert_eq!(receive(&mut bob).await, call);
    assert_eq!(receive(&mut eve).await, call);

    let answer = frame(ALICE, BOB, b"me");
    send(&mut bob, &answer).await;
    assert_eq!(receive(&mut alice).await, answer);

    // eve's next frame is this one: she got neither the answer nor her own
    send(&mut eve, &frame(ALL, [2; 6], b"hello")).await;
    let last = frame(ALL, BOB, b"last");
    assert_eq!(receive(&mut bob).await, frame(ALL, [2; 6], b"hello"));
    send(&mut bob, &last).await;
    assert_eq!(receive(&mut eve).await, last);
}

#[tokio::test]
async fn an_address_is_forgotten_with_its_port() {
    let lab = Lab::new();
    let (mut alice, mut bob) = (lab.machine().await, lab.machine().await);
    send(&mut alice, &frame(ALL, ALICE, b"here")).await;
    receive(&mut bob).await;
    drop(alice);
    while lab.switch.state().ports.len() > 1 {
        tokio::task::yield_now().await;
    }
    // alice came back on another port, and is found by flooding
    let mut alice = lab.machine().await;
    let hello = frame(ALICE, BOB, b"again");
    send(&mut bob, &hello).await;
    assert_eq!(receive(&mut alice).await, hello);
}

#[tokio::test]
async fn a_port_that_breaks_the_framing_is_closed() {
    let lab = Lab::new();
    for length in [0_u32, 13, u32::try_from(MAX_FRAME).unwrap() + 1, u32::MAX] {
        let mut port = lab.machine().await;
        port.write_u32(length).await.unwrap();
        let mut rest = Vec::new();
        tokio::time::timeout(Duration::from_secs(5), port.read_to_end(&mut rest))
            .await
            .unwrap()
            .unwrap();
        assert!(rest.is_empty(), "{length}");
    }
    // and the switch still works
    let (mut alice, mut bob) = (lab.machine().await, lab.machine().await);
    send(&mut alice, &frame(ALL, ALICE, b"x")).await;
    receive(&mut bob).await;
}

#[tokio::test]
async fn a_machine_that_does_not_read_holds_nobody_up() {
    let lab = Lab::new();
    let (mut alice, _deaf, mut bob) = (
        lab.machine().await,
        lab.machine().await,
        lab.machine().await,
    );
    let big = vec![0; 60_000];
    for number in 0..2_000_u32 {
        send(
            &mut alice,
            &[&frame(ALL, ALICE, &number.to_be_bytes())[..], &big].concat(),
        )
        .await;
        receive(&mut bob).await;
    }
}

#[tokio::test]
async fn the_table_of_addresses_is_bounded() {
    let switch = Switch::new();
    for number in 0..3 * u32::try_from(MAX_ADDRESSES).unwrap() {
        let [a, b, c, d] = number.to_be_bytes();
        switch.forward(0, Bytes::from(frame(ALL, [2, 0, a, b, c, d], b"")));
    }
    assert!(switch.state().addresses.len() <= MAX_ADDRESSES);
}

#[tokio::test]
async fn a_capture_is_a_pcap_file() {
    let lab = Lab::new();
    let (mut alice, mut bob) = (lab.machine().await, lab.machine().await);
    let mut reader = UnixStream::connect(&lab.captures).await.unwrap();
    let mut header = [0; 24];
    reader.read_exact(&mut header).await.unwrap();
    assert_eq!(header[..4], 0xa1b2_c3d4_u32.to_le_bytes());
    assert_eq!(header[20..], 1_u32.to_le_bytes());
    let sent = frame(ALL, ALICE, b"seen");
    send(&mut alice, &sent).await;
    receive(&mut bob).await;
    let mut record = vec![0; 16 + sent.len()];
    reader.read_exact(&mut record).await.unwrap();
    assert_eq!(
        record[8..12],
        u32::try_from(sent.len()).unwrap().to_le_bytes()
    );
    assert_eq!(record[16..], sent);
}
