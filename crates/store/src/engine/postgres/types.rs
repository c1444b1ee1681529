//! Our values as PostgreSQL's types. It infers the type of each parameter and converts nothing by itself.

use bytes::BytesMut;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::super::{Row, Value, value};
use crate::StoreError;

/// Whether the values fit the types that PostgreSQL inferred for the parameters.
pub(super) fn check(inferred: &[Type], args: &[Value]) -> Result<(), StoreError> {
    value::check_count(inferred.len(), args)?;
    for (at, (ty, arg)) in inferred.iter().zip(args).enumerate() {
        if !fits(ty, arg) {
            let (number, kind, cast) = (at + 1, arg.kind(), cast_for(arg));
            return Err(StoreError::Query(format!(
                "parameter ${number} is inferred as {ty} where a {kind} is given: write CAST(${number} AS {cast})"
            )));
        }
    }
    Ok(())
}

fn fits(ty: &Type, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Int(_) => *ty == Type::INT8,
        Value::Text(_) => is_text(ty),
        Value::Blob(_) => *ty == Type::BYTEA,
    }
}

fn is_text(ty: &Type) -> bool {
    [Type::TEXT, Type::VARCHAR, Type::BPCHAR, Type::NAME, Type::UNKNOWN].contains(ty)
}

fn cast_for(value: &Value) -> &'static str {
    match value {
        Value::Int(_) => "BIGINT",
        Value::Blob(_) => "BYTEA",
        Value::Text(_) | Value::Null => "TEXT",
    }
}

impl ToSql for Value {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Text(text) => text.to_sql(ty, out),
            Self::Int(int) => int.to_sql(ty, out),
            Self::Blob(bytes) => bytes.to_sql(ty, out),
        }
    }

    /// [`check`] has judged before, with a better message; a `NULL` fits every type.
    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

pub(super) fn row_of(row: &tokio_postgres::Row) -> Result<Row, StoreError> {
    row.columns()
        .iter()
        .enumerate()
        .map(|(at, column)| column_of(row, at, column.type_()))
        .collect::<Result<_, _>>()
        .map(Row::new)
}

fn column_of(row: &tokio_postgres::Row, at: usize, ty: &Type) -> Result<Value, StoreError> {
    let value = if is_text(ty) {
        row.try_get::<_, Option<String>>(at).map(Value::from)
    } else if *ty == Type::INT8 {
        row.try_get::<_, Option<i64>>(at).map(Value::from)
    } else if *ty == Type::INT4 {
        row.try_get::<_, Option<i32>>(at).map(|int| int.map(i64::from).into())
    } else if *ty == Type::BOOL {
        // As SQLite has it.
        row.try_get::<_, Option<bool>>(at).map(|truth| truth.map(i64::from).into())
    } else if *ty == Type::BYTEA {
        row.try_get::<_, Option<Vec<u8>>>(at).map(Value::from)
    } else {
        return Err(StoreError::Query(format!("column {at} has the type {ty}: cast it to BIGINT or TEXT")));
    };
    value.map_err(|_| StoreError::Corrupt(format!("column {at} cannot be read as {ty}")))
}
