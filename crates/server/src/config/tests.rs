use super::*;

fn variables(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect()
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let file = "[server]\nlisten = \"127.0.0.1:1\"\nissuer = \"https://iam.example\"\n";
    let set = variables(&[("KEYWARD_SERVER_LISTEN", "127.0.0.1:2"), ("PATH", "/bin"), ("KEYWARD_URL", "x")]);
    let config = Config::load(Some(file), set).unwrap();
    assert_eq!(config.server.listen.port(), 2);
    assert_eq!(config.server.issuer, "https://iam.example");
    assert_eq!(config.cache.entries, Config::defaults().unwrap().cache.entries);
}

#[test]
fn lists_and_numbers_come_from_the_environment_too() {
    let set = variables(&[("KEYWARD_SERVER_TRUSTED_PROXIES", "10.0.0.0/8, ::1/128"), ("KEYWARD_CACHE_ENTRIES", "5")]);
    let config = Config::load(None, set).unwrap();
    assert_eq!(config.server.trusted_proxies.len(), 2);
    assert_eq!(config.cache.entries, 5);
}

#[test]
fn numbers_in_a_list_come_from_the_environment_too() {
    let config = Config::load(None, variables(&[("KEYWARD_NOTICES_DAYS", "60, 5")])).unwrap();
    assert_eq!(config.notices.days, [60, 5]);
    let error = Config::load(None, variables(&[("KEYWARD_NOTICES_DAYS", "soon")])).unwrap_err();
    assert!(error.to_string().contains("KEYWARD_NOTICES_DAYS"), "{error}");
}

#[test]
fn an_unknown_setting_is_named_with_its_line() {
    let error = Config::load(Some("[server]\n\nlisten_on = \"x\"\n"), []).unwrap_err();
    assert!(error.to_string().starts_with("line 3: there is no setting [server] listen_on"), "{error}");
    let error = Config::load(Some("\n[sever]\n"), []).unwrap_err();
    assert!(error.to_string().starts_with("line 2: there is no setting [sever]"), "{error}");
    let error = Config::load(None, variables(&[("KEYWARD_SERVER_LISTENS", "x")])).unwrap_err();
    assert!(error.to_string().contains("KEYWARD_SERVER_LISTENS"), "{error}");
}

#[test]
fn values_that_cannot_be_meant_are_refused() {
    for file in [
        "[server]\nissuer = \"iam.example\"",
        "[server]\nissuer = \"https://iam.example/\"",
        "[server]\nissuer = \"https://iam.example?x\"",
        "[server]\ntls_key = \"k.pem\"",
        "[server]\nmax_connections = 0",
        "[server]\nmax_connections_per_network = 0",
        "[limits]\nchanges_per_minute = 0",
        "[server]\nlisten = \"somewhere\"",
        "[callers]\nflush_s = 0",
        "[notices]\ndays = [0]",
        "[notices]\nallow_networks = [\"everything\"]",
        "[mail]\nsmtp_url = \"smtp://user:hunter2@mail.example\"",
        "[mail]\nsmtp_url = \"SMTP://user:hunter2@mail.example\"",
        "[mail]\nsmtp_url = \"smtp://user:tls=required@mail.example\"",
        "[mail]\nsmtp_url = \"smtp://user:hunter2@mail.example?tls=opportunistic&tls=required\"",
        "[leaks]\non_report = \"ignore\"",
        "[login]\nidle_hours = 0",
        "[login]\nmax_days = 1\nidle_hours = 25",
        "[login]\nmax_days = 367",
        "[login]\ninvitation_hours = 745",
        "[sessions]\nidle_days = 0",
        "[sessions]\nidle_days = 91",
        "[sessions]\nmax_days = 367",
        "[log]\nlevel = \"loud\"",
        "[rotation]\noverlap_days = 0",
        "[rotation]\noverlap_days = 91",
        "[rotation]\nquiet_hours = 0",
        "[rotation]\nquiet_hours = 2161",
        "[rotation]\ncontact_url = \"javascript:alert(1)\"",
        "[rotation]\ncontact_url = \"https://\"",
        "[rotation]\ncontact_url = \"https://wiki.example/a b\"",
    ] {
        assert!(Config::load(Some(file), []).is_err(), "{file}");
    }
}

#[test]
fn a_password_for_a_mail_server_is_taken_where_it_is_encrypted() {
    for url in ["smtps://user:p@mail.example", "smtp://user:p@mail.example:587?tls=required", "smtp://mail.example"] {
        assert!(Config::load(None, variables(&[("KEYWARD_MAIL_SMTP_URL", url)])).is_ok(), "{url}");
    }
}

#[test]
fn debug_shows_no_secret() {
    let set = variables(&[
        ("KEYWARD_DATABASE_URL", "postgres://u:hunter2@h/d"),
        ("KEYWARD_MASTER_KEY_VALUE", "kwm_hunter2"),
        ("KEYWARD_MAIL_SMTP_URL", "smtps://u:hunter2@mail.example"),
    ]);
    assert!(!format!("{:?}", Config::load(None, set).unwrap()).contains("hunter2"));
}
