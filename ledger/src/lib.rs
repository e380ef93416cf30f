//! Customhouse ledger.
