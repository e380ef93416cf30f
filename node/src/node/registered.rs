//! Whether the registry at the ledger's tip has this node's keys. It need not: a node that is to join
//! follows first, and one that is behind does not know the newest registry. So a missing key is
//! reported, and never refused.

use customhouse_ledger::{chain::ChainReader, keys::PublicKey};

use super::NodeParts;

/// Says which of the node's keys the registry does not have at the next height.
pub(super) fn warn(reader: &ChainReader, parts: &NodeParts) {
    let tip = reader.tip();
    let height = tip.header.height + 1;
    let registry = &tip.registry;
    let validators = tip.validators.as_slice();
    let votes =
        |key: PublicKey| validators.iter().any(|v| (v.agency, v.key) == (parts.agency, key));
    let next = parts.next_validator.as_ref().is_some_and(|next| votes(next.key.public()));
    let peer = (parts.agency, parts.network.identity.public());
    let signer = registry.signer_at(&parts.signing.public(), height);
    let missing = [
        (
            "validator",
            votes(parts.validator.key.public()) || next,
            "it has no vote: the node follows, and votes when the registry gives the key a vote",
        ),
        (
            "peer",
            registry.peers_at(height).contains(&peer),
            "nodes whose registry does not have it either will not talk to this node",
        ),
        (
            "signing",
            signer.is_some_and(|signer| signer.agency == parts.agency),
            "what clients submit to this node is refused until the registry has it",
        ),
    ];
    for (key, _, consequence) in missing.into_iter().filter(|(_, registered, _)| !registered) {
        tracing::warn!(key, height, consequence, "the registry does not have a key of this node");
    }
}
