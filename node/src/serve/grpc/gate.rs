//! What every call passes: who calls, whether the role may, whether there is room for it; and on the way
//! back, that every refusal has a reason code and is counted once.

use std::{pin::Pin, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Response, header::HeaderName},
    middleware::Next,
};
use customhouse_client::contract::{REASON_CODE, REFUSED_ID, REQUEST_BYTES_MAX};
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use super::{
    LIST_REQUEST_BYTES_MAX, SMALL_REQUEST_BYTES_MAX, UPLOAD_MESSAGE_BYTES_MAX,
    access::{self, Method},
    receiving::Receiving,
    sending::{Sending, Unsent, Whole},
};
use crate::serve::{
    connections::TooMany,
    quotas::{AnswerBytes, AnswerRoom, Class, Place, Share},
    reads::holding,
    refused::Refused,
    rejections::Rejections,
};
use crate::{identity::ClientIdentity, tls::IdentityError};

const GRPC_STATUS: &str = "grpc-status";
const GRPC_TIMEOUT: &str = "grpc-timeout";
/// Longer than any upload takes that the service goes on with.
const UPLOAD_TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Longer than any handler waits by itself.
const CALL_TIMEOUT: Duration = Duration::from_secs(90);
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(super) struct Gate {
    rejections: Rejections,
    /// How long a message of a request may take.
    message_time: Duration,
    shutdown: CancellationToken,
}

/// Whose connection a call came by. Travels in the request's extensions.
pub(super) struct Caller {
    /// The client, or why its certificate names none.
    pub(super) client: Result<(ClientIdentity, Share), Refused>,
    /// Which share the connection is above: nothing is served on it.
    pub(super) too_many: Option<TooMany>,
    /// What the client has yet to read.
    pub(super) unsent: Unsent,
}

/// Until when a call must have answered.
#[derive(Clone, Copy)]
struct Limit {
    until: Instant,
    /// What the caller said, which a stream is kept to.
    asked: Option<Instant>,
}

impl Gate {
    pub(super) fn new(
        rejections: Rejections,
        message_time: Duration,
        shutdown: CancellationToken,
    ) -> Self {
        Self { rejections, message_time, shutdown }
    }

    async fn pass(
        &self,
        caller: &Caller,
        path: &str,
        request: Request,
        next: Next,
    ) -> Result<Response<Body>, Refused> {
        let (client, share) = caller.client.clone()?;
        let method = access::permit(client.role, path)?;
        if self.shutdown.is_cancelled() {
            return Err(Refused::shutting_down());
        }
        if let Some(too_many) = caller.too_many {
            return Err(Refused::overloaded(too_many.of_what(), RETRY_AFTER));
        }
        let limit = Limit::of(request.headers())?;
        // An upload takes as long as its bytes take: the service sees to it that they come.
        let until = match method.class {
            Class::Upload => limit.asked.unwrap_or(limit.until + UPLOAD_TIME_MAX),
            _ => limit.until,
        };
        let call = Call { client, share: &share, method, limit, unsent: &caller.unsent };
        let answer = call.answer(request, next, self.message_time);
        timeout_at(until, answer).await.unwrap_or_else(|_| Err(limit.over()))
    }
}

/// A call that was let in.
struct Call<'a> {
    client: ClientIdentity,
    share: &'a Share,
    method: Method,
    limit: Limit,
    unsent: &'a Unsent,
}

