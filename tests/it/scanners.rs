//! The patterns of `deploy/leaks`: each finds whole keys where they stand, and nothing that is none. detect-secrets runs
//! itself; for the others, their files are read and the expressions in them run as Go's engine understands them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use keyward_model::entropy::Entropy;
use keyward_model::id::{CredentialId, DeviceSessionId};
use keyward_model::key::Key;
use keyward_model::refresh_token::RefreshToken;
use keyward_model::secret::{HashingKey, Secret};
use keyward_tests::person::text;
use keyward_tests::server::START;
use keyward_tests::{clients, run};
use regex::bytes::{Regex, RegexBuilder};

/// A whole key that no server knows.
pub(crate) fn any_key() -> String {
    let entropy = Entropy::system();
    Key::generate(CredentialId::new(START, &entropy).unwrap(), &entropy).unwrap().reveal().to_string()
}

fn any_refresh_token() -> String {
    let entropy = Entropy::system();
    let session = DeviceSessionId::new(START, &entropy).unwrap();
    RefreshToken::generate(session, &HashingKey::new(&Secret::new([7; 32])), &entropy).unwrap().reveal().to_string()
}

/// The same with another last character: it looks like a key, and its checksum is wrong.
pub(crate) fn near_miss(key: &str) -> String {
    let (rest, last) = key.split_at(key.len() - 1);
    format!("{rest}{}", if last == "A" { "B" } else { "A" })
}

pub(crate) fn write(directory: &Path, files: &[(&str, &[u8])]) {
    for (name, content) in files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

/// Files, and the lines of them that something was found in.
type Places = BTreeSet<(String, i64)>;

/// A tree of files.
struct Tree {
    files: Vec<(&'static str, String)>,
    /// Where whole keys are.
    keys: Places,
    /// Where something is that only its checksum tells from a key.
    alike: Places,
}

impl Tree {
    fn new() -> Self {
        let [one, two, three] = [(); 3].map(|()| any_key());
        let refresh_token = any_refresh_token();
        let (start, end) = two.split_at(40);
        let misses = [
            near_miss(&one),
            two[..73].to_owned(),
            "kw_short".to_owned(),
            format!("{one}A"),
            format!("x{one}"),
            format!("_{one}_"),
            format!("KW{}", &one[2..]),
            format!("kwx{}", &one[2..]),
            format!("{start}-{end}"),
        ];
        let files = vec![
            ("tokens.json", format!("{{\"refresh_token\":\"{refresh_token}\"}}\n")),
            ("settings.py", format!("DEBUG = True\nKEY = \"{one}\"\n")),
            ("deep/er/config.yaml", format!("client_secret: {two}\n")),
            ("notes.txt", format!("curl -u client_01h455vb4pex5vsknk084sn02q:{three} https://iam.example/token\n")),
            ("alone", one),
            ("misses.txt", misses.map(|miss| miss + "\n").concat()),
            ("others.txt", format!("{}\n", near_miss(&refresh_token))),
            ("clean.py", "KEY = os.environ['KEY']\n".to_owned()),
        ];
        let keys = [("alone", 1), ("deep/er/config.yaml", 1), ("notes.txt", 1), ("settings.py", 2), ("tokens.json", 1)];
        Self { files, keys: places(&keys), alike: places(&[("misses.txt", 1), ("others.txt", 1)]) }
    }

    fn write(&self) -> PathBuf {
        let directory = run::subdirectory("tree");
        write(&directory, &self.files.iter().map(|(name, content)| (*name, content.as_bytes())).collect::<Vec<_>>());
        directory
    }

    /// Where the expression matches, or its group if it has one.
    fn found_by(&self, expression: &Regex) -> Places {
        let in_file = |(name, content): &(&str, String)| {
            let matches = expression.captures_iter(content.as_bytes()).map(|found| {
                let before = &content[..found.get(1).or(found.get(0)).unwrap().start()];
                ((*name).to_owned(), 1 + i64::try_from(before.matches('\n').count()).unwrap())
            });
            matches.collect::<Vec<_>>()
        };
        self.files.iter().flat_map(in_file).collect()
    }
}

fn places(places: &[(&str, i64)]) -> Places {
    places.iter().map(|(file, line)| ((*file).to_owned(), *line)).collect()
}

#[tokio::test]
async fn detect_secrets_finds_all_real_keys_with_the_published_plugin_and_nothing_else() {
    let tree = Tree::new();
    let found = clients::detect_secrets(&tree.write()).await;
    let places: Places = found["results"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|secrets| secrets.as_array().unwrap())
        .filter(|secret| secret["type"] == "Keyward API key or refresh token")
        .map(|secret| (text(&secret["filename"]), secret["line_number"].as_i64().unwrap()))
        .collect();
    assert_eq!(places, tree.keys, "{found}");
}

const PATTERN: &str = r"\bkwr?_[0-9A-Za-z]{71}\b";

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(name)).unwrap()
}

