use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A server that answers every request with the same bytes.
async fn hostile(answer: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"GET /"));
            // the client may hang up in the middle
            if stream.write_all(&answer).await.is_ok() {
                assert!(stream.shutdown().await.is_ok() || read > 0);
            }
        }
    });
    address
}

fn client(address: SocketAddr) -> QemuMetadata {
    QemuMetadata::new(
        &format!("http://{address}"),
        Mac([0x52, 0x54, 0, 0x42, 1, 10]),
    )
    .unwrap()
}

fn ok(body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

#[tokio::test]
async fn a_good_answer_is_read() {
    let body = r#"{"name":"worker-0","providerID":"qemu:///hostname/worker-0","role":"worker","vpcIP":"10.42.2.10"}"#;
    let instance = client(hostile(ok(body)).await)
        .this_instance()
        .await
        .unwrap();
    assert_eq!(instance.name.as_str(), "worker-0");
}

#[tokio::test]
async fn an_answer_of_another_form_is_refused() {
    for body in [
        "",
        "[]",
        r#"{"name":"Worker 0","providerID":"q","role":"worker","vpcIP":"10.42.2.10"}"#,
        r#"{"name":"worker-0","providerID":"q","role":"root","vpcIP":"10.42.2.10"}"#,
        r#"{"name":"worker-0","providerID":"q","role":"worker","vpcIP":"127.0.0.1"}"#,
    ] {
        let error = client(hostile(ok(body)).await)
            .this_instance()
            .await
            .unwrap_err();
        assert!(
            matches!(error, MetadataError::Refused { .. }),
            "{body}: {error}"
        );
    }
}

#[tokio::test]
async fn a_status_other_than_ok_is_refused() {
    let answer =
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"
            .to_vec();
    let error = client(hostile(answer).await).list().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the metadata service's answer for the list of machines is refused: status 302"
    );
}

#[tokio::test]
async fn an_answer_without_end_is_cut() {
    let mut answer = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    answer.resize(answer.len() + MAX_ANSWER + 1, b' ');
    assert!(matches!(
        client(hostile(answer).await).list().await,
        Err(MetadataError::Fetch { .. })
    ));
}

#[tokio::test]
async fn headers_without_end_are_cut() {
    let mut answer = b"HTTP/1.1 200 OK\r\nx: ".to_vec();
    answer.resize(answer.len() + (1 << 20), b'x');
    assert!(matches!(
        client(hostile(answer).await).list().await,
        Err(MetadataError::Fetch { .. })
    ));
}

#[tokio::test]
async fn only_a_bcrypt_hash_of_bounded_cost_is_a_hash() {
    let hash = bcrypt::hash("secret", 4).unwrap();
    assert_eq!(
        client(hostile(ok(&hash)).await)
            .init_secret_hash()
            .await
            .unwrap(),
        hash
    );
    let dear = hash.replacen("$04$", "$31$", 1);
    for bad in ["", "secret", dear.as_str(), &hash[..59]] {
        let answer = client(hostile(ok(bad)).await).init_secret_hash().await;
        assert!(
            matches!(answer, Err(MetadataError::Refused { .. })),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn an_endpoint_is_a_name_or_an_address() {
    for (body, good) in [
        (r#"{"host":"10.42.1.10","port":6443}"#, true),
        (r#"{"host":"api.example.org","port":6443}"#, true),
        (r#"{"host":"::1","port":6443}"#, true),
        (r#"{"host":"","port":6443}"#, false),
        (r#"{"host":"a b","port":6443}"#, false),
        (r#"{"host":"10.42.1.10","port":0}"#, false),
    ] {
        assert_eq!(
            client(hostile(ok(body)).await).endpoint().await.is_ok(),
            good,
            "{body}"
        );
    }
}

#[test]
fn the_interface_is_told_by_its_mac() {
    let directory = tempfile::tempdir().unwrap();
    for (name, mac) in [
        ("lo", "00:00:00:00:00:00"),
        ("ens3", "52:54:00:10:01:0a"),
        ("ens4", "52:54:00:42:01:0a"),
    ] {
        std::fs::create_dir(directory.path().join(name)).unwrap();
        std::fs::write(
            directory.path().join(name).join("address"),
            format!("{mac}\n"),
        )
        .unwrap();
    }
    let found = ClusterInterface::find_in(directory.path()).unwrap();
    assert_eq!(
        found,
        ClusterInterface {
            name: "ens4".to_owned(),
            mac: Mac([0x52, 0x54, 0, 0x42, 1, 0x0a])
        }
    );
    std::fs::remove_dir_all(directory.path().join("ens4")).unwrap();
    assert!(matches!(
        ClusterInterface::find_in(directory.path()),
        Err(SetUpError::NoInterface)
    ));
}

#[test]
fn only_plain_http_urls_are_taken() {
    for bad in [
        "https://10.0.2.2:8080",
        "http://10.0.2.2:8080/x",
        "10.0.2.2:8080",
        "",
    ] {
        assert!(QemuMetadata::new(bad, Mac([0; 6])).is_err(), "{bad}");
    }
    assert!(QemuMetadata::new(METADATA_URL, Mac([0; 6])).is_ok());
}
