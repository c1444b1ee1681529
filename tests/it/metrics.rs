//! What those see who watch over the server: metrics in the Prometheus text format, alive, ready.

use std::collections::BTreeMap;
use std::time::Duration;

use keyward_tests::keyward::Process;
use keyward_tests::postgres::PrivateCluster;
use keyward_tests::receiver::{self, Receiver};
use keyward_tests::server::{Answer, Db, Secrets, TestServer};
use reqwest::{Client, StatusCode};
use tokio::time::{Instant, sleep};

use crate::webhooks::new_webhook;

/// Samples by name and labels, as they are written.
type Samples = BTreeMap<String, f64>;

/// Reads the text format strictly: every sample in its family, none twice, histograms that add up.
fn parse(text: &str) -> Samples {
    let mut samples = Samples::new();
    let (mut family, mut kind) = (String::new(), String::new());
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split_once(' ').expect("a help text").0.to_owned();
            assert!(!samples.keys().any(|key| key.split('{').next() == Some(&family)), "{family} begins twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, of) = rest.split_once(' ').unwrap();
            assert_eq!(name, family);
            assert!(matches!(of, "counter" | "gauge" | "histogram"), "{line}");
            assert_eq!(of == "counter", name.ends_with("_total"), "{line}");
            kind = of.to_owned();
        } else {
            let (key, value) = line.rsplit_once(' ').unwrap();
            let name = key.split('{').next().unwrap();
            let suffix = name.strip_prefix(&family).unwrap_or_else(|| panic!("{line} is not of {family}"));
            assert!(
                suffix.is_empty() || (kind == "histogram" && ["_bucket", "_sum", "_count"].contains(&suffix)),
                "{line}"
            );
            check_labels(key.strip_prefix(name).unwrap());
            let value: f64 = value.parse().unwrap();
            assert!(value.is_finite() && value >= 0.0, "{line}");
            assert_eq!(samples.insert(key.to_owned(), value), None, "{line} is there twice");
        }
    }
    for (key, count) in samples.iter().filter(|(key, _)| key.contains("_count{")) {
        let last = key.replace("_count{", "_bucket{").replace('}', ",le=\"+Inf\"}");
        assert_eq!(samples[&last], *count, "{key}");
    }
    samples
}

fn check_labels(labels: &str) {
    let Some(labels) = labels.strip_prefix('{') else { return assert_eq!(labels, "") };
    for label in labels.strip_suffix('}').expect("an end").split(',') {
        let (name, value) = label.split_once('=').unwrap();
        assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{label}");
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).expect("quotes");
        assert!(!value.contains(['"', '\\']), "{label}");
    }
}

async fn metrics(http: &Client, url: &str) -> Samples {
    let answer = http.get(format!("{url}/metrics")).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    parse(&answer.text().await.unwrap())
}

pub(crate) async fn measure(server: &TestServer) -> Samples {
    metrics(&server.http, &server.url()).await
}

