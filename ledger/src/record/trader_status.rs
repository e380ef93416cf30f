//! What an agency grants a trader, such as authorised economic operator.

use customhouse_proto::v1;

use super::{RecordError, kind::Kind};
use crate::record::subject::Subjects;

impl Kind for v1::TraderStatus {
    fn name(&self) -> &'static str {
        "trader status"
    }

    fn field(&self) -> &'static str {
        "trader_status.trader.id"
    }

    fn own_id(&self) -> &str {
        ""
    }

    fn check(&self) -> Result<(), RecordError> {
        let known = v1::trader_status::Status::try_from(self.status)
            .is_ok_and(|status| status != v1::trader_status::Status::Unspecified);
        if known { Ok(()) } else { Err(RecordError::Enumeration("trader_status.status")) }
    }

    fn add_subjects(&self, to: &mut Subjects<'_>) {
        to.add_parties(&self.trader);
    }

    fn summary(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
