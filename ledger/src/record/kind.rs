//! The kinds of records, one in a file, with its rules, its subjects, its names and its text form. A kind
//! of the interface that lacks one of them does not compile.

use customhouse_proto::v1::record::Body;

use super::RecordError;
use crate::record::subject::Subjects;

/// A kind of record.
pub trait Kind {
    /// Its name, as it is shown to people.
    fn name(&self) -> &'static str;

    /// The field by which people look for a record of this kind.
    fn field(&self) -> &'static str;

    /// An id that tells it from others of its kind although it is not a subject; empty where it has none.
    fn own_id(&self) -> &str;

    /// The rules of the chain beside those that hold for every record.
    ///
    /// # Errors
    /// The first that is broken.
    fn check(&self) -> Result<(), RecordError>;

    /// What it is about. Empty ids count as absent.
    fn add_subjects(&self, to: &mut Subjects<'_>);

    /// What people look for first: names and values; empty values are not shown. The JSON has everything.
    fn summary(&self) -> Vec<(&'static str, String)>;
}

/// The kind of a record's body.
pub fn kind_of(body: &Body) -> &dyn Kind {
    match body {
        Body::Declaration(declaration) => declaration,
        Body::DeclarationStatus(status) => status,
        Body::TransportDocument(document) => document,
        Body::Event(event) => event,
        Body::Certificate(certificate) => certificate,
        Body::Inspection(inspection) => inspection,
        Body::EnforcementAction(action) => action,
        Body::RiskAlert(alert) => alert,
        Body::AssistanceRequest(request) => request,
        Body::AssistanceResponse(response) => response,
        Body::TraderStatus(status) => status,
        Body::RegistryChange(change) => change,
        Body::Misbehaviour(misbehaviour) => misbehaviour,
        Body::AgreementChange(change) => change,
    }
}
