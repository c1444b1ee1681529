//! A password that somebody chooses, on the account page or by an invitation.

use keyward_model::password::{Password, Weakness};
use keyward_model::user::User;

use crate::app::App;
use crate::login::passwords::HashingError;
use crate::pages::texts::Texts;
use crate::pages::visit::Visit;
use crate::respond::{PageError, PageProblem};

/// Why it is refused, with what the page says of it.
pub(crate) type Refused = (PageError, &'static str);

/// Its hash, to be kept; or why this user cannot have it.
pub(crate) async fn hashed(
    app: &App,
    visit: &Visit,
    user: &User,
    text: &str,
) -> Result<Result<String, Refused>, PageError> {
    let t = visit.language.texts();
    let password = match Password::chosen(text, &user.name) {
        Ok(password) => password,
        Err(weak) => return Ok(Err((PageProblem::Invalid.into(), weakness(weak, t)))),
    };
    // Before it is hashed: nobody chooses so often, and whoever is signed in must not keep everybody else waiting.
    if let Some(wait) = app.sign_in.throttle.charge_choice(user.id, visit.now) {
        return Ok(Err((PageError::too_many(wait), t.too_many)));
    }
    match app.sign_in.passwords.hash(password).await {
        Ok(hash) => Ok(Ok(hash)),
        Err(HashingError::Busy) => Ok(Err((PageProblem::Busy.into(), t.busy))),
        Err(error) => Err(PageError::fault(&error)),
    }
}

fn weakness(weak: Weakness, t: &'static Texts) -> &'static str {
    match weak {
        Weakness::Short => t.weak_short,
        Weakness::Long => t.weak_long,
        Weakness::Plain => t.weak_plain,
        Weakness::Named => t.weak_named,
    }
}
