//! `keyward completions`: what the shell needs to complete commands and options.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::terminal;

/// Print the completions for a shell
#[derive(Args)]
#[command(after_help = "\
Examples:
  keyward completions bash > /etc/bash_completion.d/keyward
  keyward completions zsh > \"${fpath[1]}/_keyward\"
  keyward completions fish > ~/.config/fish/completions/keyward.fish")]
pub(crate) struct Completions {
    shell: Shell,
}

impl Completions {
    /// Prints them.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut crate::Arguments::command(), "keyward", &mut script);
        Ok(terminal::print(&String::from_utf8(script)?)?)
    }
}
