//! The `Query` service: what is on the ledger.

use std::sync::Arc;

use bytes::Bytes;
use customhouse_client::contract::ANSWERED_BYTES_MAX;
use customhouse_ledger::{
    chain::{ChainReader, CommittedRecord, CommittedTransaction},
    finality::header::Header,
    hash::Hash,
    history::HistoryEntry,
    record::subject::{form, subject_key},
    store::StoreError,
};
use customhouse_proto::v1::{
    self, get_history_request::SubjectOrKey, query_server::Query,
    read_record_response::Part as RecordPart, read_transaction_response::Part as TransactionPart,
    subject::Scheme,
};
use futures::stream::BoxStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status};

use super::{
    large::{self, Chunks, TooLarge},
    listing, sharing,
    submission::caller,
};
use crate::serve::{
    quotas::{AnswerRoom, Place},
    reads::{freshness, hash_field, read},
    refused::Refused,
};
use crate::{
    listing::{Linked, linked},
    services::Services,
    view::View,
};

const PAGE_SIZE_DEFAULT: u32 = 100;
const PAGE_SIZE_MAX: u32 = 1000;
/// Bytes of records on a page, so that an answer stays under gRPC's usual limit of 4 MiB. A page
/// ends where the next record would not fit.
const PAGE_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Bytes of transactions after which a page ends, so that one call does not read for ever.
const PAGE_READ_BYTES_MAX: usize = 32 * 1024 * 1024;

#[derive(Clone)]
pub(super) struct QueryService {
    pub(super) node: Arc<Services>,
    pub(super) shutdown: CancellationToken,
}

#[tonic::async_trait]
impl Query for QueryService {
    async fn get_record(
        &self,
        request: Request<v1::GetRecordRequest>,
    ) -> Result<Response<v1::GetRecordResponse>, Status> {
        let (room, view) = (large::room_of(&request), view_of(&self.node, &request)?);
        let id = hash_field("record_id", &request.into_inner().record_id)?;
        let (tip, of) = (self.node.reader.tip(), (&*self.node, room.as_ref()));
        let (find, bytes) = (record_of(id, view), record_bytes);
        let found = large::find_whole(of, find, bytes, TooLarge::RECORD).await?;
        let (record, sealed) = found.ok_or_else(|| Refused::not_found("record", &id))?;
        Ok(Response::new(v1::GetRecordResponse {
            record_id: id.0.to_vec(),
            place: Some(place(&record, sealed)),
            record: record.bytes.unwrap_or_default().into(),
            freshness: Some(freshness(&self.node, &tip)),
        }))
    }

    type ReadRecordStream = Chunks<v1::ReadRecordResponse>;

    async fn read_record(
        &self,
        request: Request<v1::ReadRecordRequest>,
    ) -> Result<Response<Self::ReadRecordStream>, Status> {
        let (room, view) = (large::room_of(&request), view_of(&self.node, &request)?);
        let id = hash_field("record_id", &request.into_inner().record_id)?;
        let (tip, of) = (self.node.reader.tip(), (&*self.node, room.as_ref()));
        let found = large::find_any(of, record_of(id, view), record_bytes).await?;
        let (record, sealed) = found.ok_or_else(|| Refused::not_found("record", &id))?;
        let head = RecordPart::Head(v1::RecordHead {
            record_id: id.0.to_vec(),
            length: record.bytes.as_ref().map_or(0, Bytes::len) as u64,
            place: Some(place(&record, sealed)),
            freshness: Some(freshness(&self.node, &tip)),
        });
        let part = |part| v1::ReadRecordResponse { part: Some(part) };
        let chunk = move |bytes| part(RecordPart::Chunk(bytes));
        Ok(Response::new(large::chunks(part(head), record.bytes.unwrap_or_default(), chunk)))
    }

    async fn get_transaction(
        &self,
        request: Request<v1::GetTransactionRequest>,
    ) -> Result<Response<v1::GetTransactionResponse>, Status> {
        let room = large::room_of(&request);
        let id = hash_field("transaction_id", &request.into_inner().transaction_id)?;
        let (tip, of) = (self.node.reader.tip(), (&*self.node, room.as_ref()));
        let (find, bytes) = (transaction_of(id), transaction_bytes);
        let found = large::find_whole(of, find, bytes, TooLarge::TRANSACTION).await?;
        let transaction = found.ok_or_else(|| Refused::not_found("transaction", &id))?;
        Ok(Response::new(v1::GetTransactionResponse {
            transaction: Some(transaction.parts),
            height: transaction.header.height,
            time_ms: transaction.header.time_ms,
            log_index: transaction.log_index,
            freshness: Some(freshness(&self.node, &tip)),
        }))
    }

