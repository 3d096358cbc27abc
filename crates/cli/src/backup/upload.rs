//! Takes a backup to the machine that is to be the first node of a cluster made of it.

use std::path::Path;

use futures::{Stream, StreamExt as _};
use proto::backup::UploadRequest;
use proto::backup::api_client::ApiClient;
use tokio::io::AsyncReadExt as _;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::Restore;

const PIECE: usize = 256 * 1024;

/// What became of it.
pub(crate) enum Uploaded {
    /// It is there.
    Whole,
    /// The machine has begun an init, and takes nothing more: ours, if it knows the request.
    TooLate,
}

/// Sends the backup; what is sent is sealed, and only an init with the master secret can open it.
pub(crate) async fn upload(
    channel: Channel,
    init_secret: &[u8],
    restore: &Restore,
) -> Result<Uploaded, Status> {
    let file = open(&restore.path).await?;
    let first = UploadRequest {
        init_secret: init_secret.to_vec(),
        data: Vec::new(),
    };
    let messages = futures::stream::iter([first]).chain(pieces(file));
    let answer = match ApiClient::new(channel).upload(messages).await {
        Ok(answer) => answer.into_inner(),
        Err(status) if status.code() == Code::FailedPrecondition => return Ok(Uploaded::TooLate),
        Err(status) => return Err(status),
    };
    if answer.sha256 == restore.sha256 {
        Ok(Uploaded::Whole)
    } else {
        Err(Status::data_loss(
            "what arrived is not the backup that was checked",
        ))
    }
}

async fn open(path: &Path) -> Result<tokio::fs::File, Status> {
    tokio::fs::File::open(path)
        .await
        .map_err(|error| Status::data_loss(format!("read {}: {error}", path.display())))
}

/// A file that can not be read on is cut off, which its hash shows.
fn pieces(file: tokio::fs::File) -> impl Stream<Item = UploadRequest> {
    futures::stream::unfold(file, |mut file| async move {
        let mut data = vec![0; PIECE];
        let length = file.read(&mut data).await.unwrap_or(0);
        data.truncate(length);
        let message = UploadRequest {
            init_secret: Vec::new(),
            data,
        };
        (length > 0).then_some((message, file))
    })
}
