//! Putting the settings together: what a file and the environment put in the place of defaults, and what they name that
//! does not exist.

use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::ConfigError;

/// Names the first setting of the file that does not exist, with its line.
pub(super) fn refuse_unknown(text: &str, known: &Table) -> Result<(), ConfigError> {
    let line_of = |at: usize| text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
    let file = DeTable::parse(text).map_err(|e| ConfigError::Syntax(format!("{e}")))?;
    for (section, content) in file.get_ref() {
        let name = section.get_ref();
        let Some(Value::Table(known)) = known.get(name.as_ref()) else {
            return Err(ConfigError::Unknown { line: line_of(section.span().start), name: format!("[{name}]") });
        };
        let DeValue::Table(content) = content.get_ref() else { continue };
        if let Some((setting, _)) = content.iter().find(|(setting, _)| !known.contains_key(setting.get_ref().as_ref()))
        {
            let line = line_of(setting.span().start);
            return Err(ConfigError::Unknown { line, name: format!("[{name}] {}", setting.get_ref()) });
        }
    }
    Ok(())
}

pub(super) fn merge(settings: &mut Table, over: Table) {
    for (key, value) in over {
        match (settings.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => merge(below, above),
            (_, value) => drop(settings.insert(key, value)),
        }
    }
}

/// `KEYWARD_SERVER_LISTEN` sets `[server] listen`; the type is that of the default.
pub(super) fn set_from_variable(settings: &mut Table, name: &str, text: &str) -> Result<(), ConfigError> {
    for (section, content) in settings.iter_mut() {
        let Value::Table(content) = content else { continue };
        for (setting, value) in content.iter_mut() {
            if format!("KEYWARD_{section}_{setting}").to_uppercase() == name {
                let problem =
                    |problem: &str| ConfigError::Variable { name: name.to_owned(), problem: problem.to_owned() };
                *value = match value {
                    Value::Integer(_) => Value::Integer(text.parse().map_err(|_| problem("must be a whole number"))?),
                    Value::Boolean(_) => Value::Boolean(text.parse().map_err(|_| problem("must be true or false"))?),
                    Value::Array(default) => {
                        let items = text.split(',').map(str::trim).filter(|t| !t.is_empty());
                        // A list of numbers has some by default.
                        let item = |t: &str| match default.first() {
                            Some(Value::Integer(_)) => t.parse().map(Value::Integer),
                            _ => Ok(Value::String(t.to_owned())),
                        };
                        let items: Result<_, _> = items.map(item).collect();
                        Value::Array(items.map_err(|_| problem("must be whole numbers"))?)
                    }
                    _ => Value::String(text.to_owned()),
                };
                return Ok(());
            }
        }
    }
    Err(ConfigError::UnknownVariable(name.to_owned()))
}