    type ReadTransactionStream = Chunks<v1::ReadTransactionResponse>;

    async fn read_transaction(
        &self,
        request: Request<v1::ReadTransactionRequest>,
    ) -> Result<Response<Self::ReadTransactionStream>, Status> {
        let room = large::room_of(&request);
        let id = hash_field("transaction_id", &request.into_inner().transaction_id)?;
        let (tip, of) = (self.node.reader.tip(), (&*self.node, room.as_ref()));
        let found = large::find_any(of, transaction_of(id), transaction_bytes).await?;
        let transaction = found.ok_or_else(|| Refused::not_found("transaction", &id))?;
        let head = TransactionPart::Head(v1::TransactionHead {
            length: transaction.encoded.len() as u64,
            height: transaction.header.height,
            time_ms: transaction.header.time_ms,
            log_index: transaction.log_index,
            freshness: Some(freshness(&self.node, &tip)),
        });
        let part = |part| v1::ReadTransactionResponse { part: Some(part) };
        let chunk = move |bytes| part(TransactionPart::Chunk(bytes));
        Ok(Response::new(large::chunks(part(head), transaction.encoded, chunk)))
    }

    async fn get_history(
        &self,
        request: Request<v1::GetHistoryRequest>,
    ) -> Result<Response<v1::GetHistoryResponse>, Status> {
        let view = view_of(&self.node, &request)?;
        let v1::GetHistoryRequest { page_size, page_token, without_links, subject_or_key } =
            request.into_inner();
        let asked = Asked::of(subject_or_key)?;
        let key = asked.key();
        let after = PageToken::decode(&page_token, &key)?;
        let size = page_size_of(page_size)?;
        let tip = self.node.reader.tip();
        let page = read(&self.node, move |_| {
            let page = Page::read(&view, &asked.keys(&view), after, size)?;
            let linked = match without_links {
                true => Linked::default(),
                false => linked(&view, &page.items)?,
            };
            Ok((page, linked))
        });
        let (page, linked) = page.await?;
        let token = |(log_index, position)| PageToken { log_index, position }.encode(&key);
        let next = page.last.map(token);
        Ok(Response::new(v1::GetHistoryResponse {
            items: page.items,
            next_page_token: next.unwrap_or_default(),
            freshness: Some(freshness(&self.node, &tip)),
            linked: linked.items,
            links_cut: linked.cut,
        }))
    }

    async fn list_records(
        &self,
        request: Request<v1::ListRecordsRequest>,
    ) -> Result<Response<v1::ListRecordsResponse>, Status> {
        let view = view_of(&self.node, &request)?;
        Ok(Response::new(listing::page(&self.node, view, request.into_inner()).await?))
    }

    async fn get_delivery(
        &self,
        request: Request<v1::GetDeliveryRequest>,
    ) -> Result<Response<v1::GetDeliveryResponse>, Status> {
        let view = view_of(&self.node, &request)?;
        let request = request.into_inner();
        let id = hash_field("record_id", &request.record_id)?;
        Ok(Response::new(sharing::delivery(&self.node, view, request, id).await?))
    }

    type SubscribeStream = BoxStream<'static, Result<v1::SubscribeResponse, Status>>;

    async fn subscribe(
        &self,
        mut request: Request<v1::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let (view, held) = (view_of(&self.node, &request)?, feed_share(&mut request)?);
        let of = (Arc::clone(&self.node), view);
        let feed = listing::follow(of, held, request.into_inner(), self.shutdown.clone())?;
        Ok(Response::new(Box::pin(feed)))
    }
}

/// What a call of the class of feeds has of its client's share.
pub(super) fn feed_share<T>(request: &mut Request<T>) -> Result<(Place, AnswerRoom), Refused> {
    let extensions = request.extensions_mut();
    let held = extensions.remove::<Place>().zip(extensions.remove::<AnswerRoom>());
    held.ok_or_else(Refused::shutting_down)
}

/// What the caller sees of the ledger.
pub(super) fn view_of<T>(node: &Services, request: &Request<T>) -> Result<View, Refused> {
    let (reader, holdings) = (node.reader.clone(), node.holdings.clone());
    Ok(View::of(reader, holdings, node.agency, &caller(request)?))
}

/// A record with what is said of it where it is sealed.
type Found = (CommittedRecord, Option<v1::Sealed>);

/// Finds a record, with bytes of its own: those of its transaction may be many more.
fn record_of(
    id: Hash,
    view: View,
) -> impl Fn(&ChainReader) -> Result<Option<Found>, StoreError> + Clone {
    move |_| {
        let found = view.record(&id)?;
        Ok(found.map(|(record, sealed)| {
            let bytes = record.bytes.as_ref().map(|bytes| Bytes::copy_from_slice(bytes));
            (CommittedRecord { bytes, ..record }, sealed)
        }))
    }
}

