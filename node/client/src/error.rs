//! Why a call gave no answer.

use std::{fmt, io, path::PathBuf, time::Duration};

use customhouse_ledger::{
    finality::{certificate::CertificateError, decision::DecisionError},
    layout::LayoutError,
    registry::genesis::GenesisError,
};
use tonic::{Code, Status, TimeoutExpired};

use crate::{
    contract::{REASON_CODE, REFUSED_ID, RETRY_AFTER_MS},
    no_connection::NoConnection,
    tls::TlsError,
};

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an address.
    #[error("`{endpoint}` is not an endpoint such as localhost:7400: {reason}")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The client's own certificate, its key, or that of the authority.
    #[error("the client's certificate and key: {0}")]
    Certificate(#[from] TlsError),
    /// No connection: nobody listens, or one of the two refused the other in the handshake.
    #[error("{endpoint}: no connection: {}", Causes(source))]
    Connect {
        /// Where to.
        endpoint: String,
        /// Why not.
        source: tonic::transport::Error,
    },
    /// The node refused the call.
    #[error("{0}")]
    Refused(Box<CallRefused>),
    /// A file cannot be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The answer lacks a part, or a part is not what it should be.
    #[error("the node's answer: {0}")]
    Answer(String),
}

/// A refusal as the node gave it.
#[derive(Clone, Debug)]
pub struct CallRefused {
    /// The gRPC code.
    pub code: Code,
    /// The node's stable reason code; empty where the refusal is not the node's.
    pub reason_code: String,
    /// A sentence.
    pub message: String,
    /// After how long it may work.
    pub retry_after: Option<Duration>,
    /// Id of the record or transaction, in hexadecimal, where known.
    pub id: Option<String>,
}

impl fmt::Display for CallRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.code)?;
        if !self.reason_code.is_empty() {
            write!(f, " ({})", self.reason_code)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some(after) = self.retry_after {
            write!(f, " (try again in {} ms)", after.as_millis())?;
        }
        Ok(())
    }
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        let text = |name: &str| {
            let value = status.metadata().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let retry_after = text(RETRY_AFTER_MS).and_then(|ms| ms.parse().ok());
        let (code, message) = in_words(&status);
        Self::Refused(Box::new(CallRefused {
            code,
            reason_code: text(REASON_CODE).unwrap_or_default(),
            message,
            retry_after: retry_after.map(Duration::from_millis),
            id: text(REFUSED_ID),
        }))
    }
}

/// What a status says. The library's own are of few words: for no connection, and for its own clock,
/// which it calls a cancellation.
fn in_words(status: &Status) -> (Code, String) {
    let source = std::error::Error::source(status);
    if let Some(why) = source.and_then(NoConnection::among) {
        return (status.code(), format!("no connection: {why}"));
    }
    let mut cause = source;
    while let Some(error) = cause {
        if error.is::<TimeoutExpired>() {
            return (Code::DeadlineExceeded, "no answer within the time for one".to_owned());
        }
        cause = error.source();
    }
    (status.code(), status.message().to_owned())
}

impl ClientError {
    /// The refusal, where the node gave one.
    pub fn refused(&self) -> Option<&CallRefused> {
        match self {
            Self::Refused(refused) => Some(refused),
            _ => None,
        }
    }
}

/// An error and what it came from: tonic's own message says only "transport error".
struct Causes<'a>(&'a tonic::transport::Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(why) = NoConnection::among(self.0) {
            return write!(f, "{why}");
        }
        write!(f, "{}", self.0)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl From<DecisionError> for ClientError {
    fn from(error: DecisionError) -> Self {
        Self::Answer(format!("decision: {error}"))
    }
}

impl From<GenesisError> for ClientError {
    fn from(error: GenesisError) -> Self {
        Self::Answer(error.to_string())
    }
}

impl From<LayoutError> for ClientError {
    fn from(error: LayoutError) -> Self {
        Self::Answer(format!("header: {error}"))
    }
}

impl From<CertificateError> for ClientError {
    fn from(error: CertificateError) -> Self {
        Self::Answer(format!("certificate: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_shown_with_its_reason_and_when_to_try_again() {
        let mut full = Status::resource_exhausted("the mempool is full");
        full.metadata_mut().insert(REASON_CODE, "EXHAUSTED".parse().expect("ASCII"));
        full.metadata_mut().insert(RETRY_AFTER_MS, "250".parse().expect("ASCII"));
        let error = ClientError::from(full);
        let refused = error.refused().expect("a refusal");
        assert_eq!(refused.retry_after, Some(Duration::from_millis(250)));
        let shown = error.to_string();
        assert!(shown.starts_with("ResourceExhausted (EXHAUSTED): the mempool is full"), "{shown}");
        assert!(shown.ends_with("(try again in 250 ms)"), "{shown}");
    }

    #[test]
    fn a_refusal_that_is_not_the_node_s_has_no_reason_code() {
        let error = ClientError::from(Status::unavailable("no route"));
        assert_eq!(error.to_string(), "Unavailable: no route");
    }
}
