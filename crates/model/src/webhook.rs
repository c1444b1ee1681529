//! Webhooks, and how what they receive is signed: Standard Webhooks 1.0.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::entropy::{Entropy, EntropyError};
use crate::id::WebhookId;
use crate::notice::NoticeKind;
use crate::secret::Secret;
use crate::time::Timestamp;

/// What the text form of a webhook's secret begins with.
const PREFIX: &str = "whsec_";

/// A receiver of notices over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// `webhook_…`
    pub id: WebhookId,
    /// What people call it.
    pub name: String,
    /// Where notices are sent. May hold a secret of its receiver: it belongs into no log.
    pub url: String,
    /// What it is told; everything if empty.
    pub kinds: Vec<NoticeKind>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Grows by one with each change; the `ETag` (RFC 9110 §8.8.3).
    pub version: i64,
}

impl Webhook {
    /// Whether it is told of this. A test is for whoever is tested.
    pub fn wants(&self, kind: NoticeKind) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }
}

/// What a webhook's secret is sealed as.
pub fn sealed_name(id: WebhookId) -> String {
    format!("webhook secret {id}")
}

/// What a webhook and the server both know. 256 bits; text form `whsec_` + base64.
#[derive(Clone)]
pub struct WebhookSecret(Secret);

impl WebhookSecret {
    /// A new one.
    pub fn generate(entropy: &Entropy) -> Result<Self, EntropyError> {
        entropy.bytes().map(|bytes| Self(Secret::new(bytes)))
    }

    /// From the bytes that were sealed; `None` if they are not 32.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(Secret::new(bytes)))
    }

    /// The bytes, for sealing only.
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// The text form, shown once.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", STANDARD.encode(self.0.expose())))
    }

    fn signature(&self, signed: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.expose());
        format!("v1,{}", STANDARD.encode(hmac::sign(&key, signed)))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// The value of `webhook-signature`: one signature for each secret, separated by spaces, over id, timestamp and body.
pub fn sign(secrets: &[WebhookSecret], id: &str, timestamp: i64, body: &str) -> String {
    let signed = format!("{id}.{timestamp}.{body}");
    secrets.iter().map(|secret| secret.signature(signed.as_bytes())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_secret_signs_id_timestamp_and_body() {
        let secrets = [1, 2].map(|seed| WebhookSecret::generate(&Entropy::seeded(seed)).unwrap());
        let both = sign(&secrets, "notice_1", 1_700_000_000, "{}");
        let each: Vec<_> = both.split(' ').collect();
        assert_eq!(each.len(), 2);
        assert!(each.iter().all(|one| one.starts_with("v1,") && one.len() == 47), "{both}");
        assert_eq!(each[0], sign(&secrets[..1], "notice_1", 1_700_000_000, "{}"));
        for changed in [
            sign(&secrets, "notice_2", 1_700_000_000, "{}"),
            sign(&secrets, "notice_1", 1_700_000_001, "{}"),
            sign(&secrets, "notice_1", 1_700_000_000, "{ }"),
        ] {
            assert_ne!(changed, both);
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let secret = WebhookSecret::generate(&Entropy::seeded(1)).unwrap();
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert!(secret.reveal().starts_with(PREFIX));
    }
}
