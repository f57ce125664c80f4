//! The `wasq` command; see the library.

// The SDK's futures nest deeper than the compiler looks by default.
#![recursion_limit = "256"]

#[tokio::main]
async fn main() -> std::process::ExitCode {
    wasq_cli::main().await
}
