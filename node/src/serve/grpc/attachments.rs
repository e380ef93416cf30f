//! The `Attachments` service: files that belong to records.

use std::{sync::Arc, time::Duration};

use customhouse_client::contract::CHUNK_BYTES_MAX;
use customhouse_ledger::{attachment::pieces_of, hash::Hash, limits::PIECE_BYTES};
use customhouse_proto::v1::{self, attachments_server::Attachments, upload_request::Message};
use futures::{StreamExt as _, stream, stream::BoxStream};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{
    gate,
    pace::{Pace, Paced},
    submission::caller,
};
use crate::serve::{
    quotas::Place,
    reads::{apart, hash_field},
    refused::Refused,
};
use crate::{
    attachments::{
        AttachmentRefusal, ExpectedFile, FileOwner, IncomingFile, WholeFile, unclaimed_until,
    },
    identity::ClientIdentity,
    services::Services,
};

/// After which time an upload for which there is no room now may find some.
const RETRY_AFTER: Duration = Duration::from_secs(60);

#[derive(Clone)]
pub(super) struct AttachmentsService {
    pub(super) node: Arc<Services>,
    pub(super) pace: Pace,
    pub(super) shutdown: CancellationToken,
}

#[tonic::async_trait]
impl Attachments for AttachmentsService {
    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        let client = caller(&request)?;
        let place = request.extensions().get::<Place>().cloned();
        let place = place.ok_or_else(Refused::shutting_down)?;
        let messages = request.into_inner();
        let paced = Paced::new(self.pace, Some(&place));
        let upload = Upload { service: self, messages, place, taken: 0, paced };
        let (root, size) = upload.run(&client).await?;
        let root = root.0.to_vec();
        Ok(Response::new(v1::UploadResponse { root, size, complete: true }))
    }

    type DownloadStream = BoxStream<'static, Result<v1::DownloadResponse, Status>>;

    async fn download(
        &self,
        request: Request<v1::DownloadRequest>,
    ) -> Result<Response<Self::DownloadStream>, Status> {
        let v1::DownloadRequest { root, offset } = request.into_inner();
        let root = hash_field("root", &root)?;
        let attachments = self.node.attachments.clone();
        let opened = apart(move || attachments.read(&root)).await;
        let file = match opened.ok_or_else(Refused::shutting_down)? {
            Ok(Some(file)) => file,
            Ok(None) => return Err(not_here(&root).into()),
            Err(_) => return Err(unreadable(&root).into()),
        };
        if offset > file.size() {
            let size = file.size();
            let reason = format!("{offset}, the attachment has {size} bytes");
            return Err(Refused::field("offset", "OFFSET", reason).into());
        }
        let reading = Reading { node: Arc::clone(&self.node), file: Arc::new(file), offset };
        let pieces = stream::try_unfold(reading, Reading::next);
        Ok(Response::new(pieces.boxed()))
    }

    async fn stat(
        &self,
        request: Request<v1::StatRequest>,
    ) -> Result<Response<v1::StatResponse>, Status> {
        let client = caller(&request)?;
        let root = hash_field("root", &request.into_inner().root)?;
        let attachments = self.node.attachments.clone();
        let held = apart(move || attachments.held(&FileOwner::client(&client), &root)).await;
        let held = held.ok_or_else(Refused::shutting_down)?;
        Ok(Response::new(v1::StatResponse {
            complete: held.whole.is_some(),
            size: held.whole.unwrap_or_default(),
            uploaded: held.uploaded,
        }))
    }
}

/// An upload under way.
struct Upload<'a> {
    service: &'a AttachmentsService,
    messages: Streaming<v1::UploadRequest>,
    /// What the call holds of the client's share: the bytes of each message until it is taken.
    place: Place,
    /// Messages that were taken.
    taken: u64,
    paced: Paced,
}

impl Upload<'_> {
    async fn run(mut self, client: &ClientIdentity) -> Result<(Hash, u64), Refused> {
        let expected = match self.next().await? {
            Some(Message::Header(header)) => expected(&header)?,
            _ => return Err(Refused::field("header", "FIELD", "expected in the first message")),
        };
        self.give_back();
        let attachments = self.service.node.attachments.clone();
        if let Some(root) = expected.root {
            let (files, until) = (attachments.clone(), unclaimed_until(Duration::ZERO));
            if work(move || files.keep(&root, expected.size, until)).await? {
                return Ok((root, expected.size));
            }
        }
        let owner = FileOwner::client(client);
        let mut incoming = work(move || attachments.begin(&owner, expected)).await??;
        loop {
            match self.next().await? {
                Some(Message::Chunk(chunk)) => {
                    self.paced.came(chunk.len());
                    incoming = take(incoming, chunk).await?;
                    self.give_back();
                }
                Some(Message::Header(_)) => {
                    return Err(Refused::field("header", "FIELD", "is in the first message alone"));
                }
                None => break,
            }
        }
        Ok(work(move || incoming.finish(unclaimed_until(Duration::ZERO))).await??)
    }

    /// The message that came last is taken: its bytes are no longer of the client's share, and others may come.
    fn give_back(&mut self) {
        drop(self.place.take_request(self.taken));
        self.taken += 1;
    }

    /// The next message; nothing at the end.
    async fn next(&mut self) -> Result<Option<Message>, Refused> {
        let next = tokio::select! {
            next = self.paced.next(self.messages.message(), late) => next?,
            () = self.service.shutdown.cancelled() => return Err(Refused::shutting_down()),
        };
        let next = next.map_err(|status| {
            let (code, reason_code) = gate::reason_of(&status);
            Refused::new(code, reason_code, status.message())
        })?;
        match next {
            None => Ok(None),
            Some(v1::UploadRequest { message: Some(message) }) => Ok(Some(message)),
            Some(_) => Err(Refused::field("message", "FIELD", "a header or a chunk expected")),
        }
    }
}

