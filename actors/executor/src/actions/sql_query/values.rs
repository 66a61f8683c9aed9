//! Values to and from PostgreSQL: bound in text form, as the server's own types read them; read
//! from the binary form of the types that people query.

use crate::plan::cut;
use hale_model::Timestamp;
use serde_json::{Map, Number, Value, json};
use std::error::Error;
use tokio_postgres::Row;
use tokio_postgres::types::private::BytesMut;
use tokio_postgres::types::{Format, FromSql, IsNull, Kind, ToSql, Type, to_sql_checked};

/// The most rows of a result that are kept.
pub(super) const MAX_ROWS: usize = 1000;
/// The most bytes of a result that are kept.
pub(super) const MAX_RESULT_BYTES: usize = 256 << 10;
/// Milliseconds from 1970 to 2000, where PostgreSQL counts from.
const EPOCH_2000_MS: i64 = 946_684_800_000;

/// A value of a playbook as a query's parameter.
#[derive(Debug)]
pub(super) struct Bound<'a>(pub(super) &'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match in_text(self.0, ty) {
            None => Ok(IsNull::Yes),
            Some(text) => {
                out.extend_from_slice(text.as_bytes());
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    to_sql_checked!();
}

fn in_text(value: &Value, ty: &Type) -> Option<String> {
    if matches!(*ty, Type::JSON | Type::JSONB) {
        return Some(value.to_string());
    }
    let is_whole = matches!(*ty, Type::INT2 | Type::INT4 | Type::INT8 | Type::OID);
    Some(match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        Value::Bool(b) => b.to_string(),
        Value::Number(n) => match n.as_f64() {
            // `3.0` is no integer to the server.
            Some(f) if is_whole && f.fract() == 0.0 && f.abs() < 9e15 => format!("{f:.0}"),
            _ => n.to_string(),
        },
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(array_item).collect();
            format!("{{{}}}", items.join(","))
        }
        Value::Object(_) => value.to_string(),
    })
}

