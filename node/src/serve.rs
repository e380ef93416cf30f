//! What others than peers see of a node: gRPC for the agency's clients, the log's tiles for everybody,
//! metrics and health for its operator.
//!
//! | module | subject |
//! |---|---|
//! | [`grpc`] | clients, over mutual TLS: every call passes one gate |
//! | [`tlog`] | the log as checkpoints and tiles, over plain HTTP, for strangers |
//! | [`monitoring`] | metrics and health, over plain HTTP |
//! | `connections`, `http` | a listener's places and whose they are; HTTP/1.1 with limits |
//! | `quotas`, `reads` | what one client may hold; reading the chain for a call, within that |
//! | [`refused`], `details`, [`rejections`] | the one table from reasons to gRPC codes; what was refused, counted |

pub(crate) mod connections;
mod details;
pub mod grpc;
pub(crate) mod http;
pub mod monitoring;
mod quotas;
mod reads;
pub mod refused;
pub mod rejections;
pub mod tlog;
