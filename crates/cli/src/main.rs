//! The `wasq` command; see the library.

// The SDK's futures nest deeper than the compiler looks by default.
#![recursion_limit = "256"]

fn main() -> std::process::ExitCode {
    // Before anything else: the process may be one that compiles.
    wasq_cli::compile_if_asked();
    answer()
}

#[tokio::main]
async fn answer() -> std::process::ExitCode {
    wasq_cli::main().await
}
