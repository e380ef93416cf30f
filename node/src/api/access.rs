//! Which role may call which method: the one table.

use tonic::Code;

use crate::identity::Role::{self, Auditor, Integrator, Officer, Operator};

use super::refused::Refused;

/// Roles by method. A method of ours that is not here may be called by nobody; health and
/// reflection, which say nothing about trade, by everyone with a certificate.
const ROLES: [(&str, &[Role]); 21] = [
    ("/customhouse.v1.Submission/SubmitRecords", &[Integrator, Operator]),
    ("/customhouse.v1.Submission/StreamRecords", &[Integrator, Operator]),
    ("/customhouse.v1.Submission/SubmitTransaction", &[Integrator, Operator]),
    ("/customhouse.v1.Submission/StreamTransactions", &[Integrator, Operator]),
    ("/customhouse.v1.Submission/WaitReceipt", &[Integrator, Operator]),
    ("/customhouse.v1.Query/GetRecord", &[Integrator, Officer, Auditor, Operator]),
    ("/customhouse.v1.Query/GetTransaction", &[Integrator, Officer, Auditor, Operator]),
    ("/customhouse.v1.Query/GetHistory", &[Integrator, Officer, Auditor, Operator]),
    // What anyone needs to check a receipt; it is the network's face, not its trade.
    ("/customhouse.v1.Audit/GetGenesis", &[Integrator, Officer, Auditor, Operator]),
    ("/customhouse.v1.Audit/GetHeader", &[Integrator, Officer, Auditor, Operator]),
    ("/customhouse.v1.Audit/GetReceipt", &[Integrator, Auditor, Operator]),
    ("/customhouse.v1.Audit/GetHistoryProof", &[Auditor, Operator]),
    ("/customhouse.v1.Audit/GetConsistencyProof", &[Auditor, Operator]),
    ("/customhouse.v1.Audit/GetValidatorChain", &[Integrator, Officer, Auditor, Operator]),
    ("/customhouse.v1.Audit/GetDecision", &[Auditor, Operator]),
    ("/customhouse.v1.Audit/GetCheckpoint", &[Integrator, Officer, Auditor, Operator]),
    ("/customhouse.v1.Audit/GetRegistry", &[Integrator, Officer, Auditor, Operator]),
    ("/customhouse.v1.Admin/GetStatus", &[Operator]),
    ("/customhouse.v1.Admin/ListPeers", &[Operator]),
    ("/customhouse.v1.Admin/SubmitRegistryChange", &[Operator]),
    ("/customhouse.v1.Admin/CreateBackup", &[Operator]),
];

const STANDARD: [&str; 3] =
    ["/grpc.health.v1.Health/", "/grpc.reflection.v1.", "/grpc.reflection.v1alpha."];

/// Checks that a role may call a method, by its path `/package.Service/Method`.
pub(super) fn permit(role: Role, path: &str) -> Result<(), Refused> {
    if STANDARD.iter().any(|prefix| path.starts_with(prefix)) {
        return Ok(());
    }
    let row = ROLES.iter().find(|(method, _)| *method == path);
    match row {
        Some((_, roles)) if roles.contains(&role) => Ok(()),
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
        let mut known: Vec<_> = ROLES.iter().map(|(path, _)| (*path).to_owned()).collect();
        let mut published = methods();
        known.sort_unstable();
        published.sort_unstable();
        assert_eq!(known, published);
    }

    #[test]
    fn each_role_has_its_methods() {
        assert_eq!(permitted(Operator), methods());
        for (role, count, refused) in [
            (Integrator, 14, "/customhouse.v1.Audit/GetHistoryProof"),
            (Officer, 8, "/customhouse.v1.Submission/SubmitRecords"),
            (Auditor, 12, "/customhouse.v1.Submission/StreamTransactions"),
        ] {
            assert_eq!(permitted(role).len(), count, "{role}");
            let error = permit(role, refused).expect_err("refused");
            assert_eq!((error.code, error.reason_code), (Code::PermissionDenied, "ROLE"));
            assert!(permit(role, "/customhouse.v1.Admin/GetStatus").is_err());
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
