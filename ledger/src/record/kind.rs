//! What there is of each kind of record: its rules, its subjects, its names and its text form, in a file a
//! kind. A kind of the interface that lacks one of them does not compile.

use customhouse_proto::v1::record::Body;

use super::RecordError;
use crate::record::subject::Subjects;

/// A kind of record.
pub trait Kind {
    /// Its name, as people are shown it.
    fn name(&self) -> &'static str;

    /// The field that a record of this kind is looked for by.
    fn field(&self) -> &'static str;

    /// What tells it from others of its kind although it is no subject; empty where nothing does.
    fn own_id(&self) -> &str;

    /// The rules of the chain beside those that hold for every record.
    ///
    /// # Errors
    /// The first that is broken.
    fn check(&self) -> Result<(), RecordError>;

    /// What it is about. Empty ids count as absent.
    fn add_subjects(&self, to: &mut Subjects<'_>);

    /// What people look for first: names and values, of which those that are empty are not shown. The whole
    /// is in the JSON.
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
    }
}
