//! What the commands of both programs share: the arguments that each takes, and how each ends.

use std::process::ExitCode;

use customhouse_files::hardening;

use crate::{
    connect::ConnectArgs,
    failure,
    output::{Output, OutputFormat},
};

/// What every command takes.
#[derive(clap::Args)]
pub(crate) struct GlobalArgs {
    /// Form of the answer on standard output.
    #[arg(long, global = true, value_enum, default_value_t, help_heading = "Global options")]
    pub(crate) output: OutputFormat,
    #[command(flatten)]
    pub(crate) connect: ConnectArgs,
}

/// Exit code of wrong arguments.
pub(crate) const WRONG_USAGE: u8 = 2;

/// A command's end: its exit code, or what went wrong.
pub(crate) type Done = anyhow::Result<ExitCode>;

/// Leaves nothing of this process's memory on a disk.
pub(crate) fn hide_memory() {
    if let Err(error) = hardening::hide_memory() {
        note!("customhouse: a crash may write secrets to disk: {error}");
    }
}

/// The exit code of a command's end. Where the end is not an answer, people and scripts are told of it.
pub(crate) fn ended(done: Done, output: Output, wrong_usage: u8) -> ExitCode {
    match done {
        Ok(code) => code,
        Err(error) => {
            output.failed(&error);
            match failure::is_wrong_usage(&error) {
                true => wrong_usage.into(),
                false => ExitCode::FAILURE,
            }
        }
    }
}

/// Runs a command that talks to nodes.
pub(crate) fn block_on(command: impl Future<Output = Done>) -> Done {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(command)
}
