//! Mail: by SMTP, in plain text. lettre encodes every header, so that no name can become one.

use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use keyward_model::notice::Delivery;
use keyward_model::time::Timestamp;
use lettre::message::{Mailbox, SinglePart};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use reqwest::Url;

use super::deliver::Problem;
use super::letter;
use super::message::Body;
use crate::config::{ConfigError, MailConfig};

/// How long it may take to connect. What follows has no bound here, but that of the whole attempt.
const CONNECT: Duration = Duration::from_secs(20);

/// Sends mail.
pub(super) struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    team: Option<String>,
}

impl Mailer {
    /// As the settings say; nothing if they name no server.
    pub(super) fn new(config: &MailConfig) -> Result<Option<Self>, ConfigError> {
        if config.smtp_url.is_empty() {
            return Ok(None);
        }
        let refuse = |problem: &str| ConfigError::Value(problem.to_owned());
        // The error of the URL would show the password in it.
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(&config.smtp_url)
            .map_err(|_| refuse("[mail] smtp_url must look like smtps://user:password@host or smtp://host:25"))?
            .timeout(Some(CONNECT))
            .build();
        let from = config.from.parse().map_err(|_| refuse("[mail] from must be an address: keyward@example.org"))?;
        let team = Some(config.team.as_str()).filter(|team| !team.is_empty());
        let team = team.map(|team| address(team).map_err(|why| refuse(&format!("[mail] team {why}")))).transpose()?;
        Ok(Some(Self { transport, from, team: team.map(|team| team.to_string()) }))
    }

    /// Who is told everything.
    pub(super) fn team(&self) -> Option<&str> {
        self.team.as_deref()
    }

    /// Sends a notice to an address.
    pub(super) async fn send(&self, delivery: &Delivery, to: &str, body: &str, now: Timestamp) -> Result<(), Problem> {
        let body: Body = serde_json::from_str(body).map_err(|_| Problem::lasting("the notice cannot be read"))?;
        let to = address(to).map_err(|_| Problem::lasting("this is no address to send mail to"))?;
        let letter = letter::write(&body);
        let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(now.as_millis()).unwrap_or(0));
        let message = lettre::Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(letter.subject)
            .date(at)
            // The same at each attempt: a mail that arrives twice is known as one.
            .message_id(Some(format!("<{}@{}>", delivery.id, self.from.email.domain())))
            .singlepart(SinglePart::plain(letter.text))
            .map_err(|_| Problem::lasting("the mail cannot be written"))?;
        match self.transport.send(message).await {
            Ok(_) => Ok(()),
            // A server whose password was changed refuses for good too, until the setting is mended.
            Err(error) if error.is_permanent() || error.is_transient() => {
                let code = error.status().map(|code| format!(" ({code})")).unwrap_or_default();
                Err(Problem::passing(format!("the mail server refuses this mail{code}")))
            }
            Err(error) if error.is_timeout() => Err(Problem::passing("the mail server does not answer in time")),
            Err(error) if is_of_tls(&error) => {
                Err(Problem::passing("the mail server's certificate is not good, or it speaks no TLS"))
            }
            // What the server offers is told to lettre alone, which says it in words.
            Err(error) if error.is_client() && error.to_string().contains("STARTTLS") => {
                Err(Problem::passing("the mail server offers no STARTTLS, which tls=required asks for"))
            }
            Err(_) => Err(Problem::passing("the mail server cannot be reached, or does not speak SMTP")),
        }
    }
}

/// Whether it was TLS that failed, however deep that is told.
fn is_of_tls(error: &lettre::transport::smtp::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(this) = cause {
        let within = this.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if within.is_some_and(|within| within.is::<rustls::Error>()) {
            return true;
        }
        cause = this.source();
    }
    error.is_tls()
}

/// An address that mail can be sent to, its domain as mail servers know it; or what is wrong with it. Whether mail
/// arrives there only a mail can tell.
pub(crate) fn address(text: &str) -> Result<Address, &'static str> {
    /// RFC 5321 §4.5.3.1.3, without the angle brackets.
    const MOST: usize = 254;
    const OUTLINE: &str = "must look like name@example.org, at most 254 bytes";
    let (local, domain) = text.rsplit_once('@').ok_or(OUTLINE)?;
    if !local.is_ascii() {
        // It would need SMTPUTF8 (RFC 6531) at every server on the way.
        return Err("must have ASCII characters only before the @: mail to others is lost on its way");
    }
    let domain = ascii_domain(domain).ok_or(OUTLINE)?;
    if domain.starts_with('[') || domain.parse::<IpAddr>().is_ok() {
        return Err("must be at a domain: name@example.org");
    }
    let address: Address = format!("{local}@{domain}").parse().map_err(|_| OUTLINE)?;
    // What a header cannot carry is found out here, not at the first attempt.
    let carried = Mailbox::new(None, address.clone()).to_string().parse::<Mailbox>();
    let is_carried = carried.is_ok_and(|carried| carried.email == address);
    if !is_carried || address.to_string().len() > MOST || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(OUTLINE);
    }
    Ok(address)
}

/// The form of a domain that stands in the DNS: RFC 5891 §4.4.
fn ascii_domain(domain: &str) -> Option<String> {
    if domain.is_ascii() {
        return Some(domain.to_owned());
    }
    // Only what is a host as a whole: nothing in it may end the host of the URL.
    let is_host = domain.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '.'));
    let url: Option<Url> = Some(format!("https://{domain}/")).filter(|_| is_host)?.parse().ok();
    Some(url?.host_str()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_mail_cannot_reach_is_refused_at_the_door() {
        for right in ["ada@example.org", "a+b.c@localhost", "o'neil@example.org", "ada@xn--exmple-cua.org"] {
            assert_eq!(address(right).map(|address| address.to_string()).as_deref(), Ok(right));
        }
        assert_eq!(address("ada@exämple.org").unwrap().to_string(), "ada@xn--exmple-cua.org");
        let long = format!("{}@example.org", "a".repeat(243));
        for wrong in [
            "",
            "ada",
            "@example.org",
            "ada@",
            "a@b@c",
            "a da@example.org",
            "ada@example.org\r\nBcc: x@y",
            &long,
            "a..b@c.d",
            "a,b@c.d",
            "<x>@y",
            "a\"b@c",
            "ada@-",
            ".a@b.c",
            "a.@b.c",
            "x@[192.0.2.1]",
            "x@192.0.2.1",
            "ädä@example.org",
            "a@exä/mple.org",
            "a@ä b.org",
            "Ada <ada@example.org>",
            "a;b@c.d",
            "a(b)@c.d",
            "\"a b\"@c.d",
        ] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
