//! Rare records as JSON, by slog-json.

use std::io;

use slog::{Drain, OwnedKVList, PushFnValue, Record, o};
use slog_json::Json;

use super::stamp::Stamp;

/// Appends one record to `out` as one line.
pub(super) fn write(
    out: &mut Vec<u8>,
    stamp: Stamp,
    record: &Record<'_>,
    values: &OwnedKVList,
) -> io::Result<()> {
    Json::new(out)
        .add_key_value(o!("ts" => format!("{stamp:?}")))
        .add_key_value(o!("level" => record.level().as_str()))
        .add_key_value(o!("msg" => PushFnValue(|record, serializer| serializer.emit(record.msg()))))
        .build()
        .log(record, values)
}