fn array_item(value: &Value) -> String {
    let text = match value {
        Value::Null => return "NULL".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The rows as JSON objects, within the bounds, and whether anything was left out.
pub(super) fn rows(rows: &[Row]) -> Result<(Vec<Value>, bool), String> {
    let mut out = vec![];
    let mut bytes = 0;
    for row in rows.iter().take(MAX_ROWS) {
        let mut object = Map::new();
        for (i, column) in row.columns().iter().enumerate() {
            let read: Option<Read> = row.try_get(i).map_err(|e| {
                let (name, ty) = (column.name(), column.type_());
                let why = e.source().map_or_else(String::new, |s| format!(": {s}"));
                format!("column `{name}` of type {ty} can't be read{why}; cast it in the query: `{name}::text`")
            })?;
            object.insert(column.name().to_owned(), read.map_or(Value::Null, |r| r.0));
        }
        let row = Value::Object(object);
        bytes += row.to_string().len();
        if bytes > MAX_RESULT_BYTES {
            return Ok((out, true));
        }
        out.push(row);
    }
    let is_cut = rows.len() > out.len();
    Ok((out, is_cut))
}

struct Read(Value);

pub(crate) type Reading = Result<Value, Box<dyn Error + Sync + Send>>;

impl<'a> FromSql<'a> for Read {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        read(ty, raw).map(Self)
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A value in its binary form.
pub(crate) fn read(ty: &Type, raw: &[u8]) -> Reading {
    Ok(match *ty {
        Type::BOOL => json!(bool::from_sql(ty, raw)?),
        Type::INT2 => json!(i16::from_sql(ty, raw)?),
        Type::INT4 => json!(i32::from_sql(ty, raw)?),
        Type::INT8 => json!(i64::from_sql(ty, raw)?),
        Type::OID => json!(u32::from_sql(ty, raw)?),
        Type::XID | Type::CID => json!(be(raw)?),
        Type::FLOAT4 => float(f64::from(f32::from_sql(ty, raw)?)),
        Type::FLOAT8 => float(f64::from_sql(ty, raw)?),
        Type::NUMERIC => numeric(raw)?,
        Type::JSON => serde_json::from_slice(raw)?,
        // The binary form begins with its version.
        Type::JSONB => serde_json::from_slice(raw.get(1..).unwrap_or_default())?,
        Type::TIMESTAMP | Type::TIMESTAMPTZ => {
            let micros = i64::from_sql(&Type::INT8, raw)?;
            json!(Timestamp::from_millis(
                EPOCH_2000_MS.saturating_add(micros / 1000)
            ))
        }
        Type::INTERVAL => {
            let micros = i64::from_sql(&Type::INT8, raw.get(..8).unwrap_or_default())?;
            let days = be(raw.get(8..12).unwrap_or_default())? as u32 as i32;
            let months = be(raw.get(12..16).unwrap_or_default())? as u32 as i32;
            // Seconds, a month being 30 days, as extract(epoch from …) has it.
            float(
                micros as f64 / 1e6 + f64::from(days) * 86_400.0 + f64::from(months) * 2_592_000.0,
            )
        }
        Type::PG_LSN => {
            let n = be(raw)?;
            json!(format!("{:X}/{:X}", n >> 32, n & 0xffff_ffff))
        }
        Type::CHAR => json!(String::from_utf8_lossy(raw)),
        Type::VOID => Value::Null,
        _ => other(ty, raw)?,
    })
}

fn other(ty: &Type, raw: &[u8]) -> Reading {
    match ty.kind() {
        Kind::Array(_) if !has_as_many_as_it_says(raw) => Err("it is cut short".into()),
        Kind::Array(_) => {
            let items = Vec::<Option<Read>>::from_sql(ty, raw)?;
            Ok(items
                .into_iter()
                .map(|i| i.map_or(Value::Null, |r| r.0))
                .collect())
        }
        Kind::Enum(_) => Ok(json!(String::from_utf8_lossy(raw))),
        Kind::Domain(inner) => read(inner, raw),
        _ if <String as FromSql>::accepts(ty) => Ok(json!(String::from_sql(ty, raw)?)),
        _ => Err("its type is not known here".into()),
    }
}

/// Whether an array's items can be there: each takes four bytes at least. Room is made for as many
/// as it says before they are read. Its head: dimensions, a flag, the items' type, how many there
/// are, where they begin (`array_send` in arrayfuncs.c).
fn has_as_many_as_it_says(raw: &[u8]) -> bool {
    let word = |at: usize| be(raw.get(at..at + 4).unwrap_or_default()).unwrap_or(0);
    let most = raw.len().saturating_sub(20) as u64 / 4;
    // Of more dimensions than one it is refused anyway.
    word(0) != 1 || word(12) <= most
}

fn be(raw: &[u8]) -> Result<u64, Box<dyn Error + Sync + Send>> {
    match raw.len() {
        1..=8 => Ok(raw.iter().fold(0, |n, b| n << 8 | u64::from(*b))),
        _ => Err("it has an unexpected length".into()),
    }
}

fn float(f: f64) -> Value {
    Number::from_f64(f).map_or_else(|| json!(f.to_string()), Value::Number)
}

/// The binary form of `numeric`: digits to the base of 10,000 (`numeric_send` in numeric.c).
fn numeric(raw: &[u8]) -> Reading {
    let word = |i: usize| {
        raw.get(i * 2..i * 2 + 2)
            .map(|b| u16::from_be_bytes([b[0], b[1]]))
    };
    let head = (word(0), word(1), word(2), word(3));
    let (Some(count), Some(weight), Some(sign), Some(scale)) = head else {
        return Err("it has an unexpected length".into());
    };
    let weight = i32::from(weight as i16);
    let sign = match sign {
        0x0000 => "",
        0x4000 => "-",
        0xC000 => return Ok(json!("NaN")),
        0xD000 => return Ok(json!("Infinity")),
        _ => return Ok(json!("-Infinity")),
    };
    let digit = |place: i32| match usize::try_from(weight - place) {
        Ok(i) if i < usize::from(count) => word(4 + i).unwrap_or(0),
        _ => 0,
    };
    let mut text = String::new();
    for place in (0..=weight.max(0)).rev() {
        text.push_str(&format!("{:04}", digit(place)));
    }
    let whole = text.trim_start_matches('0');
    let mut text = format!("{sign}{}", if whole.is_empty() { "0" } else { whole });
    if scale > 0 {
        let places = i32::from(scale).div_euclid(4) + 1;
        let fraction: String = (1..=places).map(|p| format!("{:04}", digit(-p))).collect();
        text.push('.');
        text.push_str(&fraction[..usize::from(scale).min(fraction.len())]);
    }
    let number = if scale == 0 {
        text.parse::<i64>().ok().map(Value::from)
    } else {
        None
    };
    Ok(number
        .or_else(|| text.parse().ok().map(float))
        .unwrap_or_else(|| json!(text)))
}

/// What the server said, in its own words where it spoke.
pub(super) fn in_words(error: &tokio_postgres::Error) -> String {
    let text = match error.as_db_error() {
        Some(db) => format!("{} ({})", db.message(), db.code().code()),
        None => {
            let cause = error
                .source()
                .map_or_else(String::new, |s| format!(": {s}"));
            format!("{error}{cause}")
        }
    };
    cut(&text, 500)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_bound_as_the_parameter_s_type_reads_them() {
        let cases = [
            (json!(3.0), Type::INT8, Some("3")),
            (json!(3.5), Type::FLOAT8, Some("3.5")),
            (json!(true), Type::BOOL, Some("true")),
            (json!(null), Type::TEXT, None),
            (
                json!("a'; DROP TABLE x; --"),
                Type::TEXT,
                Some("a'; DROP TABLE x; --"),
            ),
            (
                json!(["a\"b", "c,d", null]),
                Type::TEXT_ARRAY,
                Some("{\"a\\\"b\",\"c,d\",NULL}"),
            ),
            (json!({"a": 1}), Type::JSONB, Some("{\"a\":1}")),
        ];
        for (value, ty, text) in cases {
            assert_eq!(in_text(&value, &ty).as_deref(), text, "{value}");
        }
    }

    #[test]
    fn an_array_that_says_it_has_more_items_than_bytes_is_refused_before_there_is_room_for_them() {
        let head = |items: u32| {
            let words = [1, 0, 23, items, 1].map(u32::to_be_bytes);
            words.concat()
        };
        let one = [head(1), [0, 0, 0, 4, 0, 0, 0, 7].to_vec()].concat();
        assert_eq!(read(&Type::INT4_ARRAY, &one).unwrap(), json!([7]));
        assert_eq!(read(&Type::INT4_ARRAY, &head(0)).unwrap(), json!([]));
        for items in [2, 3, i32::MAX as u32, u32::MAX] {
            let lie = [head(items), [0, 0, 0, 4, 0, 0, 0, 7].to_vec()].concat();
            assert!(read(&Type::INT4_ARRAY, &lie).is_err(), "{items}");
        }
    }

    #[test]
    fn short_or_odd_bytes_are_an_error_and_never_a_panic() {
        let all = [
            Type::BOOL,
            Type::INT4,
            Type::NUMERIC,
            Type::JSONB,
            Type::TIMESTAMP,
            Type::INTERVAL,
            Type::PG_LSN,
            Type::TEXT_ARRAY,
            Type::XID,
            Type::POINT,
        ];
        for ty in all {
            for len in 0..12 {
                let _ = read(&ty, &vec![0xff; len]);
            }
        }
    }
}
