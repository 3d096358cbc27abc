//! `backup restore` against a first node that is busy, that breaks connections, and that would go on with what was begun before.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use proto::backup::api_server::{Api as BackupApi, ApiServer as BackupServer};
use proto::backup::{CreateRequest, UploadRequest, UploadResponse};
use proto::init::api_server::{Api as InitApi, ApiServer as InitServer};
use proto::init::{InitRequest, InitResponse};
use testkit::tee::SoftTpm;
use tonic::{Request, Response, Status, Streaming};

use crate::backup::{Pieces, Scene};
use crate::harness::Ran;

/// How it answers, in turn; after the last word everything is refused for good.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Word {
    /// To an upload: another is under way.
    Busy,
    /// To an upload, half-way, or to an init that is not begun: the connection breaks.
    Breaks,
    /// To an upload: it is there.
    Whole,
    /// To an init: begun, and then the connection breaks.
    Begun,
    /// To an upload: an init was begun.
    TooLate,
}

/// What came, and what was answered.
#[derive(Debug, PartialEq)]
enum Came {
    Upload(Word, Vec<u8>),
    Init(Option<Word>, Box<InitRequest>),
}

#[derive(Clone)]
struct Node {
    words: Arc<Mutex<Vec<Word>>>,
    came: Arc<Mutex<Vec<Came>>>,
}

impl Node {
    fn next(&self) -> Option<Word> {
        let mut words = self.words.lock().unwrap();
        (!words.is_empty()).then(|| words.remove(0))
    }

    async fn serve(words: &[Word], scene: &Scene, address: Ipv4Addr) -> Self {
        let node = Self {
            words: Arc::new(Mutex::new(words.to_vec())),
            came: Arc::default(),
        };
        let server = channel::Server::node(Arc::new(SoftTpm::boot(&scene.lab.image))).unwrap();
        let listener = tokio::net::TcpListener::bind((address, 9000))
            .await
            .unwrap();
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(InitServer::new(node.clone()))
                .add_service(BackupServer::new(node.clone()))
                .serve_with_incoming(channel::tonic::incoming(listener, server)),
        );
        let state = scene.lab.file("constellation-state.yaml");
        let text = std::fs::read_to_string(&state).unwrap();
        std::fs::write(&state, text.replace("127.44.9.9", &address.to_string())).unwrap();
        // nodes of a local cluster have a mirror for the components of a directory
        std::fs::create_dir_all(scene.lab.file("constellation-mini")).unwrap();
        node
    }
}

#[tonic::async_trait]
impl BackupApi for Node {
    type CreateStream = Pieces;

    async fn create(&self, _request: Request<CreateRequest>) -> Result<Response<Pieces>, Status> {
        Err(Status::failed_precondition("no control plane yet"))
    }

    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<UploadResponse>, Status> {
        let mut messages = request.into_inner();
        let first = messages.message().await?.unwrap();
        assert_eq!(first.init_secret, [0x5a; 32]);
        let word = self.next().unwrap();
        let mut data = Vec::new();
        let answer = match word {
            Word::Busy => Err(Status::resource_exhausted("another upload is under way")),
            Word::TooLate => Err(Status::failed_precondition("taken")),
            Word::Breaks => {
                data = messages.message().await?.unwrap().data;
                Err(Status::unavailable("gone"))
            }
            Word::Whole => {
                while let Some(message) = messages.message().await? {
                    data.extend(message.data);
                }
                Ok(Response::new(UploadResponse {
                    sha256: digest(&SHA256, &data).as_ref().to_vec(),
                }))
            }
            Word::Begun => panic!("an upload where an init was expected"),
        };
        self.came.lock().unwrap().push(Came::Upload(word, data));
        answer
    }
}

#[tonic::async_trait]
impl InitApi for Node {
    type InitStream = tokio_stream::Iter<std::vec::IntoIter<Result<InitResponse, Status>>>;

