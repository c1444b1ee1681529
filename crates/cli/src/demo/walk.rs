//! The road that the demo walks, step by step.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use keyward_server::first_start::Bootstrap;
use serde_json::{Value, json};

use super::exchange::{Answer, Field, Proof, Request, Variable};
use super::plant::{AUDIENCE, Plant};
use crate::failure::Failure;
use crate::remote;
use crate::terminal::{self, Paint};

/// What stands before every line but the titles.
const INDENT: &str = "    ";
/// How long the first key works beside its successor.
const WEEK_S: u64 = 7 * 24 * 3600;
/// The grant of RFC 6749 §4.4.
const GRANT: (&str, Field<'static>) = ("grant_type", Field::Text("client_credentials"));

/// The walk, and where it has come to.
pub(super) struct Walk {
    http: reqwest::Client,
    keyward: Variable,
    plant: Variable,
    paint: Paint,
    step: u32,
}

impl Walk {
    pub(super) fn new(url: &str, plant: &Plant, paint: Paint) -> anyhow::Result<Self> {
        let (keyward, plant) = (Variable::new("KEYWARD", url), Variable::new("PLANT", &plant.url));
        Ok(Self { http: remote::http(url)?, keyward, plant, paint, step: 0 })
    }

    /// Walks from the first key over its successor to a revoked one.
    pub(super) async fn show(mut self, directory: &Path, bootstrap: &Bootstrap) -> anyhow::Result<()> {
        self.greet(directory)?;
        let admin = self.first_key(bootstrap).await?;
        let (client, credential, first) = self.issue(&admin).await?;
        let token = self.token(&first).await?;
        self.introspect(&token, &first).await?;
        self.call(&token).await?;
        let second = self.rotate(&admin, &credential, &first).await?;
        self.finish(&admin, &credential).await?;
        self.what_is_left(&first, &second, &token).await?;
        self.revoke(&admin, &client).await
    }

    fn greet(&self, directory: &Path) -> anyhow::Result<()> {
        let title =
            self.paint.bold("Keyward: from an empty directory to a verified token, and from one key to the next");
        terminal::print(&format!("\n{title}\n\n"))?;
        self.tell(&format!(
            "A server with an embedded database runs in {};\nbeside it runs a small API that it protects.\n\nEvery command \
             can be pasted into another terminal, from top to bottom, and repeated;\nwhat has ended stays ended.\n",
            directory.display(),
        ))?;
        let token = [
            "token() {",
            "  curl -s $KEYWARD/token -u $1 -d grant_type=client_credentials |",
            r#"    sed 's/.*"access_token":"\([^"]*\)".*/\1/'"#,
            "}",
        ]
        .join("\n");
        self.note(&format!("{}\n{}\n{token}\n", self.keyward.assignment(), self.plant.assignment()))
    }

    /// What `keyward bootstrap` does.
    async fn first_key(&mut self, bootstrap: &Bootstrap) -> anyhow::Result<Variable> {
        self.title(
            "The first key",
            "A new server prints a bootstrap key. It is good for one thing: to issue a key of your own.",
        )?;
        let key = Variable::new("BOOTSTRAP", format!("{}:{}", bootstrap.client, *bootstrap.key.reveal()));
        self.note(&key.assignment())?;
        let answer = self.token_request(&key, StatusCode::OK, &[]).await?;
        let token = Variable::new("ADMIN", answer.text("access_token")?);
        self.note("ADMIN=$(token $BOOTSTRAP)")?;
        let new = json!({ "name": "admin console", "scope": "keyward:admin", "apis": [self.own_api(&token).await?] });
        let request = Request::post(&self.keyward, "/api/v1/clients").with(Proof::Token(&token)).json(new);
        let client =
            self.exchange(request, StatusCode::CREATED, &["id", "name", "scope", "subject"]).await?.text("id")?;
        let (_, key) = self.issued("ADMIN_KEY", &token, &client, json!({})).await?;
        self.tell("That ended the bootstrap key. From here on, the administrator uses the new one:")?;
        self.note("ADMIN=$(token $ADMIN_KEY)")?;
        let answer = self.token_request_unseen(&key).await?;
        Ok(Variable::new("ADMIN", answer.text("access_token")?))
    }

    /// A client for a machine, and its API key.
    async fn issue(&mut self, admin: &Variable) -> anyhow::Result<(String, String, Variable)> {
        self.title(
            "A key for a machine",
            "The API says which scopes it knows; the client is the machine's application; the credential is its key.\n\
             The client gets the scope Supervisor, which implies Worker, on plant/7 and all below it.",
        )?;
        let new = json!({ "name": "plant", "audience": AUDIENCE, "scopes": ["Admin", "Supervisor", "Worker"] });
        let request = Request::post(&self.keyward, "/api/v1/apis").with(Proof::Token(admin)).json(new);
        let api = self.exchange(request, StatusCode::CREATED, &["id", "audience", "token_lifetime_seconds"]).await?;
        let new = json!({ "name": "press 7", "scope": "Supervisor", "res": ["plant/7"], "apis": [api.text("id")?] });
        let request = Request::post(&self.keyward, "/api/v1/clients").with(Proof::Token(admin)).json(new);
        let shown = ["id", "name", "owner", "scope", "res"];
        let client = self.exchange(request, StatusCode::CREATED, &shown).await?.text("id")?;
        let (credential, key) = self.issued("KEY_1", admin, &client, json!({ "label": "first key" })).await?;
        self.tell("The key is shown this once: the database holds only a hash of it.")?;
        Ok((client, credential, key))
    }

    async fn token(&mut self, key: &Variable) -> anyhow::Result<Variable> {
        self.title("A token", "Any OAuth 2.0 client library does this: the key is an ordinary client secret.")?;
        let answer = self.token_request(key, StatusCode::OK, &[]).await?;
        let token = Variable::new("TOKEN_1", answer.text("access_token")?);
        self.tell("The whole of it, to be used below:")?;
        self.note(&token.assignment())?;
        self.tell("Inside, readable for any JWT library, stands who acts, for whom, and how far it reaches:")?;
        self.claims(&token.value)?;
        Ok(token)
    }

    async fn introspect(&mut self, token: &Variable, key: &Variable) -> anyhow::Result<()> {
        self.title("Asking the server about it", "Introspection tells what holds at this moment.")?;
        let shown = ["active", "sub", "client_id", "scope", "res", "cred"];
        self.introspection(token, key, &shown).await?;
        Ok(())
    }

    async fn call(&mut self, token: &Variable) -> anyhow::Result<()> {
        self.title(
            "Calling an API",
            "The API verifies the token by itself, with the public keys it fetched once. The path is the resource.",
        )?;
        let line = |path: &str| Request::get(&self.plant, path).with_head();
        self.exchange(line("/plant/7/line/3").with(Proof::Token(token)), StatusCode::OK, &[]).await?;
        self.tell("Another plant is none of its business, and without a token nothing is to be seen:")?;
        self.exchange(line("/plant/8/line/1").with(Proof::Token(token)), StatusCode::FORBIDDEN, &[]).await?;
        self.exchange(line("/plant/7/line/3"), StatusCode::UNAUTHORIZED, &[]).await?;
        Ok(())
    }

    /// Another key takes the place of the first; both work.
    async fn rotate(&mut self, admin: &Variable, credential: &str, first: &Variable) -> anyhow::Result<Variable> {
        self.title(
            "Another key in its place",
            "Nothing stops: the old key goes on beside its successor, here for a week at most.",
        )?;
        let request = Request::post(&self.keyward, format!("/api/v1/credentials/{credential}/rotate"));
        let request =
            request.with(Proof::Token(admin)).json(json!({ "label": "second key", "overlap_seconds": WEEK_S }));
        let (_, second) = self.key_of("KEY_2", request).await?;
        self.tell("Whoever still comes with the old key is told so in every answer:")?;
        let request =
            Request::post(&self.keyward, "/token").with(Proof::Key(first)).instance("hall 3").form(vec![GRANT]);
        self.exchange(request, StatusCode::OK, &["key_state", "key_notice"]).await?;
        Ok(second)
    }

    /// The end of the old key, which is refused while somebody uses it.
    async fn finish(&mut self, admin: &Variable, credential: &str) -> anyhow::Result<()> {
        self.title(
            "Who still uses the old key",
            "Ending it now would stop somebody. So it is refused, and says whom:",
        )?;
        let request = |how: Value| {
            let request = Request::post(&self.keyward, format!("/api/v1/credentials/{credential}/finish"));
            request.with(Proof::Token(admin)).json(how)
        };
        self.exchange(request(json!({})), StatusCode::CONFLICT, &["detail", "callers"]).await?;
        self.tell(
            "When they have moved, and a day has gone by without them, the same request ends the old key. At a terminal,\n\
             `keyward credential watch` shows them leave. Whoever cannot wait says so, and the log has it:",
        )?;
        self.exchange(request(json!({ "force": true })), StatusCode::OK, &["id", "label", "state", "end_reason"])
            .await?;
        Ok(())
    }

    async fn what_is_left(&mut self, first: &Variable, second: &Variable, token: &Variable) -> anyhow::Result<()> {
        self.title("What is left", "The first key gets nothing any more, and says why to whoever holds it:")?;
        self.token_request(first, StatusCode::UNAUTHORIZED, &["error", "key_state", "key_notice"]).await?;
        self.tell("The token it got before is dead too, as the server tells whoever asks:")?;
        let answer = self.introspection(token, second, &[]).await?;
        if answer.body.get("active") != Some(&Value::Bool(false)) {
            return Err(Failure::new("the ended key's token is still active").into());
        }
        self.tell("And its successor works:")?;
        let answer = self.token_request(second, StatusCode::OK, &[]).await?;
        let token = Variable::new("TOKEN_2", answer.text("access_token")?);
        self.note("TOKEN_2=$(token $KEY_2)")?;
        let line = Request::get(&self.plant, "/plant/7/line/3").with_head().with(Proof::Token(&token));
        self.exchange(line, StatusCode::OK, &[]).await?;
        Ok(())
    }

    async fn revoke(&mut self, admin: &Variable, client: &str) -> anyhow::Result<()> {
        self.title("A key that leaked", "One more key, which stood in a public repository the next day:")?;
        let (credential, key) = self.issued("KEY_3", admin, client, json!({ "label": "leaked key" })).await?;
        self.tell("It waits for nobody: revoked, it is over at once, on every node of the server.")?;
        let request = Request::post(&self.keyward, format!("/api/v1/credentials/{credential}/revoke"));
        self.exchange(request.with(Proof::Token(admin)), StatusCode::OK, &["id", "label", "state", "ended_at"]).await?;
        self.token_request(&key, StatusCode::UNAUTHORIZED, &["error", "key_state", "key_notice"]).await?;
        self.tell(
            "(An API behind keyward-guard, as this one is, learns of the end of a key too: within a minute from the status\n\
             list that its tokens name, and at once where it follows the feed. One that only verifies signatures accepts a\n\
             token until it expires, 10 minutes at most.)\n",
        )
    }

    /// The id of Keyward's own API, which the reader need not see.
    async fn own_api(&self, token: &Variable) -> anyhow::Result<String> {
        let request = Request::get(&self.keyward, "/api/v1/apis").with(Proof::Token(token));
        let answer = request.send(&self.http, StatusCode::OK).await?;
        let id = answer.body.pointer("/items/0/id").and_then(Value::as_str).map(str::to_owned);
        Ok(id.ok_or_else(|| Failure::new("there is no API"))?)
    }

    /// Issues a key; gives its id, and what to sign in with.
    async fn issued(
        &self,
        name: &'static str,
        admin: &Variable,
        client: &str,
        new: Value,
    ) -> anyhow::Result<(String, Variable)> {
        let request = Request::post(&self.keyward, format!("/api/v1/clients/{client}/credentials"));
        self.key_of(name, request.with(Proof::Token(admin)).json(new)).await
    }

    /// Sends what makes a key; gives its id, and what to sign in with.
    async fn key_of(&self, name: &'static str, request: Request<'_>) -> anyhow::Result<(String, Variable)> {
        let shown = ["id", "label", "client_id", "client_secret"];
        let answer = self.exchange(request, StatusCode::CREATED, &shown).await?;
        let key = Variable::new(name, format!("{}:{}", answer.text("client_id")?, answer.text("client_secret")?));
        self.note(&key.assignment())?;
        Ok((answer.text("id")?, key))
    }

    async fn token_request(&self, key: &Variable, expected: StatusCode, shown: &[&str]) -> anyhow::Result<Answer> {
        let request = Request::post(&self.keyward, "/token").with(Proof::Key(key)).form(vec![GRANT]);
        self.exchange(request, expected, shown).await
    }

    async fn token_request_unseen(&self, key: &Variable) -> anyhow::Result<Answer> {
        let request = Request::post(&self.keyward, "/token").with(Proof::Key(key)).form(vec![GRANT]);
        request.send(&self.http, StatusCode::OK).await
    }

    async fn introspection(&self, token: &Variable, key: &Variable, shown: &[&str]) -> anyhow::Result<Answer> {
        let request = Request::post(&self.keyward, "/introspect").with(Proof::Key(key));
        self.exchange(request.form(vec![("token", Field::Variable(token))]), StatusCode::OK, shown).await
    }

    /// Sends it, and shows it with these members of its answer.
    async fn exchange(&self, request: Request<'_>, expected: StatusCode, shown: &[&str]) -> anyhow::Result<Answer> {
        let command = self.command(&request.curl());
        let answer = request.send(&self.http, expected).await?;
        self.tell(&(command + &answer.shown(shown, self.paint)))?;
        Ok(answer)
    }

    fn title(&mut self, title: &str, text: &str) -> anyhow::Result<()> {
        self.step += 1;
        terminal::print(&format!("\n{}\n\n", self.paint.bold(&format!("{}  {title}", self.step))))?;
        self.tell(text)
    }

    /// Text or an answer; a blank line sets off what follows.
    fn tell(&self, text: &str) -> anyhow::Result<()> {
        Ok(terminal::print(&format!("{}\n", indented(text)))?)
    }

    /// A command that stands for itself.
    fn note(&self, command: &str) -> anyhow::Result<()> {
        self.tell(&self.command(command))
    }

    fn command(&self, command: &str) -> String {
        command.lines().map(|line| self.paint.cyan(line) + "\n").collect()
    }

    /// The payload of a token, one claim a line, with what it means.
    fn claims(&self, token: &str) -> anyhow::Result<()> {
        let claims = payload(token).ok_or_else(|| Failure::new("the token is not readable"))?;
        let meanings = [
            ("sub", "the owner: it acts for them"),
            ("client_id", "the application"),
            ("act", "so nobody takes it for them in person"),
            ("cred", "the key it was got with"),
            ("aud", "the API it is for"),
            ("scope", "with what Supervisor implies"),
            ("res", "and only there"),
        ];
        let lines = meanings.iter().filter_map(|(name, meaning)| {
            let value = claims.get(*name)?.to_string();
            Some(format!("{name:<11}{value:<48}{}", self.paint.dim(meaning)))
        });
        self.tell(&lines.collect::<Vec<_>>().join("\n"))
    }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| if line.is_empty() { "\n".to_owned() } else { format!("{INDENT}{line}\n") }).collect()
}

/// The claims of a JWT, unverified: for looking at only.
fn payload(token: &str) -> Option<Value> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}
