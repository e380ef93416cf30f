//! A node that an audit asks.

use customhouse_client::Client;

/// A node that is asked, and not trusted.
#[derive(Clone, Copy, Debug)]
pub struct AskedNode<'a> {
    /// The connection to it.
    pub client: &'a Client,
    /// What people call it: its endpoint.
    pub name: &'a str,
}
