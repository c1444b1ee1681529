//! What the pages say, in one table for each language. A table without one of the texts does not compile.

mod de;
mod en;
mod fr;

use http::{HeaderMap, header};

/// A language the pages speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    English,
    German,
    French,
}

impl Language {
    #[cfg(test)]
    const ALL: [Self; 3] = [Self::English, Self::German, Self::French];

    /// Of those that a browser asks for, the one it likes best (RFC 9110 §12.5.4); English if it likes none.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let wanted = headers.get(header::ACCEPT_LANGUAGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut best = (0, Self::English);
        for range in wanted.split(',').take(20) {
            let mut parts = range.split(';').map(str::trim);
            let tag = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.strip_prefix("q=")).map_or(1000, thousandths);
            // Of equals, the first.
            if weight > best.0
                && let Some(language) = Self::named(tag)
            {
                best = (weight, language);
            }
        }
        best.1
    }

    fn named(tag: &str) -> Option<Self> {
        match tag.split('-').next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "en" => Some(Self::English),
            "de" => Some(Self::German),
            "fr" => Some(Self::French),
            _ => None,
        }
    }

    /// Its table.
    pub(crate) fn texts(self) -> &'static Texts {
        match self {
            Self::English => &en::TEXTS,
            Self::German => &de::TEXTS,
            Self::French => &fr::TEXTS,
        }
    }
}

/// `0.8` as 800. What is no number weighs nothing.
fn thousandths(text: &str) -> u32 {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part = format!("{part:0<3}");
    match (whole.parse::<u32>(), part.get(..3).and_then(|part| part.parse::<u32>().ok())) {
        (Ok(whole @ 0..=1), Some(part)) => (whole * 1000 + part).min(1000),
        _ => 0,
    }
}

macro_rules! texts {
    ($($(#[$doc:meta])* lines: $($line:ident)*; pairs: $($pair:ident)*;)*) => {
        /// The texts of one language. Pairs are a title and what stands below it.
        pub(crate) struct Texts {
            $($(pub(crate) $line: &'static str,)* $(pub(crate) $pair: (&'static str, &'static str),)*)*
        }

        #[cfg(test)]
        impl Texts {
            fn all(&self) -> Vec<(&'static str, &'static str)> {
                vec![$($((stringify!($line), self.$line),)* $((stringify!($pair), self.$pair.0), (stringify!($pair), self.$pair.1),)*)*]
            }
        }
    };
}

texts! {
    lines: lang skip name password new_password or sign_in sign_in_lead passkey_button to_sign_in to_account
        to_recovery again_title again_text again_button;
    pairs: unreadable foreign refused not_found changed unavailable signed_out;

    lines: wrong passkey_refused too_many_title too_many busy_title busy disabled script_cancelled script_failed
        script_unreachable script_unknown;
    pairs: invitation_ended;

    lines: recovery_title recovery_text recovery_code recovery_wrong recovery_used
        codes_title codes_text codes_done;
    pairs: ;

    lines: welcome invitation_text passkey_title passkey_text passkey_create password_title password_text password_set;
    pairs: ;

    lines: weak_short weak_long weak_plain weak_named passkeys_full passkey_known;
    pairs: ;

    lines: account_title account_of account_invited passkeys_title passkeys_none passkey_name passkey_rename passkey_remove passkey_added passkey_used
        passkey_unused passkey_add passkey_last password_none password_since password_change recovery_count recovery_none
        recovery_new recovery_new_text logins_title logins_text login_current login_since login_seen login_end logins_end
        sign_out method_password method_passkey method_recovery_code;
    pairs: ;

    lines: authorize_title authorize_text authorize_to authorize_local authorize_deny authorize_allow;
    pairs: application_unknown;

    lines: devices_title devices_text devices_none devices_see to_devices device_begun device_from device_ends device_stopped
        device_name device_rename device_end device_disown device_disown_text devices_end rights_none rights_on
        rights_everywhere done_device_renamed done_device_ended done_device_disowned done_devices_ended;
    pairs: ;

    lines: done_password done_passkey_added done_passkey_removed done_passkey_renamed done_login_ended done_logins_ended;
    pairs: ;

    lines: device_title device_lead device_code device_code_hint device_care device_continue code_unknown
        code_too_many switch_account compare_title compare_text compare_no compare_yes confirm_title
        confirm_text place_device place_you place_same place_other fact_device fact_app fact_asked
        fact_code fact_code_text fact_rights app_verified app_unverified asked_now asked_minutes
        confirm_here confirm_no confirm_yes care_title care_type care_sign_in care_wait here_missing
        rights_changed too_fast approved_title approved_text approved_digits approved_look redeemed_title redeemed_text
        undo_lead undo device_unnamed device_again;
    pairs: denied undone contested unconfirmed cancelled expired nothing blocked;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_says_everything_in_its_own_words() {
        let english = en::TEXTS.all();
        for language in [Language::German, Language::French] {
            let same = english.iter().zip(language.texts().all()).filter(|((_, a), (_, b))| a == b);
            let same: Vec<_> = same.map(|((key, _), _)| *key).collect();
            // A few words are the same in both.
            assert!(same.len() <= 2, "{language:?} repeats English: {same:?}");
        }
        for (key, text) in Language::ALL.iter().flat_map(|language| language.texts().all()) {
            assert!(!text.trim().is_empty() && text == text.trim(), "{key}: {text:?}");
            assert!(!text.contains("  ") && !text.contains(['<', '>', '{', '}']), "{key}: {text:?}");
        }
    }

    #[test]
    fn what_the_rule_for_passwords_wants_is_what_the_texts_say() {
        let fewest = keyward_model::password::FEWEST.to_string();
        for language in Language::ALL {
            for text in [language.texts().password_text, language.texts().weak_short] {
                assert!(text.contains(&fewest), "{text}");
            }
        }
    }

    #[test]
    fn the_language_is_the_one_the_browser_likes_best() {
        for (wanted, language) in [
            ("", Language::English),
            ("de", Language::German),
            ("de-AT, en;q=0.8", Language::German),
            ("ja, fr;q=0.3, de;q=0.7", Language::German),
            ("en;q=0.2, fr-CA;q=0.9", Language::French),
            ("fr;q=0, en", Language::English),
            ("fr;q=x", Language::English),
            ("FR", Language::French),
            ("ja, *", Language::English),
        ] {
            let headers = [(header::ACCEPT_LANGUAGE, wanted.parse().unwrap())].into_iter().collect();
            assert_eq!(Language::of(&headers), language, "{wanted:?}");
        }
    }
}
