//! Lodges the agreements that were laid out with a network, once its nodes serve.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, bail};
use customhouse_files::profile::Profile;
use customhouse_ledger::hash::Hash;
use customhouse_node::{agreements::offer_file, local_network::LocalNetwork};
use customhouse_proto::v1::Phase;
use tokio::time::Instant;

use crate::{connect, failure};

/// How long it is tried: a network that was just started has its first blocks by then.
const TIME: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_secs(1);

/// Lodges each, unless it is on the chain, and says what became of it.
pub(super) async fn lodge(network: &LocalNetwork) {
    for path in network.agreement_files() {
        let deadline = Instant::now() + TIME;
        loop {
            match lodge_one(network, &path).await {
                Ok(said) => {
                    note!("agreement {}: {said}", path.display());
                    break;
                }
                Err(error) if Instant::now() >= deadline => {
                    let error = failure::sentence(&error);
                    note!("agreement {}: not lodged: {error}", path.display());
                    note!("lodge it by hand: customhouse agreement lodge {}", path.display());
                    break;
                }
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}

async fn lodge_one(network: &LocalNetwork, path: &Path) -> anyhow::Result<&'static str> {
    let offer = offer_file::read(path)?;
    let agency = network.agencies.iter().find(|agency| agency.code().as_str() == offer.from);
    let agency = agency.with_context(|| format!("{} has no node here", offer.from))?;
    let node = connect::connect(Profile::read(&agency.client("operator"))?).await?;
    let lodged = node.client.lodge_offer(offer).await?;
    if lodged.agreed {
        return Ok("is on the chain");
    }
    let record_id = Hash::from_slice(&lodged.record_id).context("record_id")?;
    let end = node.client.wait_receipt(record_id, Some(TIME)).await?;
    match end.phase() {
        Phase::Final => Ok("is on the chain now"),
        _ => bail!("{} ({})", end.reason, end.reason_code),
    }
}
