//! What the feed tells: the events of `GET /revocations`, as stream and long poll carry them alike.

use keyward_model::id::TokenId;
use keyward_model::time::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::sse::Message;

/// One event, and up to where in the server's log the guard knows everything with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) id: u64,
    /// Of which log that is, as the server calls it.
    pub(crate) log: Option<String>,
    pub(crate) event: Event,
    /// When the server said so, by its clock; in a poll the answer says it for all of its events.
    pub(crate) said_at: Option<Timestamp>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// What is known may be anything: keys and list are to be fetched.
    Reset {
        /// The URL of the list.
        list: String,
    },
    /// The latest state of places in the list.
    Places(Places),
    /// Single tokens that were revoked.
    Tokens(Vec<Revoked>),
    /// The key set is another one.
    Keys,
    /// Nothing happened, and the node knows that.
    Alive,
    /// Of a later version of the protocol.
    Unknown,
}

#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Places {
    pub(crate) ended: Vec<u64>,
    pub(crate) restored: Vec<u64>,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Revoked {
    pub(crate) jti: TokenId,
    /// Until when it must be remembered, in Unix seconds.
    exp: i64,
}

/// What a long poll answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Polled {
    pub(crate) last: u64,
    pub(crate) log: Option<String>,
    pub(crate) said_at: Option<Timestamp>,
    pub(crate) events: Vec<Told>,
}

impl Revoked {
    pub(crate) fn until(&self) -> Timestamp {
        Timestamp::from_seconds(self.exp)
    }
}

impl Told {
    pub(crate) fn read(message: &Message) -> Result<Self, String> {
        let digits = message.id.bytes().all(|byte| byte.is_ascii_digit());
        let id = message.id.parse().ok().filter(|_| digits).ok_or("an event without its place in the log")?;
        let data: serde_json::Value = serde_json::from_str(&message.data).map_err(|err| err.to_string())?;
        let said_at = data.get("now").and_then(serde_json::Value::as_i64).map(Timestamp::from_millis);
        Ok(Self { id, log: log_of(data.get("log")), event: Event::read(&message.event, data)?, said_at })
    }
}

/// It goes back in a URL: what is no such name is none.
fn log_of(log: Option<&serde_json::Value>) -> Option<String> {
    let is_name = |log: &&str| (1..=64).contains(&log.len()) && log.bytes().all(|byte| byte.is_ascii_alphanumeric());
    log?.as_str().filter(is_name).map(str::to_owned)
}

impl Event {
    fn read(name: &str, data: serde_json::Value) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Reset {
            list: String,
        }
        #[derive(Deserialize)]
        struct Tokens {
            revoked: Vec<Revoked>,
        }
        Ok(match name {
            "reset" => Self::Reset { list: typed::<Reset>(data)?.list },
            "places" => Self::Places(typed(data)?),
            "tokens" => Self::Tokens(typed::<Tokens>(data)?.revoked),
            "keys" => Self::Keys,
            "alive" => Self::Alive,
            _ => Self::Unknown,
        })
    }
}

impl Polled {
    pub(crate) fn read(json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Answer {
            last: u64,
            now: Option<i64>,
            log: Option<serde_json::Value>,
            events: Vec<One>,
        }
        #[derive(Deserialize)]
        struct One {
            id: u64,
            event: String,
            data: serde_json::Value,
        }
        let answer: Answer = serde_json::from_slice(json).map_err(|err| err.to_string())?;
        let said_at = answer.now.map(Timestamp::from_millis);
        let log = log_of(answer.log.as_ref());
        let told = |one: One| {
            let log = log_of(one.data.get("log"));
            Ok(Told { id: one.id, log, event: Event::read(&one.event, one.data)?, said_at })
        };
        let events = answer.events.into_iter().map(told).collect::<Result<_, String>>()?;
        Ok(Self { last: answer.last, log, said_at, events })
    }
}

