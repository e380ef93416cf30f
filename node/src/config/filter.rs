//! Whether a log filter names anything: `tracing` takes a misspelt one for the name of a part that says
//! nothing, and all else is silent.

use tracing_subscriber::filter::LevelFilter;

/// The libraries below this node that have something to say.
const LIBRARIES: [&str; 26] = [
    "axum",
    "h2",
    "hyper",
    "hyper_util",
    "libp2p",
    "libp2p_allow_block_list",
    "libp2p_connection_limits",
    "libp2p_core",
    "libp2p_gossipsub",
    "libp2p_identity",
    "libp2p_noise",
    "libp2p_ping",
    "libp2p_request_response",
    "libp2p_swarm",
    "libp2p_tcp",
    "libp2p_yamux",
    "log",
    "multistream_select",
    "rustls",
    "tokio",
    "tokio_rustls",
    "tokio_util",
    "tonic",
    "tower",
    "tower_http",
    "yamux",
];

/// The crates of this program, with the source of each whose modules are known.
const OWN: [(&str, &str); 7] = [
    ("customhouse_node", include_str!("../lib.rs")),
    ("customhouse_cli", ""),
    ("customhouse_client", ""),
    ("customhouse_files", ""),
    ("customhouse_ledger", ""),
    ("customhouse_consensus", ""),
    ("customhouse", ""),
];

/// Checks each directive of a filter.
///
/// # Errors
/// The first that is not a directive, or that names nothing.
pub(super) fn check(filter: &str) -> Result<(), String> {
    if filter.trim().is_empty() {
        return Err("is empty, and nothing would be said: \"info\" is usual".to_owned());
    }
    if let Err(error) = filter.parse::<tracing_subscriber::EnvFilter>() {
        return Err(error.to_string());
    }
    // As that parser does: a comma ends a directive within a span's brackets too.
    let mut directives = filter.split(',').map(str::trim).filter(|part| !part.is_empty());
    directives.try_for_each(check_target)
}

fn check_target(directive: &str) -> Result<(), String> {
    let target = directive.split(['=', '[']).next().unwrap_or_default().trim();
    let is_level = directive == target && target.parse::<LevelFilter>().is_ok();
    if target.is_empty() || is_level {
        return Ok(());
    }
    let mut parts = target.split("::");
    let (name, module) = (parts.next().unwrap_or_default(), parts.next());
    if LIBRARIES.contains(&name) {
        return Ok(());
    }
    let Some((_, source)) = OWN.iter().find(|(own, _)| *own == name) else {
        return Err(format!(
            "`{target}` is neither a level (error, warn, info, debug, trace, off) nor a part of the \
             program, such as customhouse_node::network"
        ));
    };
    let modules: Vec<&str> = source.lines().filter_map(module_of).collect();
    match module {
        Some(module) if !modules.is_empty() && !modules.contains(&module) => {
            Err(format!("customhouse_node has no part `{module}`: it has {}", modules.join(", ")))
        }
        _ => Ok(()),
    }
}

/// The module that a line of a crate's root declares.
fn module_of(line: &str) -> Option<&str> {
    let line = line.strip_prefix("pub ").unwrap_or(line);
    line.strip_prefix("mod ")?.strip_suffix(';')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_names_nothing_is_refused() {
        for good in [
            "info",
            "warn,customhouse_node::network=debug",
            "info,libp2p_swarm=trace,off",
            "customhouse_node[a{b=1}]=debug,info",
            "[span]=debug",
            "customhouse_ledger::chain",
            "2",
        ] {
            check(good).expect(good);
        }
        for (bad, says) in [
            ("inof", "`inof` is neither"),
            ("info,customhouse_nod=debug", "`customhouse_nod` is neither"),
            ("customhouse_node::netwrok=debug", "no part `netwrok`: it has "),
            ("customhouse-node=debug", "neither"),
            ("a=b=c", "level filter"),
            (" ", "is empty"),
        ] {
            let refused = check(bad).expect_err(bad);
            assert!(refused.contains(says), "{bad}: {refused}");
        }
    }

    #[test]
    fn the_libraries_are_those_of_the_program() {
        let lock = include_str!("../../../Cargo.lock").replace('-', "_");
        for library in LIBRARIES {
            assert!(lock.contains(&format!("name = \"{library}\"")), "{library}");
        }
    }
}
