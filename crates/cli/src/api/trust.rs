//! A trusted issuer on the command line: `issuer=https://login.example,audience=plant,scope=Worker,res=plant/7 plant/8`.

use keyward_server::api::apis::IdentityIssuerView;

use crate::options::words;

/// Reads one; nothing stands for none.
pub(super) fn parse(text: &str) -> Result<Option<IdentityIssuerView>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let mut issuer = IdentityIssuerView { issuer: String::new(), audience: String::new(), scope: None, res: None };
    for part in text.split(',') {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("{part:?} is not NAME=VALUE"))?;
        match name.trim() {
            "issuer" => value.clone_into(&mut issuer.issuer),
            "audience" => value.clone_into(&mut issuer.audience),
            "scope" => issuer.scope = Some(value.parse().map_err(|e| format!("scope: {e}"))?),
            "res" => issuer.res = Some(value.parse().map_err(|e| format!("res: {e}"))?),
            other => return Err(format!("{other:?} is none of issuer, audience, scope, res")),
        }
    }
    if issuer.issuer.is_empty() || issuer.audience.is_empty() {
        return Err("issuer=URL and audience=TEXT are needed".to_owned());
    }
    Ok(Some(issuer))
}

/// One in a line, in the words in which it is given.
pub(super) fn show(trusted: &IdentityIssuerView) -> String {
    let IdentityIssuerView { issuer, audience, scope, res } = trusted;
    let mut line = format!("issuer={issuer},audience={audience}");
    if let (Some(scope), Some(res)) = (scope, res) {
        line.push_str(&format!(",scope={scope},res={}", words(res.iter())));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_is_shown_as_it_is_given() {
        for text in [
            "issuer=https://login.example,audience=plant",
            "issuer=https://login.example/a=b,audience=plant,scope=Admin Worker,res=plant/7 plant/8",
        ] {
            assert_eq!(show(&parse(text).unwrap().unwrap()), text);
        }
        assert_eq!(parse(""), Ok(None));
    }

    #[test]
    fn what_is_no_issuer_is_refused_with_what_would_be_one() {
        for text in
            ["https://login.example", "issuer=https://login.example", "issuer=x,audience=y,rights=z", "audience=y"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
