//! A node's services over mutual TLS, as a client meets them.

use std::{
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use customhouse_client::{CallRefused, Client, ClientError, tls::ClientTls};
use customhouse_ledger::{
    agency::AgencyCode, hash::Hash, keys::SigningKey, proofs::verifier::Verifier,
    registry::genesis::Genesis, transaction::VerifiedTransaction,
};
use customhouse_proto::v1::{self, Phase, get_history_request::SubjectOrKey};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;
use tokio::{io::AsyncReadExt as _, net::TcpListener, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use super::*;
use crate::{identity::Role, tls::Authority};

mod agreements;
mod attachments;
mod calls;
mod changes;
mod checkpoints;
mod connections;
mod feeds;
mod fixture;
mod hostile;
mod imports;
mod large;
mod linking;
mod parameters;
mod raw;
mod registry;
mod strange;
mod undecided;

use fixture::{DEADLINE, Fixture};
