//! `customhouse-audit`: the audits alone, for a machine on which no node runs.

fn main() -> std::process::ExitCode {
    customhouse_cli::audit_main()
}