/// What Go's engine, RE2, knows: words are words of ASCII.
fn compiled(expression: &str) -> Regex {
    RegexBuilder::new(expression).unicode(false).build().unwrap()
}

/// A pattern of a scanner that computes no checksum, behind the words that it looks for first: without regard to case.
fn finds_keys(expression: &str, keywords: &[&str]) {
    let tree = Tree::new();
    let found = tree.found_by(&compiled(expression));
    assert_eq!(found, tree.keys.union(&tree.alike).cloned().collect(), "{expression}");
    for (file, _) in found {
        let (_, content) = tree.files.iter().find(|(name, _)| *name == file).unwrap();
        assert!(keywords.iter().any(|keyword| content.to_lowercase().contains(keyword)), "{file}: {keywords:?}");
    }
}

#[test]
fn the_rule_for_gitleaks_finds_what_looks_like_a_key() {
    let config: toml::Table = read("deploy/leaks/gitleaks.toml").parse().unwrap();
    assert_eq!(config["extend"]["useDefault"].as_bool(), Some(true), "it adds to the rules that gitleaks brings");
    let [rule] = config["rules"].as_array().unwrap().as_slice() else { panic!("one rule: {config:?}") };
    let rule = rule.as_table().unwrap();
    let members: Vec<_> = rule.keys().map(String::as_str).collect();
    assert_eq!(
        members,
        ["description", "id", "keywords", "regex", "tags"],
        "what narrows a rule down is looked at here"
    );
    let keywords: Vec<_> = rule["keywords"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    finds_keys(rule["regex"].as_str().unwrap(), &keywords);
}

#[test]
fn the_detector_for_trufflehog_finds_what_looks_like_a_key() {
    let yaml = read("deploy/leaks/trufflehog.yaml");
    // Of YAML no more than this file needs: anything else in it is an error.
    let lines: Vec<_> = yaml.lines().filter(|line| !line.starts_with('#')).collect();
    let ["detectors:", "  - name: keyward-api-key", "    keywords:", keywords @ .., "    regex:", regex] = &lines[..]
    else {
        panic!("{yaml}")
    };
    let keywords: Vec<_> = keywords.iter().map(|line| line.strip_prefix("      - ").unwrap()).collect();
    assert!(keywords.iter().flat_map(|word| word.chars()).all(|c| c.is_ascii_lowercase() || c == '_'), "{keywords:?}");
    let regex = regex.strip_prefix("      key: '").and_then(|rest| rest.strip_suffix('\'')).unwrap();
    assert!(!regex.contains('\''), "two of them would stand for one: {regex}");
    finds_keys(regex, &keywords);
}

#[test]
fn the_custom_pattern_for_github_finds_what_looks_like_a_key() {
    let readme = read("deploy/leaks/README.md");
    let field = |name: &str| {
        let cell = readme.lines().find_map(|line| line.strip_prefix(&format!("| {name} | `"))?.strip_suffix("` |"));
        cell.unwrap_or_else(|| panic!("{name} is not in the table")).replace(r"\|", "|")
    };
    let [before, secret, after] = ["Before secret", "Secret format", "After secret"].map(field);
    let expression = format!("(?:{before})({secret})(?:{after})");
    finds_keys(&expression, &[""]);
    let example = field("Test string");
    let found = compiled(&expression).captures(example.as_bytes()).unwrap()[1].to_owned();
    assert!(Key::parse(std::str::from_utf8(&found).unwrap()).is_ok(), "{example}");
}

#[test]
fn every_published_pattern_is_the_one_of_the_key_format() {
    assert_eq!(keyward_model::key::LEN, "kw_".len() + 71);
    assert!(read("docs/key-format.md").contains(r"\bkw_[0-9A-Za-z]{71}\b"));
    assert!(read("docs/let-people-sign-in.md").contains(r"\bkwr_[0-9A-Za-z]{71}\b"));
    for file in ["README.md", "gitleaks.toml", "trufflehog.yaml", "detect_secrets.py"] {
        assert!(read(&format!("deploy/leaks/{file}")).contains(PATTERN), "{file}");
    }
}
