//! What four nodes promise, asked of four real processes.

mod agreement;
mod auditors;
mod catching_up;
mod changes;
mod chaos;
mod crashes;
mod full_disk;
mod heads;
mod idempotency;
mod left_out;
mod links;
mod listed_liar;
mod lying_node;
mod misbehaviour;
mod observer;
mod pauses;
mod peer_port;
mod python;
mod receipts;
mod restored;
mod rolling;
mod rubbish;
mod shared_data;
mod stores;
mod stranded;
mod tlog;
