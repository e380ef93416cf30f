//! `customhouse`: the node and its command line, one binary.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