fn typed<T: DeserializeOwned>(data: serde_json::Value) -> Result<T, String> {
    serde_json::from_value(data).map_err(|err| err.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_log_it_is_goes_back_only_where_it_is_a_name() {
        let log = |log: &str| told("alive", &format!(r#"{{"log":{log}}}"#), "7").unwrap().log;
        assert_eq!(log("\"027194bc38d24752\"").as_deref(), Some("027194bc38d24752"));
        for none in ["null", "7", "\"\"", "\"a&after=0\"", &format!("\"{}\"", "a".repeat(65))] {
            assert_eq!(log(none), None, "{none}");
        }
        let polled =
            Polled::read(br#"{"last":9,"log":"ab","events":[{"id":8,"event":"keys","data":{"log":"cd"}}]}"#).unwrap();
        assert_eq!((polled.log.as_deref(), polled.events[0].log.as_deref()), (Some("ab"), Some("cd")));
    }

    fn told(event: &str, data: &str, id: &str) -> Result<Told, String> {
        Told::read(&Message { event: event.into(), data: data.into(), id: id.into() })
    }

    #[test]
    fn each_kind_of_event_is_understood_and_later_ones_do_no_harm() {
        let event = |name: &str, data: &str| told(name, data, "7").map(|told| told.event);
        let list = "https://keyward.example/status-lists/1";
        assert_eq!(event("reset", &format!("{{\"list\":\"{list}\"}}")), Ok(Event::Reset { list: list.into() }));
        let places = Places { ended: vec![3, 7], restored: vec![9] };
        assert_eq!(event("places", r#"{"ended":[3,7],"restored":[9]}"#), Ok(Event::Places(places)));
        assert_eq!(event("places", r#"{"further":1}"#), Ok(Event::Places(Places::default())));
        let Ok(Event::Tokens(tokens)) =
            event("tokens", r#"{"revoked":[{"jti":"tok_00000000000000000000000001","exp":1795435800}]}"#)
        else {
            panic!("no tokens")
        };
        assert_eq!(tokens[0].until(), Timestamp::from_seconds(1_795_435_800));
        assert_eq!(event("keys", "{}"), Ok(Event::Keys));
        assert_eq!(event("alive", "{}"), Ok(Event::Alive));
        assert_eq!(event("owners", "[1]"), Ok(Event::Unknown));
    }

    #[test]
    fn what_is_not_of_the_protocol_is_an_error() {
        for (event, data, id) in [
            ("alive", "{}", ""),
            ("alive", "{}", "-1"),
            ("alive", "{}", "+1"),
            ("alive", "{}", "99999999999999999999"),
            ("alive", "", "1"),
            ("reset", "{}", "1"),
            ("places", r#"{"ended":[-1]}"#, "1"),
            ("places", r#"{"ended":"3"}"#, "1"),
            ("places", "[", "1"),
            ("tokens", r#"{"revoked":[{"jti":"3","exp":1}]}"#, "1"),
            ("tokens", r#"{"revoked":[{"jti":"tok_00000000000000000000000001"}]}"#, "1"),
        ] {
            assert!(told(event, data, id).is_err(), "{event} {data} {id}");
        }
        for json in ["", "{}", r#"{"last":1}"#, r#"{"last":1,"events":[{"id":2}]}"#, "<html>"] {
            assert!(Polled::read(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn when_something_was_said_is_known_where_the_server_tells() {
        let said = |millis: Option<i64>| millis.map(Timestamp::from_millis);
        for (data, millis) in
            [(r#"{"now":1795435800123}"#, Some(1_795_435_800_123)), (r#"{"now":"x"}"#, None), ("{}", None)]
        {
            assert_eq!(
                told("alive", data, "7").unwrap(),
                Told { id: 7, log: None, event: Event::Alive, said_at: said(millis) }
            );
        }
        for (now, millis) in [(r#""now":5,"#, Some(5)), ("", None)] {
            let json = format!(r#"{{"last":9,{now}"events":[{{"id":8,"event":"keys","data":{{}}}}]}}"#);
            let events = vec![Told { id: 8, log: None, event: Event::Keys, said_at: said(millis) }];
            assert_eq!(Polled::read(json.as_bytes()), Ok(Polled { last: 9, log: None, said_at: said(millis), events }));
        }
    }
}
