//! Values that travel to and from a database.

use std::fmt;

use crate::StoreError;

/// A parameter of a statement, or a column of a row. `Debug` shows its kind only, since it may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// SQL `NULL`, fits every column.
    Null,
    /// `TEXT`, without NUL characters.
    Text(String),
    /// `BIGINT`.
    Int(i64),
    /// `BLOB`, on PostgreSQL `BYTEA`.
    Blob(Vec<u8>),
}

impl Value {
    /// Name of the kind, for error texts.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Text(_) => "text",
            Self::Int(_) => "bigint",
            Self::Blob(_) => "blob",
        }
    }
}

/// PostgreSQL cannot store NUL characters, so no engine does.
pub(super) fn check(args: &[Value]) -> Result<(), StoreError> {
    match args.iter().position(|arg| matches!(arg, Value::Text(text) if text.contains('\0'))) {
        Some(at) => Err(StoreError::Query(format!("parameter ${} holds a NUL character", at + 1))),
        None => Ok(()),
    }
}

/// Whether a statement with `wanted` parameters got as many values.
pub(super) fn check_count(wanted: usize, args: &[Value]) -> Result<(), StoreError> {
    let given = args.len();
    if wanted == given {
        return Ok(());
    }
    Err(StoreError::Query(format!("the statement has {wanted} parameters, {given} values were given")))
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&String> for Value {
    fn from(value: &String) -> Self {
        Self::Text(value.clone())
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<Vec<u8>> for Value {
    fn from(value: Vec<u8>) -> Self {
        Self::Blob(value)
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Blob(value.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(value: &[u8; N]) -> Self {
        Self::Blob(value.to_vec())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One row of an answer; columns count from 0. A column of another kind than asked for is `StoreError::Corrupt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    columns: Vec<Value>,
}

impl Row {
    pub(super) fn new(columns: Vec<Value>) -> Self {
        Self { columns }
    }

    /// The columns from `at` on, as a row of their own; this one keeps those before.
    pub fn split_off(&mut self, at: usize) -> Self {
        Self { columns: self.columns.split_off(at.min(self.columns.len())) }
    }

    /// Text of column `index`, to be read into something else.
    pub fn str(&self, index: usize) -> Result<&str, StoreError> {
        self.opt_str(index)?.ok_or_else(|| self.mismatch(index, "text"))
    }

    /// The same, or `None` for `NULL`.
    pub fn opt_str(&self, index: usize) -> Result<Option<&str>, StoreError> {
        match self.columns.get(index) {
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::Null) => Ok(None),
            _ => Err(self.mismatch(index, "text")),
        }
    }

    /// Text of column `index`.
    pub fn text(&self, index: usize) -> Result<String, StoreError> {
        self.str(index).map(str::to_owned)
    }

    /// Text of column `index`, or `None` for `NULL`.
    pub fn opt_text(&self, index: usize) -> Result<Option<String>, StoreError> {
        Ok(self.opt_str(index)?.map(str::to_owned))
    }

    /// Integer of column `index`.
    pub fn int(&self, index: usize) -> Result<i64, StoreError> {
        self.opt_int(index)?.ok_or_else(|| self.mismatch(index, "bigint"))
    }

    /// Integer of column `index`, or `None` for `NULL`.
    pub fn opt_int(&self, index: usize) -> Result<Option<i64>, StoreError> {
        match self.columns.get(index) {
            Some(Value::Int(int)) => Ok(Some(*int)),
            Some(Value::Null) => Ok(None),
            _ => Err(self.mismatch(index, "bigint")),
        }
    }

    /// Bytes of column `index`.
    pub fn blob(&self, index: usize) -> Result<Vec<u8>, StoreError> {
        self.opt_blob(index)?.ok_or_else(|| self.mismatch(index, "blob"))
    }

    /// Bytes of column `index`, or `None` for `NULL`.
    pub fn opt_blob(&self, index: usize) -> Result<Option<Vec<u8>>, StoreError> {
        match self.columns.get(index) {
            Some(Value::Blob(blob)) => Ok(Some(blob.clone())),
            Some(Value::Null) => Ok(None),
            _ => Err(self.mismatch(index, "blob")),
        }
    }

    fn mismatch(&self, index: usize, wanted: &str) -> StoreError {
        let found = self.columns.get(index).map_or("missing", Value::kind);
        StoreError::Corrupt(format!("column {index} is {found} where {wanted} was expected"))
    }
}
