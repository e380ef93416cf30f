//! In which role somebody speaks: the names of the roles, and which of them are whose. What each role may
//! state is one table, [`crate::authority`].

pub use customhouse_proto::v1::Role;

/// Every role, with its name in files and on the command line.
pub const ROLES: [(Role, &str); 6] = [
    (Role::Node, "node"),
    (Role::Office, "office"),
    (Role::Broker, "broker"),
    (Role::Carrier, "carrier"),
    (Role::Trader, "trader"),
    (Role::Port, "port"),
];

/// The name of a role; `unknown` for one that this version does not know.
pub fn name(role: Role) -> &'static str {
    ROLES.iter().find(|(known, _)| *known == role).map_or("unknown", |(_, name)| name)
}

/// The role of a name.
pub fn named(name: &str) -> Option<Role> {
    ROLES.iter().find(|(_, known)| *known == name).map(|(role, _)| *role)
}

/// The role of a number in a message; `None` where it is unset or unknown.
pub fn numbered(number: i32) -> Option<Role> {
    Role::try_from(number).ok().filter(|role| *role != Role::Unspecified)
}

/// Whether who speaks in this role has a name of its own, which its records carry: everybody but the node.
pub fn is_submitter(role: Role) -> bool {
    !matches!(role, Role::Unspecified | Role::Node)
}

/// A role in a file, by its name: for `#[serde(with = "…")]`.
pub mod by_name {
    use customhouse_proto::v1::Role;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    /// Writes the role's name.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(role: &Role, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(super::name(*role))
    }

    /// Reads a role's name.
    ///
    /// # Errors
    /// A name that is not a role's.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
        let name = String::deserialize(deserializer)?;
        super::named(&name).ok_or_else(|| {
            let known: Vec<_> = super::ROLES.iter().map(|(_, name)| *name).collect();
            D::Error::custom(format!("`{name}` is not a role ({})", known.join(", ")))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_role_of_the_interface_has_one_name() {
        let known = (1..).map_while(|number| Role::try_from(number).ok());
        let names: Vec<_> = known.map(|role| (role, name(role))).collect();
        assert_eq!(names, ROLES);
        assert!(ROLES.iter().all(|(role, name)| named(name) == Some(*role)));
        assert_eq!((name(Role::Unspecified), named("unspecified")), ("unknown", None));
        assert_eq!((numbered(0), numbered(7), numbered(2)), (None, None, Some(Role::Office)));
    }
}
