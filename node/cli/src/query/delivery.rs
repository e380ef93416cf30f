//! Which parties hold a sealed record.

use std::{fmt, process::ExitCode};

use customhouse_audit::time;
use customhouse_ledger::hash::Hash;
use customhouse_proto::v1::{PartyDelivery, party_delivery::State};
use serde::Serialize;

use super::INCOMPLETE;
use crate::{
    command::Done,
    connect::Connection,
    output::{Output, one_line},
};

pub(super) const HELP: &str = "\
Each party's node signs that it holds the record. What a node cannot take now is sent again until it does.

Exit codes: 0 all parties hold it, or it is shared with nobody; 2 some do not yet; 1 no answer.

Examples:
  customhouse --profile net/NL-DOUANE/clients/officer query delivery 5f0c…
  customhouse --profile acme query delivery 5f0c… --wait 30";

#[derive(clap::Args)]
pub(crate) struct DeliveryArgs {
    /// Record id: 64 hexadecimal digits.
    #[arg(value_name = "ID")]
    id: Hash,
    /// Wait so long until all hold it; at most 60.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=60))]
    wait: u32,
}

#[derive(Serialize)]
struct DeliveryView {
    record_id: Hash,
    delivered: usize,
    parties: Vec<PartyView>,
}

#[derive(Serialize)]
struct PartyView {
    agency: String,
    delivered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    at_ms: Option<u64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason_code: String,
}

impl fmt::Display for DeliveryView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { record_id, delivered, parties } = self;
        if parties.is_empty() {
            return write!(f, "record {record_id} is shared with nobody");
        }
        write!(f, "record {record_id} is delivered to {delivered} of {}", parties.len())?;
        for PartyView { agency, at_ms, reason_code, .. } in parties {
            let agency = one_line(agency);
            match at_ms {
                Some(at_ms) => {
                    write!(f, "\n{agency:<16}  holds it, since {}", time::shown(*at_ms))?
                }
                None if reason_code.is_empty() => write!(f, "\n{agency:<16}  not yet")?,
                None => {
                    write!(f, "\n{agency:<16}  not yet: its node said {}", one_line(reason_code))?;
                }
            }
        }
        Ok(())
    }
}

pub(super) async fn show(args: &DeliveryArgs, output: Output, connection: &Connection) -> Done {
    let answer = connection.client.delivery(args.id, args.wait * 1000).await?;
    let view = |party: PartyDelivery| {
        let delivered = party.state() == State::Delivered;
        PartyView {
            delivered,
            at_ms: delivered.then_some(party.at_ms),
            agency: party.agency,
            reason_code: party.reason_code,
        }
    };
    let parties: Vec<_> = answer.parties.into_iter().map(view).collect();
    let delivered = parties.iter().filter(|party| party.delivered).count();
    let all = delivered == parties.len();
    output.print(&DeliveryView { record_id: args.id, delivered, parties })?;
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::from(INCOMPLETE) })
}
