//! One request of the demo: sent, and printed as the `curl` that repeats it, with its answer.

use http::{Method, StatusCode, header};
use serde_json::Value;

use crate::failure::Failure;
use crate::terminal::Paint;

/// Longer `curl` lines are broken before an option.
const WIDTH: usize = 94;
/// Longer texts in an answer are cut: tokens are.
const LONGEST: usize = 80;
/// What is left of a text that is cut.
const LEFT: usize = 24;
/// What is shown of each caller in a list of them, as far as it is known.
const OF_CALLER: [&str; 3] = ["instance", "user_agent", "network"];

/// A shell variable and what it holds: what is printed, and what is sent.
#[derive(Debug, Clone)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) value: String,
}

impl Variable {
    pub(super) fn new(name: &'static str, value: impl Into<String>) -> Self {
        Self { name, value: value.into() }
    }

    /// The line that sets it.
    pub(super) fn assignment(&self) -> String {
        format!("{}={}", self.name, self.value)
    }
}

/// How the sender proves who they are.
#[derive(Debug, Clone, Copy)]
pub(super) enum Proof<'a> {
    Nothing,
    /// `client_id:client_secret`
    Key(&'a Variable),
    Token(&'a Variable),
}

/// A value of a form.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field<'a> {
    Text(&'a str),
    Variable(&'a Variable),
}

#[derive(Debug, Clone)]
enum Body<'a> {
    Nothing,
    Form(Vec<(&'a str, Field<'a>)>),
    Json(Value),
}

/// A request to be shown.
#[derive(Debug, Clone)]
pub(super) struct Request<'a> {
    method: Method,
    base: &'a Variable,
    path: String,
    proof: Proof<'a>,
    /// What the sender calls itself.
    instance: Option<&'a str>,
    body: Body<'a>,
    /// Whether status line and challenge are what there is to see.
    head: bool,
}

/// What came back.
pub(super) struct Answer {
    status: StatusCode,
    challenge: Option<String>,
    pub(super) body: Value,
}

impl<'a> Request<'a> {
    fn new(method: Method, base: &'a Variable, path: impl Into<String>) -> Self {
        let (proof, body) = (Proof::Nothing, Body::Nothing);
        Self { method, base, path: path.into(), proof, instance: None, body, head: false }
    }

    pub(super) fn get(base: &'a Variable, path: impl Into<String>) -> Self {
        Self::new(Method::GET, base, path)
    }

    pub(super) fn post(base: &'a Variable, path: impl Into<String>) -> Self {
        Self::new(Method::POST, base, path)
    }

    pub(super) fn with(self, proof: Proof<'a>) -> Self {
        Self { proof, ..self }
    }

    pub(super) fn instance(self, name: &'a str) -> Self {
        Self { instance: Some(name), ..self }
    }

    pub(super) fn form(self, form: Vec<(&'a str, Field<'a>)>) -> Self {
        Self { body: Body::Form(form), ..self }
    }

    pub(super) fn json(self, json: Value) -> Self {
        Self { body: Body::Json(json), ..self }
    }

    pub(super) fn with_head(self) -> Self {
        Self { head: true, ..self }
    }

    /// The command that repeats it.
    pub(super) fn curl(&self) -> String {
        let mut words = vec![format!("curl -s{} ${}{}", if self.head { "i" } else { "" }, self.base.name, self.path)];
        if self.method == Method::POST && matches!(self.body, Body::Nothing) {
            words.push("-X POST".to_owned());
        }
        match self.proof {
            Proof::Nothing => {}
            Proof::Key(key) => words.push(format!("-u ${}", key.name)),
            Proof::Token(token) => words.push(format!("-H \"Authorization: Bearer ${}\"", token.name)),
        }
        words.extend(self.instance.map(|name| format!("-H 'Keyward-Instance: {name}'")));
        match &self.body {
            Body::Nothing => {}
            Body::Json(json) => words.push(format!("--json '{json}'")),
            Body::Form(form) => words.extend(form.iter().map(|(name, value)| match value {
                Field::Text(text) => format!("-d {name}={text}"),
                Field::Variable(variable) => format!("-d {name}=${}", variable.name),
            })),
        }
        let lines = words.into_iter().fold(Vec::<String>::new(), |mut lines, word| {
            match lines.last_mut().filter(|line| line.len() + word.len() < WIDTH) {
                Some(line) => *line = format!("{line} {word}"),
                None => lines.push(word),
            }
            lines
        });
        lines.join(" \\\n  ")
    }

    /// Sends it; whatever else than `expected` comes back ends the demo.
    pub(super) async fn send(&self, http: &reqwest::Client, expected: StatusCode) -> anyhow::Result<Answer> {
        let request = http.request(self.method.clone(), format!("{}{}", self.base.value, self.path));
        let request = match self.proof {
            Proof::Nothing => request,
            Proof::Key(key) => {
                let (id, secret) = key.value.split_once(':').unwrap_or((&key.value, ""));
                request.basic_auth(id, Some(secret))
            }
            Proof::Token(token) => request.bearer_auth(&token.value),
        };
        let request = match self.instance {
            Some(name) => request.header("keyward-instance", name),
            None => request,
        };
        let request = match &self.body {
            Body::Nothing => request,
            Body::Json(json) => request.json(json),
            Body::Form(form) => {
                request.form(&form.iter().map(|(name, value)| (*name, value.sent())).collect::<Vec<_>>())
            }
        };
        let response = request.send().await?;
        let status = response.status();
        let challenge =
            response.headers().get(header::WWW_AUTHENTICATE).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let body = response.bytes().await?;
        if status != expected {
            let said = String::from_utf8_lossy(&body).into_owned();
            let what = format!("{} {}: {status} instead of {expected}: {said}", self.method, self.path);
            return Err(Failure::new(what).into());
        }
        Ok(Answer { status, challenge: challenge.filter(|_| self.head), body: serde_json::from_slice(&body)? })
    }
}

