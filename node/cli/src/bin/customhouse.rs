//! `customhouse`: the node and its command line, one binary.

/// The allocator of the program only: tests and whoever embeds the library have their own.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::process::ExitCode {
    customhouse_cli::main()
}
