//! Where profiles are (XDG Base Directory Specification): each under its name, one of them in use.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Context as _;
use keyward_server::private_file;

use crate::failure::Failure;
use crate::settings::create_private;

/// The name of the profile that `keyward bootstrap` makes.
const DEFAULT: &str = "default";

/// What a profile is called: a word, so that it is told apart from a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(String);

impl FromStr for Name {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if text.is_empty() || text.len() > 64 || !text.bytes().all(legal) {
            return Err(Failure::usage("a profile's name has 1 to 64 of the characters A-Z a-z 0-9 - _"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The directory of all profiles.
pub(crate) struct Shelf(PathBuf);

impl Shelf {
    /// In the home of whoever runs this.
    pub(crate) fn at_home() -> anyhow::Result<Self> {
        let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let config = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
        let config = config.ok_or_else(|| Failure::usage("HOME is not set; name the profile with --profile FILE"))?;
        Ok(Self(config.join("keyward")))
    }

    #[cfg(test)]
    pub(crate) fn at(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// The file of a profile.
    pub(crate) fn path(&self, name: &Name) -> PathBuf {
        if name.0 == DEFAULT {
            return self.0.join("profile.json");
        }
        self.0.join("profiles").join(format!("{name}.json"))
    }

    /// The profile in use; the one of `keyward bootstrap` where none was chosen.
    pub(crate) fn current(&self) -> anyhow::Result<Name> {
        let path = self.choice();
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().parse().with_context(|| path.display().to_string())?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Name(DEFAULT.to_owned())),
            Err(error) => Err(error).with_context(|| path.display().to_string()),
        }
    }

    /// Puts a profile into use.
    pub(crate) fn choose(&self, name: &Name) -> anyhow::Result<()> {
        self.find(name)?;
        create_private(&self.0)?;
        let path = self.choice();
        private_file::replace(&path, format!("{name}\n").as_bytes()).with_context(|| path.display().to_string())
    }

    /// The file of a profile that is there.
    pub(crate) fn find(&self, name: &Name) -> anyhow::Result<PathBuf> {
        let path = self.path(name);
        if path.exists() {
            return Ok(path);
        }
        Err(Failure::new(format!("there is no profile {name}"))
            .hint("`keyward profile list` shows those there are")
            .into())
    }

    /// All profiles there are, by name.
    pub(crate) fn list(&self) -> anyhow::Result<Vec<Name>> {
        let mut names = Vec::new();
        names.extend(Some(Name(DEFAULT.to_owned())).filter(|name| self.path(name).exists()));
        let directory = self.0.join("profiles");
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
            Err(error) => return Err(error).with_context(|| directory.display().to_string()),
        };
        for entry in entries {
            let file = entry?.file_name();
            names.extend(file.to_str().and_then(|file| file.strip_suffix(".json")?.parse().ok()));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Removes a profile. If it was in use, the one of `keyward bootstrap` is again.
    pub(crate) fn remove(&self, name: &Name) -> anyhow::Result<()> {
        let path = self.find(name)?;
        if self.current()? == *name {
            match fs::remove_file(self.choice()) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        fs::remove_file(&path).with_context(|| path.display().to_string())
    }

    fn choice(&self) -> PathBuf {
        self.0.join("current")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_word_and_never_a_path() {
        for right in ["press-7", "a", "A_1", &"x".repeat(64)] {
            assert!(right.parse::<Name>().is_ok(), "{right}");
        }
        for wrong in ["", ".", "..", "a/b", "a.json", "a b", "ä", &"x".repeat(65)] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_not_a_profile_is_neither_listed_nor_chosen() {
        let directory = std::env::temp_dir().join(format!("keyward-shelf-{}", std::process::id()));
        drop(fs::remove_dir_all(&directory));
        let shelf = Shelf::at(directory.clone());
        assert!(shelf.list().unwrap().is_empty());
        assert!(shelf.choose(&"absent".parse().unwrap()).is_err());
        fs::create_dir_all(directory.join("profiles")).unwrap();
        for file in ["b.json", "a.json", "b.json.new", "with space.json"] {
            fs::write(directory.join("profiles").join(file), "{}").unwrap();
        }
        let names: Vec<_> = shelf.list().unwrap().iter().map(Name::to_string).collect();
        assert_eq!(names, ["a", "b"]);
        let b = "b".parse().unwrap();
        shelf.choose(&b).unwrap();
        assert_eq!(shelf.current().unwrap(), b);
        shelf.remove(&b).unwrap();
        assert_eq!(shelf.current().unwrap().to_string(), DEFAULT);
        fs::remove_dir_all(directory).unwrap();
    }
}
