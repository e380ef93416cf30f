//! Files of keys, certificates and an agency: read up to a limit, written whole or not at all, secrets for
//! their owner only.

pub mod agency_file;
pub mod date;
pub mod folder;
pub mod frames;
pub mod hardening;
pub mod keyfile;
pub mod newfile;
pub mod passphrase;
pub mod pem;
pub mod profile;
pub mod readfile;
pub mod secret;
pub mod wrapped_key;