impl Call<'_> {
    /// Has it answered, as soon as there is room for it and for its answer.
    async fn answer(
        self,
        request: Request,
        next: Next,
        message_time: Duration,
    ) -> Result<Response<Body>, Refused> {
        let Self { client, share, method, limit, unsent } = self;
        let (class, streams) = (method.class, method.class.streams());
        let lasts = class.lasts();
        let place = share.place(class).await?;
        let room = AnswerRoom::new(share.answer(method.answer_bytes).await?, share);
        let (parts, body) = request.into_parts();
        let message_bytes_max = match class {
            class if class.lodges() => REQUEST_BYTES_MAX,
            Class::Upload => UPLOAD_MESSAGE_BYTES_MAX,
            Class::Feed => LIST_REQUEST_BYTES_MAX,
            _ => SMALL_REQUEST_BYTES_MAX,
        };
        let body =
            Receiving::new(body, Some(place.clone()), message_bytes_max, lasts, message_time);
        let mut request = Request::from_parts(parts, Body::new(body));
        request.extensions_mut().insert(client);
        request.extensions_mut().insert(room.clone());
        let (response, place) = match class {
            // These give their place back when they have accepted, and go on waiting without one.
            class if class.lodges() => {
                request.extensions_mut().insert(place);
                (next.run(request).await, None)
            }
            // These last, and take and give back their share for each message.
            Class::Feed | Class::Upload => {
                request.extensions_mut().insert(place.clone());
                (holding(place.clone(), next.run(request)).await, Some(place))
            }
            _ => (holding(place.clone(), next.run(request)).await, Some(place)),
        };
        let bytes = room.into_bytes();
        if streams {
            let until = limit.asked.map(|asked| Box::pin(sleep_until(asked)));
            return Ok(sent_as_it_comes(response, (until, lasts), (bytes, place), unsent));
        }
        sent_as_a_whole(response, bytes, share, unsent).await
    }
}

fn sent_as_it_comes(
    response: Response<Body>,
    time: (Option<Pin<Box<Sleep>>>, bool),
    held: (AnswerBytes, Option<Place>),
    unsent: &Unsent,
) -> Response<Body> {
    if response.headers().contains_key(GRPC_STATUS) {
        return response;
    }
    response.map(|body| Body::new(Sending::stream(body, time, held, unsent)))
}

async fn sent_as_a_whole(
    response: Response<Body>,
    mut bytes: AnswerBytes,
    share: &Share,
    unsent: &Unsent,
) -> Result<Response<Body>, Refused> {
    // A refusal is all in its head.
    if response.headers().contains_key(GRPC_STATUS) {
        return Ok(response);
    }
    let (head, body) = response.into_parts();
    let whole = match Whole::of(body).await {
        Ok(whole) => whole,
        Err(status) => return Ok(status.into_http()),
    };
    match whole.bytes().checked_sub(bytes.bytes()) {
        None | Some(0) => bytes.shrink(whole.bytes()),
        Some(more) => bytes.merge(share.answer_made(more).await),
    }
    Ok(Response::from_parts(head, Body::new(Sending::whole(whole, bytes, unsent))))
}

impl Limit {
    /// The caller's (`grpc-timeout`), or the longest that there is.
    fn of(headers: &HeaderMap) -> Result<Self, Refused> {
        let asked = match headers.get(GRPC_TIMEOUT) {
            None => None,
            Some(value) => Some(value.to_str().ok().and_then(duration_of).ok_or_else(|| {
                let reason =
                    "grpc-timeout: up to 8 digits and a unit (H, M, S, m, u or n) expected";
                Refused::new(Code::InvalidArgument, "TIMEOUT", reason)
            })?),
        };
        let now = Instant::now();
        let asked = asked.map(|asked| now + asked);
        let longest = now + CALL_TIMEOUT;
        Ok(Self { until: asked.map_or(longest, |asked| asked.min(longest)), asked })
    }

    fn over(self) -> Refused {
        if self.asked == Some(self.until) {
            return Refused::deadline();
        }
        let message = format!("no answer within {} s", CALL_TIMEOUT.as_secs());
        Refused::new(Code::DeadlineExceeded, "CALL_TIMEOUT", message)
    }
}

/// A time as gRPC writes it: at most eight digits and a unit.
fn duration_of(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&number.len()) || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// The middleware around all services.
pub(super) async fn admit(
    State(gate): State<Arc<Gate>>,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let method = access::name_of(&path);
    let caller = request.extensions_mut().remove::<Arc<Caller>>();
    let answer = match &caller {
        Some(caller) => gate.pass(caller, &path, request, next).await,
        // It came by no connection of ours.
        None => Err(IdentityError::Missing.into()),
    };
    let mut response = answer.unwrap_or_else(|refused| Status::from(refused).into_http());
    if let Some((reason_code, id)) = complete(response.headers_mut()) {
        let client = caller.as_ref().and_then(|caller| caller.client.as_ref().ok());
        let name = client.map_or("", |(client, _)| &client.name);
        gate.rejections.note(name, method, &reason_code, &id);
    }
    response
}

