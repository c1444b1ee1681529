//! Users.

use keyward_model::id::UserId;
use keyward_model::rights::Rights;
use keyward_model::time::Timestamp;
use keyward_model::user::{Activity, User};

use crate::engine::{Row, Value};
use crate::listing::Listing;
use crate::{Page, Store, StoreError, Tx, parsed};

pub(crate) const COLUMNS: &str = "id, name, email, scope, res, disabled_at, created_at, updated_at, version";
/// How many columns that is.
pub(crate) const WIDTH: usize = 9;

/// Which users to list.
#[derive(Debug, Clone, Default)]
pub struct UserFilter {
    /// With this name.
    pub name: Option<String>,
    /// In use or switched off.
    pub activity: Option<Activity>,
}

pub(crate) fn read(row: &Row) -> Result<User, StoreError> {
    Ok(User {
        id: parsed(row.str(0)?, "users.id")?,
        name: row.text(1)?,
        email: row.opt_text(2)?,
        rights: Rights { scope: parsed(row.str(3)?, "users.scope")?, res: parsed(row.str(4)?, "users.res")? },
        disabled_at: row.opt_int(5)?.map(Timestamp::from_millis),
        created_at: Timestamp::from_millis(row.int(6)?),
        updated_at: Timestamp::from_millis(row.int(7)?),
        version: row.int(8)?,
    })
}

impl Store {
    /// The user with this id.
    pub async fn find_user(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let sql = format!("SELECT {COLUMNS} FROM users WHERE id = $1");
        self.find(&sql, &[id.to_string().into()], read).await
    }

    /// Users in the order in which they were added.
    pub async fn list_users(&self, filter: &UserFilter, page: &Page) -> Result<Vec<User>, StoreError> {
        let mut listing = Listing::new(&format!("SELECT {COLUMNS} FROM users"));
        listing.and("name = ?", filter.name.as_deref());
        match filter.activity {
            None => {}
            Some(Activity::Active) => drop(listing.only("disabled_at IS NULL")),
            Some(Activity::Disabled) => drop(listing.only("disabled_at IS NOT NULL")),
        }
        listing.run(self, "id", page, read).await
    }
}

impl Tx {
    /// Whether a user has this name.
    pub async fn user_name_is_taken(&mut self, name: &str) -> Result<bool, StoreError> {
        let found = self.find("SELECT 1 FROM users WHERE name = $1", &[name.into()], |_| Ok(())).await?;
        Ok(found.is_some())
    }

    /// The first of those who may administer Keyward.
    pub async fn find_first_administrator(&mut self) -> Result<Option<UserId>, StoreError> {
        let sql = "SELECT id FROM users WHERE disabled_at IS NULL AND ' ' || scope || ' ' LIKE '% keyward:admin %' \
                   ORDER BY id LIMIT 1";
        let found = self.find(sql, &[], |row| row.text(0)).await?;
        found.map(|id| parsed(&id, "users.id")).transpose()
    }

    /// Adds a user; `Conflict` if the name is taken.
    pub async fn insert_user(&mut self, user: &User) -> Result<(), StoreError> {
        let sql = format!("INSERT INTO users ({COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)");
        self.execute(&sql, &values(user)).await.map(|_| ())
    }

    /// Writes the user if nobody has changed them since `version` was read; `None` if somebody has.
    pub async fn update_user(&mut self, user: &User, version: i64) -> Result<Option<User>, StoreError> {
        let sql = format!(
            "UPDATE users SET name = $2, email = $3, scope = $4, res = $5, disabled_at = $6, created_at = $7, \
             updated_at = $8, version = $9 + 1 WHERE id = $1 AND version = $9 RETURNING {COLUMNS}"
        );
        let mut values = values(user);
        values[8] = version.into();
        self.find(&sql, &values, read).await
    }

    /// Deletes a user who owns nothing; `Conflict` if they own clients, `false` if changed since `version` was read.
    pub async fn delete_user(&mut self, id: UserId, version: i64) -> Result<bool, StoreError> {
        let sql = "DELETE FROM users WHERE id = $1 AND version = $2";
        Ok(self.execute(sql, &[id.to_string().into(), version.into()]).await? == 1)
    }
}

fn values(user: &User) -> [Value; 9] {
    [
        user.id.to_string().into(),
        user.name.as_str().into(),
        user.email.as_deref().into(),
        user.rights.scope.to_string().into(),
        user.rights.res.to_text().into(),
        user.disabled_at.map(Timestamp::as_millis).into(),
        user.created_at.as_millis().into(),
        user.updated_at.as_millis().into(),
        user.version.into(),
    ]
}
