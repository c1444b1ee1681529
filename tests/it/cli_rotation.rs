//! Rotation on the command line, as the real program against a real server.

use keyward_tests::keyward::Process;
use keyward_tests::person::{Person, said, text};
use serde_json::Value;

/// Uses a key as a machine does that names itself.
async fn uses(server: &Process, client: &str, secret: &str, instance: &str) {
    let request = keyward_tests::http().post(format!("{}/token", server.url())).basic_auth(client, Some(secret));
    let request = request.header("keyward-instance", instance).form(&[("grant_type", "client_credentials")]);
    assert_eq!(request.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_key_is_replaced_finished_and_its_last_callers_are_named() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    person.registers("press-7");
    let issued = person.json(&["credential", "issue", "press-7", "--label", "hall 3", "--expires", "90d"]);
    let (old, old_secret) = (text(&issued["id"]), text(&issued["client_secret"]));

    let printed = person.does(&["credential", "rotate", &old, "--overlap", "14d"]);
    let new_secret = printed.lines().find_map(|line| line.trim().strip_prefix("kw_")).unwrap().to_owned();
    assert_ne!(format!("kw_{new_secret}"), old_secret);
    assert!(printed.contains("(in 14 days)"), "{printed}");
    assert!(printed.contains(&format!("keyward credential finish {old}")), "{printed}");
    assert!(printed.contains(&format!("keyward credential cancel {old}")), "{printed}");
    let listed = person.json(&["credential", "list", "press-7"]);
    let new = listed["items"].as_array().unwrap().iter().find(|item| item["state"] == "active").unwrap().clone();
    assert_eq!(new["label"], "hall 3");

    // Whoever uses the old key on the command line is warned beside the output.
    let client = text(&issued["client_id"]);
    let warned =
        said(person.command(&["token"]).env("KEYWARD_CLIENT_ID", &client).env("KEYWARD_CLIENT_SECRET", &old_secret));
    assert!(warned.err.starts_with("warning: this key was replaced and ends on "), "{}", warned.err);
    assert!(warned.out.starts_with("eyJ"), "{}", warned.out);

    let extended = person.does(&["credential", "extend", &old, "--until", "30d"]);
    assert!(extended.contains("retires until") && extended.contains("(in 30 days)"), "{extended}");

    uses(&server, &client, &old_secret, "press-1").await;
    uses(&server, &client, &old_secret, "press-2").await;
    let shown = person.does(&["credential", "show", &old]);
    assert!(shown.contains("3 callers left, last seen just now"), "{shown}");
    let refused = person.tries(&["credential", "finish", &old]);
    assert_eq!((refused.code, refused.out.as_str()), (1, ""));
    let lines: Vec<_> = refused.err.lines().collect();
    assert!(lines[0].starts_with("error: 3 callers used this credential in the last 24 h"), "{}", refused.err);
    assert!(lines[1].starts_with("INSTANCE") && lines[1].contains("LAST SEEN"), "{}", refused.err);
    let named = |instance: &str| lines[2..5].iter().any(|line| line.contains(instance) && line.contains("just now"));
    assert!(named("press-1") && named("press-2") && named("keyward/"), "{}", refused.err);
    let forced = format!("hint: `keyward credential finish {old} --force` ends it under them");
    assert!(lines[5].starts_with(&forced), "{}", refused.err);
    let for_programs = person.tries(&["credential", "finish", &old, "--json"]);
    let problem: Value = serde_json::from_str(&for_programs.out).unwrap();
    assert_eq!((for_programs.code, problem["callers"].as_array().unwrap().len()), (1, 3));
    assert_eq!(problem["type"], "urn:keyward:problem:callers-remain");

    assert_eq!(person.does(&["credential", "finish", &old, "--force"]), format!("{old} is expired\n"));
    let too_late = person.tries(&["credential", "cancel", &old]);
    assert!(too_late.code == 1 && too_late.err.contains("has ended (expired)"), "{}", too_late.err);
    for secret in [&old_secret, &new_secret] {
        assert!(!server.log().contains(secret) && !refused.err.contains(secret));
    }
}

#[tokio::test]
async fn a_failed_roll_out_is_undone_in_one_command() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    person.registers("press-7");
    let old = text(&person.json(&["credential", "issue", "press-7"])["id"]);
    let rotated = person.json(&[
        "credential",
        "rotate",
        &old,
        "--until",
        "2d",
        "--label",
        "second",
        "--expires",
        "30d",
        "--scope",
        "Worker",
    ]);
    let (new, secret) = (text(&rotated["id"]), text(&rotated["client_secret"]));
    assert_eq!((text(&rotated["label"]).as_str(), text(&rotated["scope"]).as_str()), ("second", "Worker"));
    assert!(secret.starts_with("kw_") && rotated["expires_at"].is_string());

    uses(&server, &text(&rotated["client_id"]), &secret, "press-1").await;
    let refused = person.tries(&["credential", "cancel", &old]);
    assert!(refused.err.starts_with("error: 1 caller used its successor in the last 24 h"), "{}", refused.err);
    assert!(
        refused.code == 1
            && refused.err.contains("press-1")
            && refused.err.contains("hint: `keyward credential cancel "),
        "{}",
        refused.err
    );
    let undone = person.does(&["credential", "cancel", &old, "--force"]);
    assert_eq!(undone, format!("{old} is active again; its successor has ended\n"));
    assert_eq!(person.json(&["credential", "show", &new])["state"], "revoked");
    let shown = person.json(&["credential", "show", &old]);
    assert_eq!((&shown["state"], &shown["successor"]), (&Value::from("active"), &Value::Null));
    let again = person.tries(&["credential", "cancel", &old]);
    assert!(again.code == 1 && again.err.contains("it is not retiring"), "{}", again.err);
}

