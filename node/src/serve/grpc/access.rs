//! The one table of methods: which role may call each, and whose share a call takes from.

use tonic::Code;

use crate::identity::Role::{self, Auditor, Broker, Carrier, Officer, Operator, Port, Trader};

use crate::serve::{quotas::Class, refused::Refused};

/// A method, by its path `/package.Service/Method`.
pub(super) struct Method {
    path: &'static str,
    /// Who may call it.
    roles: &'static [Role],
    /// Calls of a class share what a client may have of them.
    pub(super) class: Class,
    /// Bytes that its answer has at most, or usually: they are set aside before it is made, and more where
    /// a large record is found.
    pub(super) answer_bytes: usize,
}

const KIB: usize = 1024;
const EVERYONE: &[Role] = &Role::ALL;
/// Those who speak in their records, see [`Role::speaks_as`].
const SUBMITTERS: &[Role] = &[Officer, Broker, Carrier, Trader, Port];
/// Those whose submissions end: an operator submits changes of the registry.
const WAITERS: &[Role] = &[Officer, Broker, Carrier, Trader, Port, Operator];
const AUDITORS: &[Role] = &[Auditor, Operator];

/// A method of ours that is not here may be called by nobody.
const METHODS: [Method; 42] = [
    row("/customhouse.v1.Submission/SubmitRecords", SUBMITTERS, Class::Submit, 16 * KIB),
    row("/customhouse.v1.Submission/StreamRecords", SUBMITTERS, Class::Stream, 64 * KIB),
    row("/customhouse.v1.Submission/SubmitTransaction", SUBMITTERS, Class::Submit, KIB),
    row("/customhouse.v1.Submission/StreamTransactions", SUBMITTERS, Class::Stream, 64 * KIB),
    row("/customhouse.v1.Submission/WaitReceipt", WAITERS, Class::Wait, KIB),
    row("/customhouse.v1.Submission/StreamReceipts", WAITERS, Class::Feed, KIB),
    row("/customhouse.v1.Submission/Grant", &[Officer], Class::Submit, KIB),
    row("/customhouse.v1.Attachments/Upload", SUBMITTERS, Class::Upload, KIB),
    row("/customhouse.v1.Attachments/Download", EVERYONE, Class::Download, 192 * KIB),
    row("/customhouse.v1.Attachments/Stat", EVERYONE, Class::Read, KIB),
    row("/customhouse.v1.Import/ImportMessages", SUBMITTERS, Class::Import, 64 * KIB),
    row("/customhouse.v1.Import/StreamImport", SUBMITTERS, Class::ImportStream, 64 * KIB),
    row("/customhouse.v1.Query/GetRecord", EVERYONE, Class::Read, 66 * KIB),
    row("/customhouse.v1.Query/ReadRecord", EVERYONE, Class::Large, 512 * KIB),
    row("/customhouse.v1.Query/GetTransaction", EVERYONE, Class::Read, 66 * KIB),
    row("/customhouse.v1.Query/ReadTransaction", EVERYONE, Class::Large, 512 * KIB),
    row("/customhouse.v1.Query/GetHistory", EVERYONE, Class::Read, 3584 * KIB),
    row("/customhouse.v1.Query/ListRecords", EVERYONE, Class::Read, 3584 * KIB),
    row("/customhouse.v1.Query/Subscribe", EVERYONE, Class::Feed, KIB),
    row("/customhouse.v1.Query/GetDelivery", SUBMITTERS, Class::Wait, 4 * KIB),
    // What anyone needs to check a receipt; it is the network's face, not its trade.
    row("/customhouse.v1.Audit/GetGenesis", EVERYONE, Class::Read, 3073 * KIB),
    row("/customhouse.v1.Audit/GetHeader", EVERYONE, Class::Read, 32 * KIB),
    row("/customhouse.v1.Audit/GetReceipt", EVERYONE, Class::Read, 128 * KIB),
    row("/customhouse.v1.Audit/ReadReceipt", EVERYONE, Class::Large, 512 * KIB),
    row("/customhouse.v1.Audit/GetReceipts", EVERYONE, Class::Feed, KIB),
    row("/customhouse.v1.Audit/GetHistoryProof", AUDITORS, Class::Proof, 3072 * KIB),
    row("/customhouse.v1.Audit/GetConsistencyProof", AUDITORS, Class::Read, 8 * KIB),
    row("/customhouse.v1.Audit/GetValidatorChain", EVERYONE, Class::Read, 2048 * KIB),
    row("/customhouse.v1.Audit/GetDecision", AUDITORS, Class::Read, 1024 * KIB),
    row("/customhouse.v1.Audit/GetCheckpoint", EVERYONE, Class::Read, 32 * KIB),
    row("/customhouse.v1.Audit/GetRegistry", EVERYONE, Class::Read, 1024 * KIB),
    row("/customhouse.v1.Admin/GetStatus", &[Operator], Class::Status, 2 * KIB),
    row("/customhouse.v1.Admin/ListPeers", &[Operator], Class::Status, 64 * KIB),
    row("/customhouse.v1.Admin/SubmitRegistryChange", &[Operator], Class::Submit, KIB),
    row("/customhouse.v1.Admin/CreateBackup", &[Operator], Class::Backup, KIB),
    row("/customhouse.v1.Agreements/Propose", &[Operator], Class::Submit, 64 * KIB),
    row("/customhouse.v1.Agreements/OpenOffer", &[Operator], Class::Submit, 64 * KIB),
    row("/customhouse.v1.Agreements/ApproveOffer", &[Operator], Class::Submit, 64 * KIB),
    row("/customhouse.v1.Agreements/LodgeOffer", &[Operator], Class::Submit, KIB),
    row("/customhouse.v1.Agreements/Leave", &[Operator], Class::Submit, KIB),
    row("/customhouse.v1.Agreements/List", &[Operator], Class::Read, 160 * KIB),
    row("/customhouse.v1.Agreements/Show", &[Operator], Class::Read, 128 * KIB),
];

