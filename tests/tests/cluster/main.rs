//! What four nodes promise, asked of four real processes.

mod agreement;
mod catching_up;
mod crashes;
mod idempotency;
mod misbehaviour;
mod python;
mod receipts;
mod rubbish;
mod shared_data;
