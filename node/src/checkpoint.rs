//! Checkpoints of the log, as notes that this node signs.

use customhouse_ledger::{
    finality::header::Header,
    keys::SigningKey,
    registry::genesis::Genesis,
    tlog::{
        self,
        checkpoint::Checkpoint,
        note::{NoteSigner, VerifierKey},
    },
};

/// Signs this node's checkpoints.
#[derive(Debug)]
pub struct CheckpointSigner {
    network: String,
    signer: NoteSigner,
}

impl CheckpointSigner {
    /// Of a chain, with the node's checkpoint key.
    pub fn new(genesis: &Genesis, key: SigningKey) -> Self {
        let origin = tlog::origin(&genesis.network, &genesis.chain_id());
        let signer = NoteSigner::new(&origin, key);
        let signer = signer.expect("a genesis allows no space and no plus in its network's name");
        Self { network: genesis.network.clone(), signer }
    }

    /// What tools verify the notes with.
    pub fn verifier(&self) -> &VerifierKey {
        self.signer.verifier()
    }

    /// The checkpoint of a committed block's log. A log must never sign two that contradict each other:
    /// only headers with a finalization are given to this.
    pub fn note(&self, committed: &Header) -> String {
        let text = Checkpoint::of(&self.network, committed).text();
        self.signer.sign(&text).expect("an origin, a number and base64 have no control character")
    }
}
