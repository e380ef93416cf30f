//! Waiting for a condition, with a deadline. Tests never sleep for a time in the hope that
//! something has happened by then.

use std::time::{Duration, Instant};

/// How long anything may take on a loaded machine before it counts as not happening.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Time between two looks.
const INTERVAL: Duration = Duration::from_millis(20);

/// Looks again and again until the probe gives a value.
///
/// # Panics
/// After `limit`, with what was waited for and what the probe said last.
pub async fn until<T>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        // A probe that never answers is a condition that does not come about.
        let looked = tokio::time::timeout(limit, probe()).await;
        let missing = match looked {
            Ok(Ok(value)) => return value,
            Ok(Err(missing)) => missing,
            Err(_) => "no answer".to_owned(),
        };
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}: {missing}");
        tokio::time::sleep(INTERVAL).await;
    }
}
