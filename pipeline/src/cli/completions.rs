//! `tessera completions`.

use std::io::Write;

use anyhow::Result;
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

/// For which shell.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    pub(super) fn run<C: CommandFactory>(self, out: &mut dyn Write) -> Result<()> {
        // The generator takes a writer that does not fail; one that does is told below.
        let mut script = Vec::new();
        generate(self.shell, &mut C::command(), "tessera", &mut script);
        Ok(out.write_all(&script)?)
    }
}