fn record_bytes((record, _): &Found) -> usize {
    record.bytes.as_ref().map_or(0, Bytes::len)
}

fn transaction_of(
    id: Hash,
) -> impl Fn(&ChainReader) -> Result<Option<CommittedTransaction>, StoreError> + Clone {
    move |reader| reader.transaction(&id)
}

fn transaction_bytes(transaction: &CommittedTransaction) -> usize {
    transaction.encoded.len()
}

fn place(record: &CommittedRecord, sealed: Option<v1::Sealed>) -> v1::RecordPlace {
    let entry = (record.place.log_index, record.place.position);
    let place = place_of(entry, &record.header, &record.transaction_id);
    v1::RecordPlace { sealed, ..place }
}

fn place_of(
    (log_index, slot_index): (u64, u32),
    header: &Header,
    transaction_id: &Hash,
) -> v1::RecordPlace {
    v1::RecordPlace {
        height: header.height,
        time_ms: header.time_ms,
        log_index,
        slot_index,
        transaction_id: transaction_id.0.to_vec(),
        sealed: None,
    }
}

/// What a history is asked for.
#[derive(Debug, PartialEq)]
enum Asked {
    Key(Hash),
    Subject(v1::Subject),
}

impl Asked {
    fn of(subject_or_key: Option<SubjectOrKey>) -> Result<Self, Refused> {
        match subject_or_key {
            Some(SubjectOrKey::SubjectKey(key)) => Ok(Self::Key(hash_field("subject_key", &key)?)),
            Some(SubjectOrKey::Subject(subject)) => {
                let known = Scheme::try_from(subject.scheme)
                    .is_ok_and(|scheme| scheme != Scheme::Unspecified);
                if !known {
                    return Err(Refused::field(
                        "subject.scheme",
                        "FIELD",
                        "unset or unknown value",
                    ));
                }
                // Under another spelling there is nothing on the ledger, and "nothing" would be misread.
                form::check_spelling(subject.scheme(), &subject.id)
                    .map_err(|why| Refused::field("subject.id", "SUBJECT_FORM", why.to_string()))?;
                Ok(Self::Subject(subject))
            }
            None => Err(Refused::field("subject_or_key", "FIELD", "missing")),
        }
    }

    /// The key that page tokens name.
    fn key(&self) -> Hash {
        match self {
            Self::Key(key) => *key,
            Self::Subject(subject) => subject_key(subject),
        }
    }

    /// All keys that the history may have it under.
    fn keys(&self, view: &View) -> Vec<Hash> {
        match self {
            Self::Key(key) => vec![*key],
            Self::Subject(subject) => view.subject_keys(subject),
        }
    }
}

fn page_size_of(asked: u32) -> Result<usize, Refused> {
    let size = match asked {
        0 => PAGE_SIZE_DEFAULT,
        1..=PAGE_SIZE_MAX => asked,
        _ => {
            let reason = format!("page_size: at most {PAGE_SIZE_MAX}, {asked} asked for");
            return Err(Refused::new(Code::OutOfRange, "PAGE_SIZE", reason));
        }
    };
    Ok(size as usize)
}

/// Where a page ended. It names its subject, so that a token of another one is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PageToken {
    log_index: u64,
    position: u32,
}

impl PageToken {
    /// Subject key (32), log index (8), position (4): the layout of a history entry.
    fn encode(self, key: &Hash) -> Vec<u8> {
        let Self { log_index, position } = self;
        HistoryEntry { key: *key, log_index, position }.encode().to_vec()
    }

    /// Without a token it is the first page.
    fn decode(bytes: &[u8], key: &Hash) -> Result<Option<Self>, Refused> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let refused = |reason: &str| Refused::field("page_token", "PAGE_TOKEN", reason);
        let entry =
            HistoryEntry::decode(bytes).map_err(|_| refused("not from an earlier answer"))?;
        if entry.key != *key {
            return Err(refused("of another subject"));
        }
        Ok(Some(Self { log_index: entry.log_index, position: entry.position }))
    }
}

struct Page {
    items: Vec<v1::HistoryItem>,
    /// The last place that was looked at, where there are others behind it.
    last: Option<(u64, u32)>,
}

