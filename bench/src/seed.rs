//! A database filled in bulk: users, clients and credentials written straight into the SQLite file of a stopped server.
//!
//! One credential made over the REST API is the template. Every row added is a copy of its row, its client's or its
//! owner's, with another id; the copies share the template's 256 secret bits, and so its stored hash, which does not
//! depend on the id. Their keys are therefore known without the server's hashing key, and cost the server the same.
//! No events are written: nothing reads them on the way to a token.

use std::path::Path;

use anyhow::{Context as _, anyhow};
use keyward_model::id::{ClientId, CredentialId, UserId};
use keyward_model::key::Key;
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use uuid::Uuid;

use crate::http::Credentials;

/// Credentials of one client, and clients of one owner.
const PER_CLIENT: u32 = 4;
const PER_OWNER: u32 = 10;

/// What was written.
#[derive(Debug)]
pub struct Seeded {
    template: Key,
    credentials: u32,
}

/// Adds this many credentials, a client for every four of them and an owner for every ten clients.
pub fn fill(database: &Path, template: &Credentials, credentials: u32) -> anyhow::Result<Seeded> {
    let key = Key::parse(&template.client_secret).map_err(|error| anyhow!("the template: {error}"))?;
    let mut connection = Connection::open(database)?;
    let transaction = connection.transaction()?;
    copy_rows(&transaction, &template.client_id, key.credential, credentials)?;
    transaction.commit()?;
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); PRAGMA optimize;")?;
    Ok(Seeded { template: key, credentials })
}

impl Seeded {
    /// Id and secret of `count` credentials, spread evenly over all, so that few share a client.
    pub fn sample(&self, count: u32) -> impl Iterator<Item = Credentials> {
        let apart = (self.credentials / count.max(1)).max(1);
        (0..count.min(self.credentials)).map(move |place| {
            let number = place * apart;
            let key =
                Key { credential: CredentialId::from_uuid(numbered(number)), secret: self.template.secret.clone() };
            Credentials {
                client_id: ClientId::from_uuid(numbered(number / PER_CLIENT)).to_string(),
                client_secret: key.reveal().to_string(),
            }
        })
    }
}

fn copy_rows(transaction: &Transaction<'_>, client: &str, credential: CredentialId, count: u32) -> anyhow::Result<()> {
    let owner: String = transaction.query_row("SELECT owner FROM clients WHERE id = ?1", [client], |row| row.get(0))?;
    let first_index: u32 =
        transaction.query_row("SELECT value FROM counters WHERE name = 'status_index'", [], |row| row.get(0))?;
    let credential = credential.to_string();
    let mut add_user = transaction.prepare(&copy(transaction, "users", "id", &["id", "name"])?)?;
    let mut add_client = transaction.prepare(&copy(transaction, "clients", "id", &["id", "owner"])?)?;
    let mut add_apis = transaction.prepare(&copy(transaction, "client_apis", "client", &["client"])?)?;
    let mut add_credential =
        transaction.prepare(&copy(transaction, "credentials", "id", &["id", "client", "status_index"])?)?;
    for number in 0..count {
        let of_client = ClientId::from_uuid(numbered(number / PER_CLIENT)).to_string();
        if number % PER_CLIENT == 0 {
            let of_owner = UserId::from_uuid(numbered(number / (PER_CLIENT * PER_OWNER))).to_string();
            if number % (PER_CLIENT * PER_OWNER) == 0 {
                add_user.execute(params![owner, of_owner, format!("user {number}")])?;
            }
            add_client.execute(params![client, of_client, of_owner])?;
            add_apis.execute(params![client, of_client])?;
        }
        let id = CredentialId::from_uuid(numbered(number)).to_string();
        add_credential.execute(params![credential, id, of_client, first_index + 1 + number])?;
    }
    transaction.execute("UPDATE counters SET value = value + ?1 WHERE name = 'status_index'", [count])?;
    Ok(())
}