fn late() -> Refused {
    let reason = "the upload comes too slowly. What has come is kept where its root was stated: upload the rest";
    Refused::new(Code::DeadlineExceeded, "UPLOAD_TIMEOUT", reason)
}

async fn take(mut incoming: IncomingFile, chunk: Vec<u8>) -> Result<IncomingFile, Refused> {
    if !(1..=CHUNK_BYTES_MAX).contains(&chunk.len()) {
        let reason = format!("1 to {CHUNK_BYTES_MAX} bytes expected, {} found", chunk.len());
        return Err(Refused::field("chunk", "FIELD", reason));
    }
    let pushed = move || incoming.push(&chunk).map(|()| incoming);
    Ok(work(pushed).await??)
}

fn expected(header: &v1::UploadHeader) -> Result<ExpectedFile, Refused> {
    let v1::UploadHeader { size, root, offset } = header;
    let root = match &root[..] {
        [] => None,
        root => Some(hash_field("header.root", root)?),
    };
    Ok(ExpectedFile { size: *size, root, offset: *offset })
}

/// Works with the disk, away from the async workers.
async fn work<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refused> {
    apart(work).await.ok_or_else(Refused::shutting_down)
}

/// A download under way.
struct Reading {
    node: Arc<Services>,
    file: Arc<WholeFile>,
    offset: u64,
}

impl Reading {
    /// The rest of the piece at the offset; nothing at the end.
    async fn next(mut self) -> Result<Option<(v1::DownloadResponse, Self)>, Status> {
        let (index, within) = (self.offset / PIECE_BYTES as u64, self.offset % PIECE_BYTES as u64);
        if index >= pieces_of(self.file.size()) || self.offset >= self.file.size() {
            return Ok(None);
        }
        let file = Arc::clone(&self.file);
        let root = file.root();
        // Each download reads one piece at a time, and their number is limited.
        let read = tokio::task::spawn_blocking(move || file.piece(index)).await;
        let mut data = match read {
            Ok(Ok(data)) => data,
            Ok(Err(error)) => {
                self.node.attachments.note(&root, &error);
                return Err(unreadable(&root).into());
            }
            Err(_) => return Err(Refused::shutting_down().into()),
        };
        let within = usize::try_from(within).unwrap_or(usize::MAX).min(data.len());
        data.drain(..within);
        self.offset += data.len() as u64;
        Ok(Some((v1::DownloadResponse { data }, self)))
    }
}

fn not_here(root: &Hash) -> Refused {
    let message = format!(
        "this node does not hold attachment {root}: ask again later, or a node of the agency whose record \
         refers to it"
    );
    Refused::new(Code::NotFound, "ATTACHMENT_NOT_HERE", message).with_id(*root)
}

fn unreadable(root: &Hash) -> Refused {
    let message = format!("this node cannot read attachment {root}");
    Refused::new(Code::DataLoss, "ATTACHMENT_UNREADABLE", message).with_id(*root)
}

impl From<AttachmentRefusal> for Refused {
    fn from(refusal: AttachmentRefusal) -> Self {
        let message = refusal.to_string();
        match refusal {
            AttachmentRefusal::TooLarge(_) => {
                Self::field("header.size", "ATTACHMENT_TOO_LARGE", message)
            }
            AttachmentRefusal::NoRoom(_) => Self {
                retry_after: Some(RETRY_AFTER),
                ..Self::new(Code::ResourceExhausted, "ATTACHMENT_NO_ROOM", message)
            },
            AttachmentRefusal::UnderWay(root) => {
                Self::new(Code::Aborted, "UPLOAD_UNDER_WAY", message).with_id(root)
            }
            AttachmentRefusal::Offset { .. } => Self::new(Code::InvalidArgument, "OFFSET", message),
            AttachmentRefusal::Size { .. } => {
                Self::new(Code::InvalidArgument, "ATTACHMENT_SIZE", message)
            }
            AttachmentRefusal::OtherRoot { .. } => {
                Self::new(Code::InvalidArgument, "ATTACHMENT_ROOT", message)
            }
            AttachmentRefusal::Disk(_) => Self::new(Code::Unavailable, "ATTACHMENT_DISK", message),
        }
    }
}