/// Gives a refusal of the framework's a reason code, and returns that of any refusal with the id of
/// what was refused.
fn complete(headers: &mut HeaderMap) -> Option<(String, String)> {
    let text = |headers: &HeaderMap, name: &str| {
        headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    let code = headers.get(GRPC_STATUS).map(|value| Code::from_bytes(value.as_bytes()))?;
    if code == Code::Ok {
        return None;
    }
    if let Some(reason_code) = text(headers, REASON_CODE) {
        return Some((reason_code, text(headers, REFUSED_ID).unwrap_or_default()));
    }
    let (code, reason_code) = of_framework(code);
    let value = HeaderValue::from(code as i32);
    headers.insert(HeaderName::from_static(GRPC_STATUS), value);
    headers.insert(HeaderName::from_static(REASON_CODE), HeaderValue::from_static(reason_code));
    Some((reason_code.to_owned(), String::new()))
}

/// Reasons for refusing bytes before they are a message.
const OF_MESSAGES: [&str; 7] = [
    "CANCELLED",
    "MESSAGE_MALFORMED",
    "MESSAGE_TIMEOUT",
    "OVERLOADED",
    "REPEATED_FIELD",
    "TOO_MANY_ELEMENTS",
    "UNKNOWN_FIELD",
];

/// The code and reason of what ended the messages of a stream.
pub(super) fn reason_of(status: &Status) -> (Code, &'static str) {
    let stated = status.metadata().get(REASON_CODE).and_then(|value| value.to_str().ok());
    let known = OF_MESSAGES.into_iter().find(|known| Some(*known) == stated);
    known.map_or_else(|| of_framework(status.code()), |known| (status.code(), known))
}

/// The code and reason for what the framework refuses before a handler sees it.
fn of_framework(code: Code) -> (Code, &'static str) {
    match code {
        // A message over the limit: refused by the length before it, not decoded.
        Code::OutOfRange | Code::ResourceExhausted => (Code::OutOfRange, "MESSAGE_TOO_LARGE"),
        // Bytes that are not the message.
        Code::Internal | Code::Unknown | Code::InvalidArgument => {
            (Code::InvalidArgument, "MESSAGE_MALFORMED")
        }
        Code::Unimplemented => (Code::Unimplemented, "UNIMPLEMENTED"),
        Code::Cancelled => (Code::Cancelled, "CANCELLED"),
        Code::DeadlineExceeded => (Code::DeadlineExceeded, "DEADLINE"),
        Code::NotFound => (Code::NotFound, "NOT_FOUND"),
        other => (other, "REFUSED"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(status: Status) -> (HeaderMap, Option<(String, String)>) {
        let mut headers = status.into_http::<()>().into_parts().0.headers;
        let noted = complete(&mut headers);
        (headers, noted)
    }

    #[test]
    fn what_the_framework_refuses_has_a_reason_too() {
        let (headers, noted) = completed(Status::internal("failed to decode Protobuf message"));
        assert_eq!(noted, Some(("MESSAGE_MALFORMED".into(), String::new())));
        assert_eq!(headers[GRPC_STATUS], "3");
        assert_eq!(headers[REASON_CODE], "MESSAGE_MALFORMED");
        let (headers, _) = completed(Status::out_of_range("found 9 bytes, the limit is 8"));
        assert_eq!(
            (&headers[GRPC_STATUS], &headers[REASON_CODE]),
            (&HeaderValue::from_static("11"), &HeaderValue::from_static("MESSAGE_TOO_LARGE"))
        );
    }

    #[test]
    fn times_are_read_as_grpc_writes_them() {
        let table = [
            ("1H", Duration::from_secs(3600)),
            ("02M", Duration::from_secs(120)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("250m", Duration::from_millis(250)),
            ("7u", Duration::from_micros(7)),
            ("0n", Duration::ZERO),
        ];
        for (text, duration) in table {
            assert_eq!(duration_of(text), Some(duration), "{text}");
        }
        for wrong in ["", "S", "5", "-1S", "+1S", "1.5S", "123456789S", "5s", "5\u{b5}", "\u{b5}"] {
            assert_eq!(duration_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn our_own_refusals_stay_as_they_are() {
        let id = customhouse_ledger::hash::Hash([7; 32]);
        let (headers, noted) = completed(Refused::not_found("record", &id).into());
        assert_eq!(noted, Some(("NOT_FOUND".into(), id.to_string())));
        assert_eq!(headers[GRPC_STATUS], "5");
    }
}