#[tokio::test]
async fn the_name_of_a_client_stands_for_the_only_key_that_can_be_meant() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    let client = person.registers("press-7");
    let list = format!("hint: `keyward credential list {client}` lists its keys with their ids");
    let none = person.tries(&["credential", "rotate", "press-7"]);
    assert!(none.code == 2 && none.err.contains("has 0 active keys") && none.err.contains(&list), "{}", none.err);

    let old = text(&person.json(&["credential", "issue", "press-7", "--label", "hall 3"])["id"]);
    let mistyped = person.tries(&["credential", "rotate", &old[..30]]);
    assert!(mistyped.code == 1 && mistyped.err.contains("hint: `keyward credential list` lists"), "{}", mistyped.err);
    let label = person.tries(&["credential", "rotate", "hall 3"]);
    assert!(label.code == 1 && label.err.contains("hint: `keyward credential list` lists keys with their labels"));
    assert!(person.does(&["credential", "show", "press-7"]).contains(&old));
    assert_eq!(person.does(&["notices", "--credential", "press-7"]), "none\n");
    let new = text(&person.json(&["credential", "rotate", "press-7"])["id"]);
    // Two work now. Which of them is replaced is clear, which is to be ended at once is not.
    let unclear = person.tries(&["credential", "revoke", "press-7"]);
    assert!(unclear.code == 2 && unclear.err.contains("has 2 working keys") && unclear.err.contains(&list));
    assert_eq!(person.json(&["credential", "list", "press-7"])["items"].as_array().unwrap().len(), 2);
    let listed = person.does(&["credential", "list", &client]);
    assert!(listed.contains(&old) && listed.contains(&new), "{listed}");
    assert_eq!(person.json(&["credential", "extend", "press-7", "--until", "30d"])["id"], old.as_str());
    assert_eq!(person.does(&["credential", "finish", &client]), format!("{old} is expired\n"));
    person.json(&["credential", "issue", "press-7"]);
    let two = person.tries(&["credential", "rotate", "press-7"]);
    assert!(two.code == 2 && two.err.contains("has 2 active keys"), "{}", two.err);
    // One slip, and none is ended.
    let slip = person.tries(&["credential", "revoke", &new, "press-8"]);
    assert!(slip.code == 1 && slip.err.contains("there is no client \"press-8\""), "{}", slip.err);
    assert_eq!(person.json(&["credential", "show", &new])["state"], "active");
}

#[tokio::test]
async fn a_refusal_speaks_of_the_options_that_were_given() {
    let server = Process::serve(&[]).await;
    let person = Person::administrator(&server);
    person.registers("press-7");
    person.json(&["credential", "issue", "press-7"]);
    for (arguments, said) in [
        (&["credential", "rotate", "press-7", "--overlap", "900d"][..], "error: --overlap: the end of a retirement"),
        (&["credential", "rotate", "press-7", "--until", "2020-01-01"], "error: --until: the end of a retirement"),
        (&["credential", "rotate", "press-7", "--expires", "2020-01-01"], "error: --expires: must lie in the future"),
        (&["credential", "rotate", "press-7", "--scope", "Admin"], "error: --scope: "),
        (&["credential", "change", "press-7", "--res", "plant/8"], "error: --res: "),
        (
            &["client", "create", "press-8", "--owner", "user_01h455vb4pex5vsknk084sn02q"],
            "error: there is no such user",
        ),
        (&["api", "change", "plant", "--lifetime", "2s"], "error: --lifetime: must be "),
    ] {
        let refused = person.tries(arguments);
        assert!(refused.code == 1 && refused.err.starts_with(said), "{arguments:?}: {}", refused.err);
        assert!(!refused.err.contains('_') || refused.err.contains("user_"), "a member's name: {}", refused.err);
    }
    person.json(&["credential", "rotate", "press-7"]);
    let refused = person.tries(&["credential", "finish", "press-7", "--quiet-for", "1s"]);
    assert!(refused.err.starts_with("error: --quiet-for: from 60 to 7776000"), "{}", refused.err);
    let nothing = person.tries(&["credential", "show", "cred_01h455vb4pex5vsknk084sn02q"]);
    assert!(nothing.err.contains("hint: `keyward credential list` lists what there is"), "{}", nothing.err);
}

#[test]
fn a_rotation_that_cannot_be_meant_is_a_wrong_call() {
    let id = "cred_01h455vb4pex5vsknk084sn02q";
    for arguments in [
        &["credential", "rotate", id, "--overlap", "7d", "--until", "8d"][..],
        &["credential", "rotate", id, "--expires", "7d", "--no-expiry"],
        &["credential", "extend", id],
        &["credential", "finish", id, "--quiet-for", "soon"],
    ] {
        let wrong = said(&mut keyward_tests::keyward::command(arguments));
        assert_eq!(wrong.code, 2, "{arguments:?}: {}{}", wrong.out, wrong.err);
    }
}
