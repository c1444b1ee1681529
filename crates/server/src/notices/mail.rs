//! Mail: by SMTP, in plain text. lettre encodes every header, so that no name can become one.

use std::time::{Duration, UNIX_EPOCH};

use keyward_model::notice::Delivery;
use keyward_model::time::Timestamp;
use lettre::message::{Mailbox, SinglePart};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};

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
        if !config.team.is_empty() && config.team.parse::<Address>().is_err() {
            return Err(refuse("[mail] team must be an address: team@example.org"));
        }
        Ok(Some(Self { transport, from, team: Some(config.team.clone()).filter(|team| !team.is_empty()) }))
    }

    /// Who is told everything.
    pub(super) fn team(&self) -> Option<&str> {
        self.team.as_deref()
    }

    /// Sends a notice to an address.
    pub(super) async fn send(&self, delivery: &Delivery, body: &str, now: Timestamp) -> Result<(), Problem> {
        let body: Body = serde_json::from_str(body).map_err(|_| Problem::lasting("the notice cannot be read"))?;
        let to: Address =
            delivery.target.parse().map_err(|_| Problem::lasting("this is no address to send mail to"))?;
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
            Err(_) => Err(Problem::passing("the mail server cannot be reached, or does not speak SMTP")),
        }
    }
}
