//! Customhouse tests.
