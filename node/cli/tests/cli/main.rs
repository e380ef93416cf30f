//! The program as its users have it. One test program for all of it: what takes long here is linking.

mod attachments;
mod command_line;
mod desk;
mod failures;
mod keys;
mod processes;
mod readiness;
mod sealed_histories;
mod secrets;
mod validator_chain;
mod vault;
