//! Which CPU runs what: the server under test and the generator each get their own, by the `taskset` program.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use serde::Serialize;

/// Where programs run.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// One CPU for the servers, another for the generator; `all` is what the driver was given.
    Pinned {
        /// The CPU of the server under test.
        server: usize,
        /// The CPU of the generator.
        generator: usize,
        /// Every CPU there is, as `taskset --cpu-list` reads it.
        all: String,
    },
    /// Left to the scheduler: one CPU only, or no `taskset`.
    Free,
}

/// Which CPUs a server may use.
#[derive(Clone, Copy, Debug)]
pub enum Cpus {
    /// The one kept for servers, for load.
    One,
    /// All, as when somebody starts it.
    All,
}

impl Placement {
    /// Takes two of the CPUs that this process may use, or none when there are not two.
    pub fn choose() -> anyhow::Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let all = status
            .lines()
            .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))
            .context("no Cpus_allowed_list in /proc/self/status")?
            .trim();
        let taskset = Command::new("taskset").arg("--version").stdout(Stdio::null()).status();
        Ok(match cpus(all)[..] {
            [server, generator, ..] if taskset.is_ok_and(|status| status.success()) => {
                Self::Pinned { server, generator, all: all.to_owned() }
            }
            _ => Self::Free,
        })
    }

    /// Moves this process to the generator's CPU.
    pub fn pin_generator(&self) -> anyhow::Result<()> {
        let Self::Pinned { generator, .. } = self else {
            return Ok(());
        };
        let status = Command::new("taskset")
            .args(["--all-tasks", "--cpu-list", "--pid"])
            .arg(generator.to_string())
            .arg(std::process::id().to_string())
            .stdout(Stdio::null())
            .status()?;
        ensure!(status.success(), "taskset could not pin the generator");
        Ok(())
    }

    /// The command for a server. `taskset` replaces itself by the program, so the process id stays.
    pub fn command(&self, cpus: Cpus, program: &str) -> Command {
        match (self, cpus) {
            (Self::Pinned { server, .. }, Cpus::One) => Self::taskset(&server.to_string(), program),
            (Self::Pinned { all, .. }, Cpus::All) => Self::taskset(all, program),
            (Self::Free, _) => Command::new(program),
        }
    }

    fn taskset(list: &str, program: &str) -> Command {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", list, program]);
        command
    }
}

/// The numbers in a list such as `0,2-3`.
fn cpus(list: &str) -> Vec<usize> {
    list.split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse().ok()?..=last.parse().ok()?)
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cpu_list_is_read_with_its_ranges() {
        assert_eq!(cpus("0,2-4,7"), [0, 2, 3, 4, 7]);
        assert_eq!(cpus("5"), [5]);
    }
}
