//! Gateways that other people wrote, as they come from Debian and PyPI, set up by the files of `deploy/gateways`.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::{clients, run};

const PATIENCE: Duration = Duration::from_secs(30);
/// Who stands for whom in the files.
const KEYWARD: &str = "127.0.0.1:8080";
const API: &str = "127.0.0.1:9000";

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names")]
pub enum Kind {
    Nginx,
    Caddy,
    Envoy,
}

/// A running gateway. Stops with the value.
pub struct Gateway {
    child: Child,
    address: SocketAddr,
}

impl Gateway {
    /// One in front of this API that asks this Keyward.
    pub async fn start(kind: Kind, keyward: SocketAddr, api: SocketAddr) -> Self {
        let directory = run::subdirectory("gateway");
        let address = SocketAddr::from(([127, 0, 0, 1], run::free_port()));
        let mut command = match kind {
            Kind::Nginx => nginx(&directory, address, keyward, api),
            Kind::Caddy => caddy(&directory, address, keyward, api),
            Kind::Envoy => envoy(&directory, address, keyward, api),
        };
        let log = File::create(directory.join("log")).expect("the run's directory is writable");
        let child = command
            .current_dir(&directory)
            .env("HOME", &directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file can be shared"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{kind:?} cannot be started, see tests/install: {error}"));
        let mut gateway = Self { child, address };
        gateway.until_it_listens(&directory).await;
        gateway
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    async fn until_it_listens(&mut self, directory: &Path) {
        let log = || fs::read_to_string(directory.join("log")).unwrap_or_default();
        let waiting = async {
            while tokio::net::TcpStream::connect(self.address).await.is_err() {
                if let Some(status) = self.child.try_wait().expect("it is our child") {
                    panic!("the gateway ended with {status}; its log:\n{}", log());
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "the gateway does not listen:\n{}", log());
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn nginx(directory: &Path, address: SocketAddr, keyward: SocketAddr, api: SocketAddr) -> Command {
    let asks = directory.join("asks.inc");
    fs::write(&asks, deployed("keyward-asks.inc")).expect("the run's directory is writable");
    let site = changed(
        "nginx.conf",
        &[
            (KEYWARD, &keyward.to_string()),
            (API, &api.to_string()),
            ("listen 443 ssl http2", &format!("listen {address}")),
            ("conf.d/keyward-asks.inc", &asks.display().to_string()),
        ],
    );
    let is_local = |line: &&str| !line.trim_start().starts_with("ssl_") && !line.contains("listen [::]");
    let site: Vec<&str> = site.lines().filter(is_local).collect();
    let temporary =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|what| format!("{what}_temp_path {what};"));
    let main = format!(
        "daemon off; master_process off; pid pid; error_log stderr notice;\nevents {{}}\nhttp {{ access_log off; {}\n{}\n}}\n",
        temporary.join(" "),
        site.join("\n")
    );
    fs::write(directory.join("nginx.conf"), main).expect("the run's directory is writable");
    let own = Path::new("/usr/sbin/nginx");
    let mut command = Command::new(if own.is_file() { own } else { Path::new("nginx") });
    command.arg("-p").arg(directory).args(["-c", "nginx.conf", "-e", "stderr"]);
    command
}

fn caddy(directory: &Path, address: SocketAddr, keyward: SocketAddr, api: SocketAddr) -> Command {
    let site = changed(
        "Caddyfile",
        &[
            (KEYWARD, &keyward.to_string()),
            (API, &api.to_string()),
            ("plant.example {", &format!("http://{address} {{")),
        ],
    );
    let file = directory.join("Caddyfile");
    fs::write(&file, format!("{{\n\tadmin off\n}}\n{site}")).expect("the run's directory is writable");
    let mut command = Command::new("caddy");
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
    command
}

fn envoy(directory: &Path, address: SocketAddr, keyward: SocketAddr, api: SocketAddr) -> Command {
    let port = |address: SocketAddr| format!("port_value: {} }}", address.port());
    let configuration = changed(
        "envoy.yaml",
        &[
            ("port_value: 8080 }", &port(keyward)),
            ("port_value: 9000 }", &port(api)),
            ("address: 0.0.0.0, port_value: 8000 }", &format!("address: 127.0.0.1, {}", port(address))),
        ],
    );
    let file = directory.join("envoy.yaml");
    fs::write(&file, configuration).expect("the run's directory is writable");
    let mut command = Command::new(clients::envoy());
    command.args(["--concurrency", "1", "--log-level", "warning", "--disable-hot-restart", "-c"]).arg(file);
    command
}

/// A file of `deploy/gateways`, for this place: what is replaced must be there.
fn changed(name: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(deployed(name), |text, (from, to)| {
        assert!(text.contains(from), "{name} has no {from:?}");
        text.replace(from, to)
    })
}

/// A file of `deploy/gateways`.
pub fn deployed(name: &str) -> String {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/gateways")).join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
