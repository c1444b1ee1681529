//! `keyward`: the server, and the command line that manages it. One file a command.

mod failure;
mod serve;
mod settings;
mod terminal;
mod when;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Identity and access management for machines, devices and the people behind them.
#[derive(Parser)]
#[command(name = "keyward", version, about, arg_required_else_help = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    failure::exit_code(run(arguments))
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    // Once and for all of TLS: the server's, PostgreSQL's and the command line's own.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match arguments.command {
            Command::Serve(serve) => serve.run().await,
        }
    })
}
