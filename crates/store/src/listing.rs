//! Lists by keyset: a filter, where to go on, and how many.

use crate::engine::{Row, Value};
use crate::{Store, StoreError};

/// Where a list goes on and how many entries it gives.
#[derive(Debug, Clone)]
pub struct Page {
    /// The key of the last entry already seen.
    pub after: Option<String>,
    /// The most entries to give.
    pub limit: u16,
}

/// A `SELECT` under construction. Conditions are fixed texts in which `?` stands for one value.
pub(crate) struct Listing {
    sql: String,
    args: Vec<Value>,
}

impl Listing {
    /// Begins with everything up to where the conditions stand.
    pub(crate) fn new(select: &str) -> Self {
        Self::with(select, Vec::new())
    }

    /// The same where the `SELECT` has values of its own: `$1…`.
    pub(crate) fn with(select: &str, args: Vec<Value>) -> Self {
        Self { sql: format!("{select} WHERE 1 = 1"), args }
    }

    /// Takes one value for a condition of several, and gives what stands for it there.
    pub(crate) fn value(&mut self, value: impl Into<Value>) -> String {
        self.args.push(value.into());
        format!("${}", self.args.len())
    }

    /// Adds a condition if there is a value for it.
    pub(crate) fn and(&mut self, condition: &str, value: Option<impl Into<Value>>) -> &mut Self {
        if let Some(value) = value {
            let place = self.value(value);
            self.sql.push_str(" AND (");
            self.sql.push_str(&condition.replace('?', &place));
            self.sql.push(')');
        }
        self
    }

    /// Adds a condition without a value.
    pub(crate) fn only(&mut self, condition: &str) -> &mut Self {
        self.sql.push_str(" AND (");
        self.sql.push_str(condition);
        self.sql.push(')');
        self
    }

    /// Runs it: one entry more than the page holds tells whether there is a next page.
    pub(crate) async fn run<T>(
        &mut self,
        store: &Store,
        key: &str,
        page: &Page,
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        self.and(&format!("{key} > ?"), page.after.as_deref());
        self.run_in_order(store, key, page.limit, read).await
    }

    /// Runs it in an order of its own; where it goes on must be among the conditions already.
    pub(crate) async fn run_in_order<T>(
        &mut self,
        store: &Store,
        order: &str,
        limit: u16,
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let most = self.value(i64::from(limit) + 1);
        self.sql.push_str(&format!(" ORDER BY {order} LIMIT {most}"));
        store.query(&self.sql, &self.args).await?.iter().map(read).collect()
    }
}
