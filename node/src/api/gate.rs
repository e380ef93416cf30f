//! What every call passes: who calls, whether the role may, whether there is room; and on the way
//! back, that every refusal has a reason code and is counted once.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Response, header::HeaderName},
    middleware::Next,
};
use customhouse_ledger::agency::AgencyCode;
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    transport::server::{TcpConnectInfo, TlsConnectInfo},
};

use super::{
    access,
    quotas::{Place, Quotas},
    refused::{REASON_CODE, REFUSED_ID, Refused},
    rejections::Rejections,
};
use crate::{
    identity::ClientIdentity,
    tls::{IdentityError, identity_of},
};

const GRPC_STATUS: &str = "grpc-status";
/// Longer than any handler waits by itself.
const CALL_TIMEOUT: Duration = Duration::from_secs(90);
const RETRY_AFTER: Duration = Duration::from_millis(500);
const SUBMISSION: &str = "/customhouse.v1.Submission/Submit";
const SUBMISSION_STREAM: &str = "/customhouse.v1.Submission/Stream";

pub(super) struct Gate {
    agency: AgencyCode,
    calls: Semaphore,
    quotas: Quotas,
    rejections: Rejections,
    shutdown: CancellationToken,
}

impl Gate {
    pub(super) fn new(
        agency: AgencyCode,
        calls_max: usize,
        rejections: Rejections,
        shutdown: CancellationToken,
    ) -> Self {
        let calls = Semaphore::new(calls_max.min(Semaphore::MAX_PERMITS));
        Self { agency, calls, quotas: Quotas::default(), rejections, shutdown }
    }

    fn identify(&self, request: &Request) -> Result<ClientIdentity, Refused> {
        let info = request.extensions().get::<TlsConnectInfo<TcpConnectInfo>>();
        let chain = info.and_then(TlsConnectInfo::peer_certs).ok_or(IdentityError::Missing)?;
        let certificate = chain.first().ok_or(IdentityError::Missing)?;
        Ok(identity_of(certificate, self.agency)?)
    }

    /// What a call holds: for a submission, a place that its handler gives back when it is
    /// accepted.
    async fn place(&self, client: &ClientIdentity, path: &str) -> Result<Option<Place>, Refused> {
        if path.starts_with(SUBMISSION) {
            return Ok(Some(self.quotas.body(&client.name).await?));
        }
        if path.starts_with(SUBMISSION_STREAM) {
            return Ok(Some(self.quotas.stream(&client.name)?));
        }
        Ok(None)
    }

    async fn pass(
        &self,
        client: Result<ClientIdentity, Refused>,
        path: &str,
        mut request: Request,
        next: Next,
    ) -> Result<Response<Body>, Refused> {
        let client = client?;
        access::permit(client.role, path)?;
        if self.shutdown.is_cancelled() {
            return Err(Refused::shutting_down());
        }
        let _call =
            self.calls.try_acquire().map_err(|_| Refused::overloaded("calls", RETRY_AFTER))?;
        if let Some(place) = self.place(&client, path).await? {
            request.extensions_mut().insert(place);
        }
        request.extensions_mut().insert(client);
        timeout(CALL_TIMEOUT, next.run(request)).await.map_err(|_| {
            let message = format!("no answer within {} s", CALL_TIMEOUT.as_secs());
            Refused::new(Code::DeadlineExceeded, "CALL_TIMEOUT", message)
        })
    }
}

/// The middleware around all services.
pub(super) async fn admit(
    State(gate): State<Arc<Gate>>,
    request: Request,
    next: Next,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let client = gate.identify(&request);
    let name = client.as_ref().map_or_else(|_| String::new(), |client| client.name.clone());
    let mut response = match gate.pass(client, &path, request, next).await {
        Ok(response) => response,
        Err(refused) => Status::from(refused).into_http(),
    };
    if let Some((reason_code, id)) = complete(response.headers_mut()) {
        gate.rejections.note(&name, &path, &reason_code, &id);
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

/// The code and reason for what the framework refuses before a handler sees it.
pub(super) fn of_framework(code: Code) -> (Code, &'static str) {
    match code {
        // A message over the limit: refused by the length before it, not decoded.
        Code::OutOfRange | Code::ResourceExhausted => (Code::OutOfRange, "MESSAGE_TOO_LARGE"),
        // Bytes that are not the message.
        Code::Internal | Code::Unknown | Code::InvalidArgument => {
            (Code::InvalidArgument, "MESSAGE_MALFORMED")
        }
        Code::Unimplemented => (Code::Unimplemented, "UNIMPLEMENTED"),
        Code::Cancelled => (Code::Cancelled, "CANCELLED"),
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
    fn our_own_refusals_stay_as_they_are() {
        let id = customhouse_ledger::hash::Hash([7; 32]);
        let (headers, noted) = completed(Refused::not_found("record", &id).into());
        assert_eq!(noted, Some(("NOT_FOUND".into(), id.to_string())));
        assert_eq!(headers[GRPC_STATUS], "5");
    }
}
