//! A server as an operating system process: started, watched through /proc, ended.

use std::fs;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

/// Clock ticks per second in /proc/PID/stat; Linux fixes this at 100 towards programs.
const TICKS_PER_SECOND: f64 = 100.0;
/// How long a server may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server. Dropping it kills the process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    /// When it was started.
    pub started: Instant,
}

/// Memory of a process in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident now (`VmRSS`).
    pub resident: u64,
    /// The most it ever was (`VmHWM`).
    pub peak: u64,
}

impl Process {
    /// Starts a program.
    pub fn start(command: &mut Command) -> anyhow::Result<Self> {
        let started = Instant::now();
        let child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child, started })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, when it was started with a pipe and nobody took it before.
    pub fn take_stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// CPU seconds used so far, user and system, all threads, in steps of 10 ms.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id()))?;
        ticks(&stat).map(|ticks| ticks as f64 / TICKS_PER_SECOND).context("cannot read CPU time from /proc/PID/stat")
    }

    /// Its memory now.
    pub fn memory(&self) -> anyhow::Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        Ok(Memory {
            resident: bytes(&status, "VmRSS:").context("no VmRSS")?,
            peak: bytes(&status, "VmHWM:").context("no VmHWM")?,
        })
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn stop(mut self) -> anyhow::Result<()> {
        let asked = Command::new("kill").arg(self.id().to_string()).status()?.success();
        ensure!(asked, "cannot signal the server");
        let deadline = Instant::now() + PATIENCE;
        while !self.has_ended()? {
            ensure!(Instant::now() < deadline, "the server did not end");
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `utime` + `stime` of a /proc/PID/stat line; the name in parentheses may hold anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// A `Name:   123 kB` line of /proc/PID/status in bytes.
fn bytes(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: u64 = value.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// Refuses to go on where this process, and with it the servers it starts, may not have so many files open.
pub fn require_open_files(wanted: u64) -> anyhow::Result<()> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    require_within(wanted, &limits)
}

fn require_within(wanted: u64, limits: &str) -> anyhow::Result<()> {
    let allowed = open_files(limits).context("cannot read the limit of open files from /proc/self/limits")?;
    ensure!(
        allowed >= wanted,
        "this needs {wanted} open files and the limit is {allowed}: run `ulimit -n {wanted}` before it, or ask for less"
    );
    Ok(())
}

/// The soft limit of open files in /proc/self/limits.
fn open_files(limits: &str) -> Option<u64> {
    let values = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match values.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_a_name_with_parentheses() {
        let stat = "42 (a) b) S 1 42 42 0 -1 4194304 100 0 0 0 150 25 0 0 20 0 3 0 1 2 3";
        assert_eq!(ticks(stat), Some(175));
    }

    #[test]
    fn memory_lines_are_kibibytes() {
        assert_eq!(bytes("VmHWM:\t  10 kB\nVmRSS:\t   4 kB\n", "VmRSS:"), Some(4096));
    }

    #[test]
    fn the_limit_of_open_files_is_the_one_that_holds_now() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024      524288     files\n";
        assert_eq!(open_files(limits), Some(1024));
        assert_eq!(open_files("Max open files   unlimited  unlimited  files"), Some(u64::MAX));
        assert_eq!(open_files("Max processes 1 2"), None);
    }

    #[test]
    fn too_low_a_limit_of_open_files_says_how_to_raise_it() {
        let limits = "Max open files            1024      524288     files\n";
        let error = require_within(1025, limits).map_err(|error| error.to_string());
        assert!(error.is_err_and(|text| text.contains("the limit is 1024") && text.contains("`ulimit -n 1025`")));
        assert!(require_within(1024, limits).is_ok());
    }
}