impl<'a> Field<'a> {
    fn sent(self) -> &'a str {
        match self {
            Self::Text(text) => text,
            Self::Variable(variable) => &variable.value,
        }
    }
}

impl Answer {
    /// A member of the body, as text.
    pub(super) fn text(&self, member: &str) -> anyhow::Result<String> {
        let text = self.body.get(member).and_then(Value::as_str).map(str::to_owned);
        Ok(text.ok_or_else(|| Failure::new(format!("the answer has no {member}")))?)
    }

    /// What there is to see: the status, and of the body these members, or all if none are named.
    pub(super) fn shown(&self, members: &[&str], paint: Paint) -> String {
        let status = self.status.to_string();
        let status = if self.status.is_success() { paint.green(&status) } else { paint.red(&status) };
        let challenge = self.challenge.as_ref().map(|c| format!("WWW-Authenticate: {c}\n")).unwrap_or_default();
        let Value::Object(all) = &self.body else { return format!("{status}\n{challenge}{}\n", self.body) };
        let named = members.iter().filter_map(|name| all.get_key_value(*name));
        let chosen: Vec<_> = if members.is_empty() { all.iter().collect() } else { named.collect() };
        let rest = if chosen.len() < all.len() { ", …" } else { "" };
        let written: Vec<_> = chosen.into_iter().map(|(name, value)| format!("\"{name}\": {}", brief(value))).collect();
        let mut lines = vec![String::from("{")];
        for (at, member) in written.iter().enumerate() {
            let comma = if at == 0 { " " } else { ", " };
            let first = member.lines().next().unwrap_or_default();
            match lines.last_mut().filter(|line| line.chars().count() + first.chars().count() < WIDTH) {
                Some(line) => line.push_str(&format!("{comma}{member}")),
                None => {
                    if let Some(line) = lines.last_mut().filter(|_| at > 0) {
                        line.push(',');
                    }
                    lines.push(format!("  {member}"));
                }
            }
        }
        format!("{status}\n{challenge}{}{rest} }}\n", lines.join("\n"))
    }
}

fn brief(value: &Value) -> String {
    match value {
        // What is written for people is read to its end.
        Value::String(text) if text.len() > LONGEST && !text.contains(' ') => {
            format!("\"{}…\"", text.chars().take(LEFT).collect::<String>())
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            let lines: Vec<_> = list.iter().map(|one| format!("\n    {}", brief_caller(one))).collect();
            format!("[{} ]", lines.join(","))
        }
        value => value.to_string(),
    }
}

fn brief_caller(caller: &Value) -> String {
    let known = OF_CALLER.iter().filter_map(|name| {
        let value = caller.get(name).and_then(Value::as_str).filter(|value| !value.is_empty())?;
        Some(format!("\"{name}\": \"{value}\", "))
    });
    format!("{{ {}… }}", known.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_is_the_curl_that_repeats_it() {
        let (base, key) = (Variable::new("KEYWARD", "http://127.0.0.1:1"), Variable::new("KEY_1", "client_x:kw_y"));
        let request = Request::post(&base, "/token").with(Proof::Key(&key));
        let request = request.form(vec![("grant_type", Field::Text("client_credentials"))]);
        assert_eq!(request.curl(), "curl -s $KEYWARD/token -u $KEY_1 -d grant_type=client_credentials");
        let request = Request::post(&base, "/revoke").with(Proof::Token(&key));
        assert_eq!(request.curl(), "curl -s $KEYWARD/revoke -X POST -H \"Authorization: Bearer $KEY_1\"");
    }

    #[test]
    fn of_a_list_of_callers_each_has_a_line() {
        let callers = json!([{ "instance": "hall 3", "network": "127.0.0.1", "accepted": 1 }, { "network": "::1" }]);
        let answer = Answer { status: StatusCode::CONFLICT, challenge: None, body: json!({ "callers": callers }) };
        let expected = "409 Conflict\n{ \"callers\": [\n    { \"instance\": \"hall 3\", \"network\": \"127.0.0.1\", … },\n    \
                        { \"network\": \"::1\", … } ] }\n";
        assert_eq!(answer.shown(&[], Paint::never()), expected);
    }

    #[test]
    fn long_commands_and_answers_are_broken_into_lines() {
        let base = Variable::new("KEYWARD", "http://127.0.0.1:1");
        let request = Request::post(&base, "/api/v1/clients").json(json!({ "name": "x".repeat(80) }));
        assert!(request.curl().contains(" \\\n  --json '{"), "{}", request.curl());
        let told =
            Answer { status: StatusCode::OK, challenge: None, body: json!({ "notice": "so it is ".repeat(12) }) };
        let shown = told.shown(&[], Paint::never());
        assert!(shown.starts_with("200 OK\n{\n  \"notice\": \"so it is so"), "a sentence is not cut: {shown}");
        let body = json!({ "token": "e".repeat(500), "a": "a".repeat(70), "b": "b".repeat(70), "c": 1 });
        let answer = Answer { status: StatusCode::OK, challenge: None, body };
        let shown = answer.shown(&["token", "a", "b"], Paint::never());
        let expected = format!(
            "200 OK\n{{ \"token\": \"{}…\",\n  \"a\": \"{}\",\n  \"b\": \"{}\", … }}\n",
            "e".repeat(24),
            "a".repeat(70),
            "b".repeat(70)
        );
        assert_eq!(shown, expected);
    }
}
