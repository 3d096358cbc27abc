use proptest::prelude::*;
use tokio::io::duplex;

use super::*;

const KINDS: [Kind; 3] = [Kind::Hello, Kind::Evidence, Kind::Verdict];

#[tokio::test]
async fn a_frame_of_the_largest_size_passes_and_one_byte_more_does_not() {
    for kind in KINDS {
        let body = vec![9; kind.limit()];
        let frame = encode(kind, &body).unwrap();
        assert_eq!(receive(&mut frame.as_slice(), kind).await.unwrap(), body);
        let body = vec![9; kind.limit() + 1];
        assert!(matches!(
            encode(kind, &body),
            Err(FrameError::OwnTooLong { .. })
        ));
        let length = u32::try_from(body.len()).unwrap();
        let frame = [&length.to_be_bytes()[..], &body].concat();
        let mut rest = frame.as_slice();
        let error = receive(&mut rest, kind).await.unwrap_err();
        assert!(matches!(error, FrameError::TooLong { length: found, .. } if found == length));
        assert_eq!(rest.len(), body.len(), "the body was read");
    }
}

#[tokio::test]
async fn what_follows_a_frame_stays() {
    let bytes = [&encode(Kind::Hello, b"one").unwrap()[..], b"rest"].concat();
    let mut reader = bytes.as_slice();
    assert_eq!(receive(&mut reader, Kind::Hello).await.unwrap(), b"one");
    assert_eq!(reader, b"rest");
}

#[tokio::test]
async fn a_broken_connection_is_told_apart_from_a_closed_one() {
    struct Broken;
    impl AsyncRead for Broken {
        fn poll_read(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            _: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            std::task::Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
        }
    }
    assert!(matches!(
        receive(&mut Broken, Kind::Hello).await,
        Err(FrameError::Read {
            kind: Kind::Hello,
            ..
        })
    ));
    let (mut near, far) = duplex(64);
    drop(far);
    assert!(matches!(
        receive(&mut near, Kind::Verdict).await,
        Err(FrameError::Truncated(Kind::Verdict))
    ));
    assert!(matches!(
        send(&mut near, Kind::Verdict, b"x").await,
        Err(FrameError::Write { .. })
    ));
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        fuzz(&bytes);
    }

    #[test]
    fn a_frame_round_trips(body in proptest::collection::vec(any::<u8>(), 0..1024)) {
        fuzz(&encode(Kind::Verdict, &body).unwrap());
    }
}
