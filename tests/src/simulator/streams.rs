//! Random streams that do not disturb each other: one more message on the network must not change
//! when a node crashes.

use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;

/// One stream a subject, all from one seed.
pub(super) struct Streams {
    pub(super) swarm: ChaCha8Rng,
    pub(super) workload: ChaCha8Rng,
    pub(super) network: ChaCha8Rng,
    pub(super) disk: ChaCha8Rng,
    pub(super) crash: ChaCha8Rng,
    pub(super) clock: ChaCha8Rng,
    pub(super) byzantine: ChaCha8Rng,
    pub(super) registry: ChaCha8Rng,
    pub(super) attack: ChaCha8Rng,
    pub(super) agreements: ChaCha8Rng,
}

impl Streams {
    pub(super) fn new(seed: u64) -> Self {
        let stream = |subject| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(subject);
            rng
        };
        Self {
            swarm: stream(1),
            workload: stream(2),
            network: stream(3),
            disk: stream(4),
            crash: stream(5),
            clock: stream(6),
            byzantine: stream(7),
            registry: stream(8),
            attack: stream(9),
            agreements: stream(10),
        }
    }
}