#[tokio::test]
async fn requests_tokens_and_failures_are_counted() {
    let server = TestServer::start(Db::Sqlite).await;
    let key = server.bootstrap();
    server.token(&key, &[]).await;
    let before = measure(&server).await;
    for _ in 0..3 {
        server.token(&key, &[]).await;
    }
    let wrong = Secrets { client_secret: "wrong".to_owned(), ..key.clone() };
    assert_eq!(server.token_answer(&wrong, &[]).await.status, StatusCode::UNAUTHORIZED);
    let after = measure(&server).await;
    // Other servers of the same process count in the same place: at least so many.
    for (sample, more) in [
        ("keyward_http_requests_total{route=\"token\",status=\"2xx\"}", 3.0),
        ("keyward_http_requests_total{route=\"token\",status=\"4xx\"}", 1.0),
        ("keyward_http_requests_total{route=\"health\",status=\"2xx\"}", 1.0),
        ("keyward_http_request_duration_seconds_count{route=\"token\"}", 4.0),
        ("keyward_tokens_issued_total", 3.0),
        ("keyward_authentication_failures_total", 1.0),
        ("keyward_cache_hits_total{cache=\"credentials\"}", 3.0),
        ("keyward_cache_hits_total{cache=\"clients\"}", 3.0),
        ("keyward_cache_hits_total{cache=\"users\"}", 3.0),
    ] {
        assert!(after[sample] >= before[sample] + more, "{sample}: {} after {}", after[sample], before[sample]);
    }
    assert!(after["keyward_http_request_duration_seconds_sum{route=\"token\"}"] > 0.0);
    assert_eq!(after["keyward_cache_misses_total{cache=\"credentials\"}"], 1.0);
    assert!(after["keyward_open_connections"] >= 1.0);
    let version = format!("keyward_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(after[&version], 1.0);
}

#[tokio::test]
async fn the_log_and_the_signing_keys_are_measured() {
    let server = TestServer::start(Db::Sqlite).await;
    let admin = server.admin().await;
    let before = measure(&server).await;
    admin.new_client(serde_json::json!({})).await;
    server.clock.advance(Duration::from_secs(3600));
    let after = measure(&server).await;
    assert_eq!(after["keyward_event_log_last"], before["keyward_event_log_last"] + 1.0);
    assert_eq!(after["keyward_event_log_applied"], after["keyward_event_log_last"]);
    assert_eq!((after["keyward_event_log_lag"], after["keyward_database_up"]), (0.0, 1.0));
    assert_eq!(after["keyward_signing_key_age_seconds{algorithm=\"ES256\"}"], 3600.0);
}

#[tokio::test]
async fn deliveries_are_measured_by_channel_and_by_what_became_of_them() {
    let server = TestServer::start(Db::Sqlite).await;
    let admin = server.admin().await;
    let receiver = Receiver::start().await;
    let webhook = new_webhook(&admin, &receiver, &[]).await;
    let test = format!("/api/v1/webhooks/{}/test", webhook["id"].as_str().unwrap());
    // Of a receiver that says 410 the second delivery is dead at once; the first is tried again.
    for (status, outcome) in [(500, "failed"), (410, "dead"), (204, "sent")] {
        let sample = format!("keyward_deliveries_total{{channel=\"webhook\",outcome=\"{outcome}\"}}");
        receiver.answers(receiver::Answer::Status(status));
        let before = measure(&server).await;
        admin.act(&test).await.ok();
        let counted = async {
            loop {
                let after = measure(&server).await;
                if after[&sample] >= before[&sample] + 1.0 {
                    return after;
                }
                server.app.send_notices().await.unwrap();
            }
        };
        let after = tokio::time::timeout(Duration::from_secs(20), counted).await.expect(outcome);
        assert!(after["keyward_deliveries_total{channel=\"mail\",outcome=\"sent\"}"] < 1.0, "there is no mail here");
    }
    let before = measure(&server).await;
    let due = "keyward_deliveries_due{channel=\"webhook\"}";
    assert_eq!((before[due], before["keyward_deliveries_due{channel=\"mail\"}"]), (0.0, 0.0));
    let writing = server.keep_from_writing().await;
    server.clock.advance(Duration::from_secs(60));
    assert_eq!(measure(&server).await[due], 1.0, "what failed is due again, and nobody can take it");
    writing.release().await;
}

#[tokio::test]
async fn only_the_networks_of_the_settings_see_metrics() {
    for (networks, status) in [(&[][..], 403), (&["10.0.0.0/8"], 403), (&["127.0.0.1/32"], 200)] {
        let networks = networks.iter().map(|net| net.parse().unwrap()).collect();
        let server = TestServer::start_with(Db::Sqlite, |config| config.server.metrics_networks = networks).await;
        let answer = Answer::of(server.http.get(format!("{}/metrics", server.url()))).await;
        assert_eq!(answer.status, status);
        if status == 403 {
            assert_eq!(answer.header("content-type"), "application/problem+json");
        }
        assert_eq!(Answer::of(server.http.get(format!("{}/healthz", server.url()))).await.status, 200);
        assert_eq!(Answer::of(server.http.get(format!("{}/readyz", server.url()))).await.status, 200);
    }
}

#[tokio::test]
async fn without_its_database_a_server_is_alive_but_not_ready() {
    let cluster = PrivateCluster::start();
    let database = cluster.database().await;
    let server = Process::serve(&[("KEYWARD_DATABASE_URL", database.url())]).await;
    let http = keyward_tests::http();
    let get = async |path: &str| http.get(format!("{}{path}", server.url())).send().await.unwrap().status();
    assert_eq!((get("/healthz").await, get("/readyz").await), (StatusCode::OK, StatusCode::OK));

    cluster.kill_9();
    let start = Instant::now();
    assert_eq!((get("/healthz").await, get("/readyz").await), (StatusCode::OK, StatusCode::SERVICE_UNAVAILABLE));
    assert!(start.elapsed() < Duration::from_secs(4), "whoever probes does not wait: {:?}", start.elapsed());
    let samples = metrics(&http, &server.url()).await;
    assert_eq!(samples["keyward_database_up"], 0.0);
    assert!(!samples.contains_key("keyward_event_log_lag"), "nobody knows");

    // Following the log fails meanwhile; a database that is back at once might be missed by nobody.
    let counted = async {
        while metrics(&http, &server.url()).await["keyward_database_errors_total"] < 1.0 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), counted).await.expect("no failure was counted");

    cluster.start_again();
    let ready = async {
        while get("/readyz").await != StatusCode::OK {
            sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ready).await.expect("not ready again");
    assert_eq!(metrics(&http, &server.url()).await["keyward_database_up"], 1.0);
}