/// Health and reflection say nothing about trade: everyone with a certificate may call them. Those
/// with a whole path are single calls; the others are streams without an end.
const STANDARD: [(&str, Class); 5] = [
    ("/grpc.health.v1.Health/Check", Class::Status),
    ("/grpc.health.v1.Health/List", Class::Status),
    ("/grpc.health.v1.Health/", Class::Watch),
    ("/grpc.reflection.v1.", Class::Watch),
    ("/grpc.reflection.v1alpha.", Class::Watch),
];

const fn row(
    path: &'static str,
    roles: &'static [Role],
    class: Class,
    answer_bytes: usize,
) -> Method {
    Method { path, roles, class, answer_bytes }
}

/// What a path is called in the log: a client chooses its path, and not what the log says.
pub(super) fn name_of(path: &str) -> &'static str {
    let ours = METHODS.iter().map(|method| method.path).find(|known| *known == path);
    let standard = || STANDARD.iter().map(|(prefix, _)| *prefix).find(|p| path.starts_with(p));
    ours.or_else(standard).unwrap_or("unknown")
}

/// Checks that a role may call a method, and gives its row.
pub(super) fn permit(role: Role, path: &str) -> Result<Method, Refused> {
    if let Some((_, class)) = STANDARD.iter().find(|(prefix, _)| path.starts_with(prefix)) {
        return Ok(row("", EVERYONE, *class, 64 * KIB));
    }
    let row = METHODS.into_iter().find(|method| method.path == path);
    match row {
        Some(method) if method.roles.contains(&role) => Ok(method),
        Some(_) => Err(Refused::role(role, path)),
        None => Err(Refused::new(Code::Unimplemented, "UNIMPLEMENTED", "no such method")),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use prost_types::FileDescriptorSet;

    use super::*;

    /// The methods of all our services, as the published files have them.
    fn methods() -> Vec<String> {
        let files = FileDescriptorSet::decode(customhouse_proto::DESCRIPTORS).expect("compiled");
        let methods = files.file.iter().flat_map(|file| {
            file.service.iter().flat_map(move |service| {
                let service_name = format!("/{}.{}", file.package(), service.name());
                service.method.iter().map(move |method| format!("{service_name}/{}", method.name()))
            })
        });
        methods.collect()
    }

    fn permitted(role: Role) -> Vec<String> {
        methods().into_iter().filter(|path| permit(role, path).is_ok()).collect()
    }

    #[test]
    fn the_table_has_every_method_and_no_other() {
        let mut known: Vec<_> = METHODS.iter().map(|method| method.path.to_owned()).collect();
        let mut published = methods();
        known.sort_unstable();
        published.sort_unstable();
        assert_eq!(known, published);
    }

    #[test]
    fn each_role_has_its_methods() {
        let lodging = |path: &&String| {
            let of = |name: &str| path.starts_with(&format!("/customhouse.v1.{name}"));
            let submits =
                of("Submission/") && !path.ends_with("Receipt") && !path.ends_with("Receipts");
            submits || of("Import/") || of("Attachments/Upload") || of("Query/GetDelivery")
        };
        let not_lodging: Vec<_> = methods().iter().filter(|p| !lodging(p)).cloned().collect();
        assert_eq!(permitted(Operator), not_lodging);
        for role in Role::ALL {
            let lodges = permitted(role).iter().any(|path| lodging(&path));
            assert_eq!(lodges, role.speaks_as().is_some(), "{role}");
        }
        for (role, count, refused) in [
            (Officer, 28, "/customhouse.v1.Audit/GetHistoryProof"),
            (Broker, 27, "/customhouse.v1.Audit/GetHistoryProof"),
            (Carrier, 27, "/customhouse.v1.Audit/GetHistoryProof"),
            (Trader, 27, "/customhouse.v1.Audit/GetHistoryProof"),
            (Port, 27, "/customhouse.v1.Audit/GetHistoryProof"),
            (Auditor, 20, "/customhouse.v1.Submission/StreamTransactions"),
        ] {
            assert_eq!(permitted(role).len(), count, "{role}");
            let error = permit(role, refused).err().expect("refused");
            assert_eq!((error.code, error.reason_code), (Code::PermissionDenied, "ROLE"));
            assert!(permit(role, "/customhouse.v1.Admin/GetStatus").is_err());
        }
    }

    #[test]
    fn the_log_has_no_words_of_a_client_for_a_method() {
        let long = format!("/grpc.health.v1.Health/{}", "x".repeat(10_000));
        let ours = "/customhouse.v1.Query/GetRecord";
        for (path, name) in [
            (ours, ours),
            ("/customhouse.v1.Query/GetRecord%0aERROR", "unknown"),
            ("", "unknown"),
            (&long, "/grpc.health.v1.Health/"),
        ] {
            assert_eq!(name_of(path), name);
        }
    }

    #[test]
    fn unknown_methods_are_nobody_s_and_health_is_everyone_s() {
        for role in Role::ALL {
            for path in ["", "/", "/customhouse.v1.Admin/Erase", "/customhouse.v1.Admin/GetStatus/"]
            {
                assert!(permit(role, path).is_err(), "{path}");
            }
            assert!(permit(role, "/grpc.health.v1.Health/Check").is_ok());
            let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
            assert!(permit(role, reflection).is_ok());
        }
    }
}
