//! Every setting as it was resolved, and where it comes from; no secret among them.

use std::net::SocketAddr;

use keyward_server::config::DEFAULTS;
use keyward_store::DatabaseUrl;
use serde::Serialize;
use toml::{Table, Value};

use crate::settings::Settings;

/// One setting.
#[derive(Debug, Serialize)]
pub(crate) struct Setting {
    /// `server.listen`
    pub(crate) name: String,
    /// What it is, secrets hidden.
    pub(crate) value: String,
    /// `default`, the file, the variable or the option.
    pub(crate) from: String,
}

/// All settings, in the order of the reference.
pub(crate) fn resolve(files: &Settings, listen: Option<SocketAddr>) -> anyhow::Result<Vec<Setting>> {
    let file = files.file()?;
    // A file that is no TOML is reported as a finding; what can be shown is shown all the same.
    let file_name = files.path().map(|path| path.display().to_string()).unwrap_or_default();
    let file: Table = file.and_then(|text| text.parse().ok()).unwrap_or_default();
    let defaults: Table = DEFAULTS.parse()?;
    let variables = files.variables(listen)?;
    let mut settings = Vec::new();
    for (section, name) in names() {
        let find = |table: &Table| table.get(section).and_then(|content| content.get(name)).map(plain);
        let variable = format!("KEYWARD_{section}_{name}").to_uppercase();
        let (value, from) = match variables.iter().rev().find(|found| found.name == variable) {
            Some(found) => (found.value.clone(), found.from.to_owned()),
            None => match find(&file) {
                Some(value) => (value, file_name.clone()),
                None => (find(&defaults).unwrap_or_default(), "default".to_owned()),
            },
        };
        let name = format!("{section}.{name}");
        let value = presentable(&name, value);
        settings.push(Setting { name, value, from });
    }
    Ok(settings)
}

/// Section and name of every setting, as they stand in the reference.
fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    let mut section = "";
    DEFAULTS.lines().filter_map(move |line| {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        }
        let (name, _) = line.split_once(" = ").filter(|_| !line.starts_with('#'))?;
        Some((section, name))
    })
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Integer(number) => number.to_string(),
        Value::Boolean(is) => is.to_string(),
        // No setting is of another kind.
        _ => String::new(),
    }
}

/// Without secrets.
fn presentable(name: &str, value: String) -> String {
    match name {
        "master_key.value" | "mail.smtp_url" if !value.is_empty() => "(hidden)".to_owned(),
        "database.url" if !value.is_empty() => {
            value.parse::<DatabaseUrl>().map_or_else(|_| "(hidden: not understood)".to_owned(), |url| url.to_string())
        }
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_of_the_reference_is_found() {
        let defaults: Table = DEFAULTS.parse().unwrap();
        let all: usize = defaults.values().map(|section| section.as_table().unwrap().len()).sum();
        assert_eq!(names().count(), all);
        for (section, name) in names() {
            assert!(defaults[section].get(name).is_some(), "{section}.{name}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        for (name, value) in [
            ("master_key.value", "kwm_hunter2"),
            ("mail.smtp_url", "smtps://keyward:hunter2@mail"),
            ("database.url", "postgres://keyward:hunter2@db/keyward"),
            ("database.url", "postgers://keyward:hunter2@db/keyward"),
        ] {
            assert!(!presentable(name, value.to_owned()).contains("hunter2"), "{name}");
        }
        assert_eq!(presentable("server.listen", "127.0.0.1:1".to_owned()), "127.0.0.1:1");
    }
}