/// `INSERT … SELECT` that copies the rows of a table whose column `key` is `?1`, with `?2`, `?3`, … in these columns.
/// The other columns are taken from the database, so a new one needs no change here.
fn copy(connection: &Connection, table: &str, key: &str, changed: &[&str]) -> anyhow::Result<String> {
    let names: Option<String> = connection
        .query_row("SELECT group_concat(name, ',') FROM pragma_table_info(?1)", [table], |row| row.get(0))
        .optional()?
        .flatten();
    let names = names.with_context(|| format!("there is no table {table}"))?;
    let values: Vec<String> = names
        .split(',')
        .map(|name| match changed.iter().position(|changed| *changed == name) {
            Some(place) => format!("?{}", place + 2),
            None => name.to_owned(),
        })
        .collect();
    Ok(format!("INSERT INTO {table} ({names}) SELECT {} FROM {table} WHERE {key} = ?1", values.join(",")))
}

/// The UUIDv7 with this number: like real ones they sort in the order they are made, one a millisecond from 2024 on.
fn numbered(number: u32) -> Uuid {
    let milliseconds = u128::from(number) + 0x018c_c251_f400;
    let spread = u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15) & 0x3fff_ffff_ffff_ffff;
    Uuid::from_u128(milliseconds << 80 | 0x7 << 76 | 0b10 << 62 | spread)
}

#[cfg(test)]
mod tests {
    use super::*;
    use keyward_model::secret::Secret;

    const TABLES: &str = "
        CREATE TABLE users (id TEXT PRIMARY KEY, name TEXT UNIQUE, email TEXT);
        CREATE TABLE clients (id TEXT PRIMARY KEY, owner TEXT REFERENCES users (id), scope TEXT);
        CREATE TABLE client_apis (client TEXT REFERENCES clients (id), api TEXT, PRIMARY KEY (client, api));
        CREATE TABLE credentials (id TEXT PRIMARY KEY, client TEXT REFERENCES clients (id), secret_hash BLOB,
                                  status_index INTEGER UNIQUE);
        CREATE TABLE counters (name TEXT, value INTEGER);
        INSERT INTO users VALUES ('user_1', 'admin', 'a@example.com');
        INSERT INTO clients VALUES ('client_1', 'user_1', 'Worker');
        INSERT INTO client_apis VALUES ('client_1', 'api_1'), ('client_1', 'api_2');
        INSERT INTO counters VALUES ('status_index', 3);";

    #[test]
    fn every_sampled_key_has_its_row_with_the_hash_of_the_template() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLES).unwrap();
        let key = Key { credential: CredentialId::from_uuid(Uuid::from_u128(5)), secret: Secret::new([9; 32]) };
        connection
            .execute("INSERT INTO credentials VALUES (?1, 'client_1', x'0a', 3)", [key.credential.to_string()])
            .unwrap();
        let transaction = connection.transaction().unwrap();
        copy_rows(&transaction, "client_1", key.credential, 100).unwrap();
        transaction.commit().unwrap();

        let seeded = Seeded { template: key, credentials: 100 };
        let sample: Vec<Credentials> = seeded.sample(50).collect();
        assert_eq!(sample.len(), 50);
        for credentials in sample {
            let key = Key::parse(&credentials.client_secret).unwrap();
            assert_eq!(key.secret.expose(), &[9; 32]);
            let found: (String, Vec<u8>, u32) = connection
                .query_row(
                    "SELECT client, secret_hash, (SELECT count(*) FROM client_apis a WHERE a.client = c.client)
                     FROM credentials c WHERE id = ?1",
                    [key.credential.to_string()],
                    |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                )
                .unwrap();
            assert_eq!(found, (credentials.client_id, vec![0x0a], 2));
        }
        let users: u32 = connection.query_row("SELECT count(*) FROM users", [], |row| row.get(0)).unwrap();
        let clients: u32 = connection.query_row("SELECT count(*) FROM clients", [], |row| row.get(0)).unwrap();
        assert_eq!((users, clients), (1 + 3, 1 + 25));
    }
}
