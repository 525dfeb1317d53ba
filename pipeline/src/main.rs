//! The `tessera` binary.

fn main() -> std::process::ExitCode {
    tessera_pipeline::cli::main()
}