    async fn init(
        &self,
        request: Request<InitRequest>,
    ) -> Result<Response<Self::InitStream>, Status> {
        let word = self.next();
        let came = Came::Init(word, Box::new(request.into_inner()));
        self.came.lock().unwrap().push(came);
        match word {
            Some(Word::Breaks) => Err(Status::unavailable("gone")),
            Some(Word::Begun) => {
                let broken = vec![Err(Status::unavailable("gone"))];
                Ok(Response::new(tokio_stream::iter(broken)))
            }
            None => Err(Status::internal("the disk can not be opened")),
            Some(word) => panic!("an init where {word:?} was expected"),
        }
    }
}

async fn run(scene: &Scene, arguments: &[&str]) -> Ran {
    let mut command = scene.lab.command(arguments);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    output.await.unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_upload_and_an_init_that_was_not_begun_are_repeated_with_the_backup() {
    let scene = Scene::new();
    scene.write_state(false);
    let path = scene.lab.path().join("b");
    let file = scene.whole();
    std::fs::write(&path, &file).unwrap();
    let words = [
        Word::Breaks,
        Word::Busy,
        Word::Whole,
        Word::Breaks,
        Word::Whole,
        Word::Begun,
        Word::TooLate,
    ];
    let node = Node::serve(&words, &scene, Ipv4Addr::new(127, 44, 9, 10)).await;
    let ran = run(&scene, &["backup", "restore", path.to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(6), "{ran:?}");
    assert!(ran.stderr.contains("the disk can not be opened"), "{ran:?}");
    let came = node.came.lock().unwrap();
    let [
        Came::Upload(Word::Breaks, _),
        Came::Upload(Word::Busy, _),
        Came::Upload(Word::Whole, first),
        Came::Init(Some(Word::Breaks), one),
        Came::Upload(Word::Whole, second),
        Came::Init(Some(Word::Begun), two),
        Came::Upload(Word::TooLate, _),
        Came::Init(None, three),
    ] = came.as_slice()
    else {
        panic!("{came:?}");
    };
    assert!(*first == file && *second == file);
    assert_eq!(one.restore_sha256, digest(&SHA256, &file).as_ref());
    assert!(one == two && two == three);
}

/// The node would go on with what was begun, whatever it is asked for now.
#[tokio::test(flavor = "multi_thread")]
async fn an_init_that_was_begun_otherwise_is_not_taken_for_a_restore_nor_the_other_way_round() {
    let scene = Scene::new();
    scene.write_state(false);
    let (one, other) = (scene.lab.path().join("b"), scene.lab.path().join("c"));
    std::fs::write(&one, scene.whole()).unwrap();
    std::fs::write(&other, scene.whole()).unwrap();
    let (one, other) = (one.to_str().unwrap(), other.to_str().unwrap());
    let node = Node::serve(&[], &scene, Ipv4Addr::new(127, 44, 9, 11)).await;
    let came = || node.came.lock().unwrap().len();
    let apply = ["apply", "--skip-phases=infrastructure", "--yes"];

    let ran = run(&scene, &apply).await;
    assert_eq!((ran.code, came()), (Some(6), 1), "{ran:?}");
    let ran = run(&scene, &["backup", "restore", one]).await;
    assert_eq!((ran.code, came()), (Some(4), 1), "{ran:?}");
    assert!(
        ran.stderr.contains("an init was begun without a backup"),
        "{ran:?}"
    );

    std::fs::remove_file(scene.lab.file("constellation-init.json")).unwrap();
    *node.words.lock().unwrap() = vec![Word::Whole];
    let ran = run(&scene, &["backup", "restore", one]).await;
    assert_eq!((ran.code, came()), (Some(6), 3), "{ran:?}");
    for arguments in [&apply[..], &["backup", "restore", other]] {
        let ran = run(&scene, arguments).await;
        assert_eq!((ran.code, came()), (Some(4), 3), "{ran:?}");
        assert!(
            ran.stderr.contains("an init was begun with the backup"),
            "{ran:?}"
        );
        assert!(ran.stderr.contains("constellation-init.json"), "{ran:?}");
    }
    // what was begun can be finished
    *node.words.lock().unwrap() = vec![Word::TooLate];
    let ran = run(&scene, &["backup", "restore", one]).await;
    assert_eq!((ran.code, came()), (Some(6), 5), "{ran:?}");
}
