//! One test run: what its tests share, and that nothing of it stays behind.
//!
//! cargo-nextest runs every test in a process of its own, `cargo test` all of
//! them in one. Here both are one *run* with one directory. When the run ends,
//! however it ends, a watchdog process stops the servers that were started in
//! the directory and removes it.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File};
use std::io::{ErrorKind, Read};
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::{CommandExt, parent_id};
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::{LazyLock, Mutex, OnceLock, PoisonError};

/// A run was seen to need 0.5 GiB. All of the size counts and not what is free, so that all processes of a run agree.
const MUCH: u64 = 4 << 30;

/// Shell: does process `$1` run? A zombie does not.
const ALIVE: &str = r#"
alive() {
    kill -0 "$1" 2>/dev/null || return 1
    case $(cat "/proc/$1/stat" 2>/dev/null) in *") Z "*) return 1 ;; esac
}
"#;

/// Shell: when process `$1` has ended, stops the servers in the directory `$2`
/// and removes it. SIGQUIT is PostgreSQL's immediate shutdown.
const WATCHDOG: &str = r#"
while alive "$1"; do sleep 0.5; done
for file in "$2"/*/data/postmaster.pid; do
    server=$(head -n 1 "$file" 2>/dev/null) && [ -n "$server" ] || continue
    kill -QUIT "$server" 2>/dev/null
    while alive "$server"; do sleep 0.1; done
done
rm -rf "$2"
"#;

/// The run's directory, made and put under watch on first use. Others on the
/// machine may pass through it but not list it: the servers in it may run as
/// another user.
pub fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let (name, owner) = match std::env::var("NEXTEST_RUN_ID") {
            Ok(id) => (id, parent_id()),
            Err(_) => (random_hex::<16>(), process::id()),
        };
        let path = place().join(format!("keyward-{name}"));
        match DirBuilder::new().mode(0o711).create(&path) {
            Ok(()) => watch(&path, owner),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => panic!("cannot create {}: {error}", path.display()),
        }
        path
    })
}

/// Where `TMPDIR` says; else in memory, if the machine has much of it for files: databases that live as long as a test gain
/// nothing by a disk, and cost half of a run's time there.
fn place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let size = || rustix::fs::statvfs(memory).map(|files| files.f_blocks.saturating_mul(files.f_frsize));
    let is_wanted = std::env::var_os("TMPDIR").is_none() && size().is_ok_and(|size| size >= MUCH);
    if is_wanted { memory.to_owned() } else { std::env::temp_dir() }
}

/// A new, empty directory inside the run's, named after `what` it is for.
pub fn subdirectory(what: &str) -> PathBuf {
    let path = directory().join(format!("{what}-{}", random_hex::<4>()));
    DirBuilder::new().mode(0o711).create(&path).expect("the run's directory is writable");
    path
}

/// Calls `make` once in the whole run, whatever the number of processes, and
/// gives its answer to every caller.
pub fn once(name: &str, make: impl FnOnce() -> String) -> String {
    static ANSWERS: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);
    // A poisoned lock only says that another test's `make` failed: try again, so
    // that each test reports the true cause.
    let mut answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(answer) = answers.get(name) {
        return answer.clone();
    }
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(directory().join(format!("{name}.lock")))
        .expect("the run's directory is writable");
    lock.lock().expect("the file system knows locks");
    let file = directory().join(format!("{name}.answer"));
    let answer = fs::read_to_string(&file).unwrap_or_else(|_| {
        let answer = make();
        // Whole or not at all, should this process be killed meanwhile.
        let beside = directory().join(format!("{name}.{}", random_hex::<4>()));
        write_private(&beside, &answer);
        fs::rename(&beside, &file).expect("the run's directory is writable");
        answer
    });
    answers.insert(name.to_owned(), answer.clone());
    answer
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(path: &Path, text: &str) {
    let mut file = File::options()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)
        .unwrap_or_else(|error| panic!("cannot create {}: {error}", path.display()));
    std::io::Write::write_all(&mut file, text.as_bytes())
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

/// Bytes that no other test has, for names, passwords and ports.
pub(crate) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).expect("/dev/urandom can be read");
    bytes
}

/// `N` random bytes in hexadecimal.
pub(crate) fn random_hex<const N: usize>() -> String {
    random::<N>().map(|byte| format!("{byte:02x}")).concat()
}

/// A free port below the range from which systems serve port 0 and outgoing
/// connections: it stays free while a killed server is down.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = 0x4000 | (u16::from_le_bytes(random()) & 0x3fff);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Sends the signal to all processes in one call.
pub(crate) fn send(signal: &str, processes: &[u32]) {
    signal_processes(r#"kill -s "$0" "$@""#, signal, processes);
}

/// Kills all processes in one call and waits until they are gone.
pub(crate) fn kill_9(processes: &[u32]) {
    let script = format!(r#"{ALIVE} kill -s "$0" "$@"; for one; do while alive "$one"; do sleep 0.02; done; done"#);
    signal_processes(&script, "KILL", processes);
}

/// The standard library only knows SIGKILL, and only for its own children.
fn signal_processes(script: &str, signal: &str, processes: &[u32]) {
    Command::new("sh")
        .args(["-c", script, signal])
        .args(processes.iter().map(u32::to_string))
        .stderr(Stdio::null())
        .status()
        .expect("`sh` can be started");
}

/// Starts the watchdog in a process group of its own: Ctrl-C in the terminal
/// ends the tests, and then the watchdog has its work to do.
#[expect(clippy::zombie_processes, reason = "it outlives this process")]
fn watch(directory: &Path, owner: u32) {
    Command::new("sh")
        .args(["-c", &format!("{ALIVE}{WATCHDOG}"), "keyward-test-watchdog"])
        .arg(owner.to_string())
        .arg(directory)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("`sh` can be started");
}
