//! Values of a database, and what the kernel and programs print.

use super::{process, sql_query, systemd_unit};
use hale_hostile::Parser;
use serde_json::json;
use tokio_postgres::types::Type;

/// A column's value: its type by the first byte, then its binary form.
pub(crate) const SQL_VALUE: Parser = Parser {
    name: "sql_value",
    seeds: values,
    feed: value,
};

/// A line of /proc, or what systemctl prints.
pub(crate) const PRINTED: Parser = Parser {
    name: "printed",
    seeds: || {
        vec![
            b"42 (a (b) c) S 1 42 42 0 -1 4194560 9 0 0 0 7 8 0 0 20 0 1 0 12345 0 0".to_vec(),
            b"ActiveState=failed\nSubState=failed\nNRestarts=3\nMainPID=0\n".to_vec(),
        ]
    },
    feed: printed,
};

const TYPES: [Type; 24] = [
    Type::BOOL,
    Type::INT2,
    Type::INT4,
    Type::INT8,
    Type::OID,
    Type::XID,
    Type::FLOAT4,
    Type::FLOAT8,
    Type::NUMERIC,
    Type::JSON,
    Type::JSONB,
    Type::TIMESTAMP,
    Type::TIMESTAMPTZ,
    Type::INTERVAL,
    Type::PG_LSN,
    Type::CHAR,
    Type::VOID,
    Type::TEXT,
    Type::NAME,
    Type::INT4_ARRAY,
    Type::TEXT_ARRAY,
    Type::NUMERIC_ARRAY,
    Type::JSONB_ARRAY,
    Type::INET,
];

fn values() -> Vec<Vec<u8>> {
    let of = |ty: &Type, bytes: &[u8]| {
        let ty = TYPES.iter().position(|t| t == ty).unwrap_or_default() as u8;
        [&[ty], bytes].concat()
    };
    let array = [
        0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 23, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 7, 255,
        255, 255, 255,
    ];
    vec![
        of(&Type::INT8, &7i64.to_be_bytes()),
        of(&Type::FLOAT8, &1.5f64.to_be_bytes()),
        // 12345.678
        of(
            &Type::NUMERIC,
            &[0, 3, 0, 1, 0, 0, 0, 3, 0, 1, 9, 41, 26, 124],
        ),
        of(&Type::JSONB, b"\x01{\"a\":[1,null]}"),
        of(&Type::TIMESTAMPTZ, &823_000_000_000_000i64.to_be_bytes()),
        of(
            &Type::INTERVAL,
            &[0, 0, 0, 0, 0, 15, 66, 64, 0, 0, 0, 2, 0, 0, 0, 1],
        ),
        of(&Type::INT4_ARRAY, &array),
        of(&Type::TEXT, "é".as_bytes()),
    ]
}

fn value(bytes: &[u8]) {
    let Some((ty, raw)) = bytes.split_first() else {
        return;
    };
    let ty = &TYPES[usize::from(*ty) % TYPES.len()];
    let _ = sql_query::read_value(ty, raw);
}

fn printed(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = process::parse(42, &text);
    let _ = systemd_unit::properties(&json!({ "stdout": text }));
    let _ = crate::config::parse_span(&text);
}
