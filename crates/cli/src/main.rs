//! `keyward`: the server, and the command line that manages it. One file a command.

mod access;
mod api;
mod audit;
mod bootstrap;
mod caller;
mod client;
mod completions;
mod credential;
mod demo;
mod doctor;
mod failure;
mod health;
mod key;
mod login;
mod logout;
mod master_key;
mod names;
mod notices;
mod options;
mod profile;
mod progress;
mod recover;
mod remote;
mod report;
mod scope;
mod serve;
mod session;
mod settings;
mod state;
mod table;
mod terminal;
mod token;
mod user;
mod watch;
mod webhook;
mod when;
mod whoami;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use options::Global;

/// Identity and access management for machines, devices and the people behind them.
#[derive(Parser)]
#[command(name = "keyward", version, about, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "\
Begin with `keyward demo`, which shows the whole road in a temporary directory,
or with `keyward serve`.

Exit codes: 0 done, 1 failed, 2 called in a way that cannot work.")]
struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Serve),
    Demo(demo::Demo),
    Bootstrap(bootstrap::Bootstrap),
    Login(login::Login),
    Logout(logout::Logout),
    Whoami(whoami::Whoami),
    #[command(subcommand)]
    Client(client::Client),
    #[command(subcommand)]
    Credential(credential::Credential),
    #[command(subcommand)]
    Session(session::Session),
    #[command(subcommand)]
    User(user::User),
    #[command(subcommand)]
    Api(api::Api),
    #[command(subcommand)]
    Scope(scope::Scope),
    #[command(subcommand)]
    Report(report::Report),
    #[command(subcommand)]
    Webhook(webhook::Webhook),
    Notices(notices::Notices),
    Token(token::Token),
    #[command(subcommand)]
    Profile(profile::command::ProfileCommand),
    #[command(subcommand)]
    Audit(audit::Audit),
    #[command(subcommand)]
    Key(key::Key),
    #[command(subcommand)]
    MasterKey(master_key::MasterKey),
    Doctor(doctor::Doctor),
    Health(health::Health),
    Recover(recover::Recover),
    Completions(completions::Completions),
}

fn main() -> ExitCode {
    let Arguments { global, command } = Arguments::parse();
    failure::exit_code(run(&global, command))
}

fn run(global: &Global, command: Command) -> anyhow::Result<()> {
    // Once and for all of TLS: the server's, PostgreSQL's and the command line's own.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Serve(serve) => serve.run().await,
            Command::Demo(demo) => demo.run().await,
            Command::Bootstrap(bootstrap) => bootstrap.run(global).await,
            Command::Login(login) => login.run(global).await,
            Command::Logout(logout) => logout.run(global).await,
            Command::Whoami(whoami) => whoami.run(global).await,
            Command::Client(client) => client.run(global).await,
            Command::Credential(credential) => credential.run(global).await,
            Command::Session(session) => session.run(global).await,
            Command::User(user) => user.run(global).await,
            Command::Api(api) => api.run(global).await,
            Command::Scope(scope) => scope.run(global).await,
            Command::Report(report) => report.run(global).await,
            Command::Webhook(webhook) => webhook.run(global).await,
            Command::Notices(notices) => notices.run(global).await,
            Command::Token(token) => token.run(global).await,
            Command::Profile(profile) => profile.run(global),
            Command::Audit(audit) => audit.run(global).await,
            Command::Key(key) => key.run(global).await,
            Command::MasterKey(master_key) => master_key.run().await,
            Command::Doctor(doctor) => doctor.run(global).await,
            Command::Health(health) => health.run(global).await,
            Command::Recover(recover) => recover.run().await,
            Command::Completions(completions) => completions.run(),
        }
    })
}
