//! Answers with something large in them: room is made for it before it is kept, what is too large for one
//! answer is refused with the name of the call that streams it, and that call sends it in chunks.

use bytes::Bytes;
use customhouse_client::contract::{ANSWERED_BYTES_MAX, RECORD_LARGE, TRANSACTION_LARGE};
use customhouse_ledger::{chain::ChainReader, hash::Hash, store::StoreError};
use customhouse_proto::v1;
use futures::{Stream, StreamExt as _, stream, stream::BoxStream};
use prost::Message as _;
use tonic::{Code, Request, Status};

use super::receipts;
use crate::serve::{quotas::AnswerRoom, reads::read, refused::Refused};
use crate::services::Services;

/// Bytes of a chunk.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;
/// Bytes of something for which the room that is set aside for any answer is enough.
pub(super) const USUAL_BYTES: usize = 64 * 1024;

/// A stream of chunks.
pub(super) type Chunks<T> = BoxStream<'static, Result<T, Status>>;

/// What is said of something too large for one answer.
#[derive(Clone, Copy)]
pub(super) struct TooLarge {
    pub(super) what: &'static str,
    pub(super) reason_code: &'static str,
    pub(super) call: &'static str,
}

impl TooLarge {
    pub(super) const RECORD: Self =
        Self { what: "record", reason_code: RECORD_LARGE, call: "Query.ReadRecord" };
    pub(super) const TRANSACTION: Self =
        Self { what: "transaction", reason_code: TRANSACTION_LARGE, call: "Query.ReadTransaction" };
    pub(super) const RECEIPT: Self = Self {
        what: "receipt with its record",
        reason_code: RECORD_LARGE,
        call: "Audit.ReadReceipt",
    };

    fn refusal(self, bytes: usize) -> Refused {
        let Self { what, reason_code, call } = self;
        let message = format!(
            "the {what} has {bytes} bytes, and an answer at most {ANSWERED_BYTES_MAX}: read it with {call}"
        );
        Refused::new(Code::OutOfRange, reason_code, message)
    }
}

/// The room for a call's answer.
pub(super) fn room_of<T>(request: &Request<T>) -> Option<AnswerRoom> {
    request.extensions().get().cloned()
}

/// Finds something for one answer: see [`find`].
pub(super) async fn find_whole<T: Send + 'static>(
    (node, room): (&Services, Option<&AnswerRoom>),
    found: impl Fn(&ChainReader) -> Result<Option<T>, StoreError> + Clone + Send + 'static,
    bytes_of: fn(&T) -> usize,
    too_large: TooLarge,
) -> Result<Option<T>, Refused> {
    find((node, room), found, bytes_of, Some(too_large)).await
}

/// Finds something of any size, for a stream: see [`find`].
pub(super) async fn find_any<T: Send + 'static>(
    (node, room): (&Services, Option<&AnswerRoom>),
    found: impl Fn(&ChainReader) -> Result<Option<T>, StoreError> + Clone + Send + 'static,
    bytes_of: fn(&T) -> usize,
) -> Result<Option<T>, Refused> {
    find((node, room), found, bytes_of, None).await
}

/// Finds something. Where it is larger than usual it is let go, and found again when there is room for it: no
/// call holds it while it waits for that.
async fn find<T: Send + 'static>(
    (node, room): (&Services, Option<&AnswerRoom>),
    found: impl Fn(&ChainReader) -> Result<Option<T>, StoreError> + Clone + Send + 'static,
    bytes_of: fn(&T) -> usize,
    too_large: Option<TooLarge>,
) -> Result<Option<T>, Refused> {
    let once = found.clone();
    let usual = read(node, move |reader| {
        let found = once(reader)?;
        Ok(found.map(|found| match bytes_of(&found) {
            ..=USUAL_BYTES => Ok(found),
            bytes => Err(bytes),
        }))
    });
    let bytes = match usual.await? {
        None => return Ok(None),
        Some(Ok(found)) => return Ok(Some(found)),
        Some(Err(bytes)) => bytes,
    };
    if let Some(too_large) = too_large.filter(|_| bytes > ANSWERED_BYTES_MAX) {
        return Err(too_large.refusal(bytes));
    }
    if let Some(room) = room {
        room.grow(bytes).await?;
    }
    read(node, move |reader| found(reader)).await
}

/// A receipt for one answer, with what is asked for.
pub(super) async fn receipt(
    of: (&Services, Option<&AnswerRoom>),
    id: Hash,
    contents: receipts::Contents,
) -> Result<Option<v1::Receipt>, Refused> {
    let find = move |reader: &ChainReader| receipts::one(reader, &id, contents);
    find_whole(of, find, v1::Receipt::encoded_len, TooLarge::RECEIPT).await
}

/// A head, and bytes in chunks after it.
pub(super) fn chunks<T: Send + 'static>(
    head: T,
    bytes: Bytes,
    chunk: impl Fn(Vec<u8>) -> T + Send + 'static,
) -> Chunks<T> {
    stream::iter([Ok(head)]).chain(pieces(bytes).map(move |piece| Ok(chunk(piece)))).boxed()
}

fn pieces(bytes: Bytes) -> impl Stream<Item = Vec<u8>> {
    let starts = (0..bytes.len()).step_by(CHUNK_BYTES);
    stream::iter(starts.map(move |start| {
        let end = bytes.len().min(start + CHUNK_BYTES);
        bytes[start..end].to_vec()
    }))
}
