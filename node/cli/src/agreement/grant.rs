//! Sharing a record later, with more parties.

use std::{fmt, time::Duration};

use customhouse_ledger::hash::Hash;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::agree;
use crate::{
    connect::Connection,
    output::{Output, one_line},
};

/// Time between two looks for the grant on the ledger.
const LOOK: Duration = Duration::from_millis(200);

pub(super) const HELP: &str = "\
For an officer of the agency that lodged the record. What is shared stays shared: nobody can take it back, whatever
becomes of the agreement. Under the agreement's terms its parties read the whole record from then on.

Exit codes: 0 it is shared, 1 it was refused, or has not become final in time, 2 nobody said yes.

Examples:
  customhouse --profile net/NL-DOUANE/clients/officer agreement grant 5f0c… 4e07…
  customhouse --profile office agreement grant 5f0c… 4e07… --yes";

#[derive(clap::Args)]
pub(crate) struct GrantArgs {
    /// The record: 64 hexadecimal digits.
    #[arg(value_name = "RECORD")]
    record: Hash,
    /// The agreement with whose parties it is to be shared: 64 hexadecimal digits.
    #[arg(value_name = "AGREEMENT")]
    agreement: Hash,
    /// Share it without being asked.
    #[arg(long)]
    yes: bool,
    /// How long to wait until it is final.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
}

#[derive(Serialize)]
struct Granted {
    record_id: Hash,
    agreement: Hash,
    transaction_id: Hash,
    height: u64,
    parties: Vec<String>,
}

impl fmt::Display for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { record_id, agreement, height, parties, .. } = self;
        let parties: Vec<_> = parties.iter().map(|party| one_line(party)).collect();
        write!(
            f,
            "record {record_id} is shared under agreement {agreement} since height {height}; these agencies may read \
             it now: {}",
            parties.join(", ")
        )
    }
}

pub(super) async fn run(args: &GrantArgs, output: Output, node: &Connection) -> anyhow::Result<()> {
    let GrantArgs { record, agreement, yes, patience } = args;
    let question =
        format!("Let all parties of agreement {agreement} read record {record}, for ever?");
    agree(*yes, &question)?;
    let granted = node.client.grant(*record, *agreement).await?;
    let transaction_id = Hash::from_slice(&granted.transaction_id)?;
    let deadline = Instant::now() + Duration::from_secs(*patience);
    let height = loop {
        match node.client.transaction(transaction_id).await {
            Ok(found) => break found.height,
            Err(error) if Instant::now() >= deadline => {
                return Err(anyhow::Error::new(error).context(format!(
                    "the grant was accepted in transaction {transaction_id}, and is not final after {patience} s"
                )));
            }
            Err(_) => sleep(LOOK).await,
        }
    };
    let delivery = node.client.delivery(*record, 0).await?;
    let parties = delivery.parties.into_iter().map(|party| party.agency).collect();
    let (record_id, agreement) = (*record, *agreement);
    output.print(&Granted { record_id, agreement, transaction_id, height, parties })?;
    Ok(())
}