impl Page {
    fn read(
        view: &View,
        keys: &[Hash],
        after: Option<PageToken>,
        size: usize,
    ) -> Result<Self, StoreError> {
        let mut from = after.map_or((0, 0), |token| (token.log_index, token.position + 1));
        let mut page = Self { items: Vec::new(), last: None };
        let mut transactions = Transactions { view, last: None, bytes: 0 };
        let mut bytes = 0;
        loop {
            // One more tells whether there is another page.
            let places = view.places(keys, from, false, size + 1)?;
            let more = places.len() > size;
            for (number, place) in places.iter().take(size).enumerate() {
                let is_last = !more && number + 1 == places.len();
                let item = transactions.item(*place)?;
                transactions.bytes += usize::try_from(item.length).unwrap_or(usize::MAX);
                let sealed = item.place.as_ref().and_then(|place| place.sealed.as_ref());
                if View::tells_of_found(sealed) {
                    if bytes + item.record.len() > PAGE_BYTES_MAX {
                        return Ok(page);
                    }
                    bytes += item.record.len();
                    page.items.push(item);
                }
                page.last = (!is_last).then_some(*place);
                if page.items.len() >= size || transactions.bytes > PAGE_READ_BYTES_MAX {
                    return Ok(page);
                }
                from = (place.0, place.1 + 1);
            }
            // Of those the caller may see none: there may be some behind them.
            if !more || !page.items.is_empty() {
                return Ok(page);
            }
        }
    }
}

// A page has room for at least one record of those that are answered whole.
const _: () = assert!(PAGE_BYTES_MAX >= ANSWERED_BYTES_MAX);

/// The transactions that a page is read from. Entries come in log order, so that the many records
/// of one transaction are read once.
struct Transactions<'a> {
    view: &'a View,
    last: Option<CommittedTransaction>,
    /// Read so far.
    bytes: usize,
}

impl Transactions<'_> {
    fn item(&mut self, place: (u64, u32)) -> Result<v1::HistoryItem, StoreError> {
        let last = self.last.take().filter(|last| last.log_index == place.0);
        let transaction = match last {
            Some(last) => last,
            None => {
                let read = self.view.reader().transaction_at(place.0)?;
                let read = read.ok_or_else(|| dangling(place))?;
                self.bytes += read.encoded.len();
                read
            }
        };
        let record = transaction.record(place.1).ok_or_else(|| dangling(place))?;
        self.last = Some(transaction);
        let (record, sealed) = self.view.seen(record)?;
        let place = self::place(&record, sealed);
        let bytes = record.bytes.unwrap_or_default();
        Ok(v1::HistoryItem {
            record_id: record.id.0.to_vec(),
            // What is too large for one answer is read by itself.
            record: if bytes.len() <= ANSWERED_BYTES_MAX { bytes.to_vec() } else { Vec::new() },
            length: bytes.len() as u64,
            place: Some(place),
        })
    }
}

fn dangling((log_index, position): (u64, u32)) -> StoreError {
    StoreError::Corrupt {
        table: "history",
        key: format!("{log_index}, {position}"),
        what: "the record that it names is missing".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::limits::SUBJECT_ID_BYTES_MAX;

    use super::*;

    #[test]
    fn a_page_token_is_of_its_subject_only() {
        let (key, other) = (Hash([1; 32]), Hash([2; 32]));
        let token = PageToken { log_index: 7, position: 3 };
        let bytes = token.encode(&key);
        assert_eq!(PageToken::decode(&bytes, &key), Ok(Some(token)));
        assert_eq!(PageToken::decode(&[], &key), Ok(None));
        for (bytes, key) in [(&bytes[..], &other), (&bytes[..43], &key), (&[0; 45], &key)] {
            let refused = PageToken::decode(bytes, key).expect_err("refused");
            assert_eq!((refused.code, refused.reason_code), (Code::InvalidArgument, "PAGE_TOKEN"));
        }
    }

    #[test]
    fn page_sizes_have_a_default_and_a_limit() {
        assert_eq!(page_size_of(0), Ok(100));
        assert_eq!(page_size_of(1000), Ok(1000));
        assert_eq!(page_size_of(1001).expect_err("refused").code, Code::OutOfRange);
    }

    #[test]
    fn a_subject_needs_a_known_scheme_and_an_id() {
        let subject =
            |scheme, id: &str| SubjectOrKey::Subject(v1::Subject { scheme, id: id.into() });
        assert!(Asked::of(Some(subject(1, "X"))).is_ok());
        assert!(Asked::of(Some(SubjectOrKey::SubjectKey(vec![0; 32]))).is_ok());
        let long = "X".repeat(SUBJECT_ID_BYTES_MAX + 1);
        for wrong in [
            None,
            Some(subject(0, "X")),
            Some(subject(999, "X")),
            Some(subject(1, "")),
            Some(subject(1, &long)),
            // Under another spelling there is nothing, and that must not pass for an answer.
            Some(subject(2, "26nl1")),
            Some(subject(4, "CSQU 3054383")),
            Some(SubjectOrKey::SubjectKey(vec![0; 31])),
        ] {
            assert_eq!(Asked::of(wrong).expect_err("refused").code, Code::InvalidArgument);
        }
    }
}
