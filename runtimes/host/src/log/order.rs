//! Key-values in the order in which they were written.

use std::fmt;

use slog::{KV, Key, Record, Serializer};

/// Key-values that a function serialises, in its order.
pub(super) struct InOrder<F>(pub(super) F);

impl<F: Fn(&mut dyn Serializer) -> slog::Result> KV for InOrder<F> {
    fn serialize(&self, _: &Record<'_>, serializer: &mut dyn Serializer) -> slog::Result {
        (self.0)(serializer)
    }
}

/// Key-values set down to be serialised the other way round: slog's macros hand over the last one first.
#[derive(Default)]
pub(super) struct Reversed(Vec<(Key, Value)>);

impl KV for Reversed {
    fn serialize(&self, _: &Record<'_>, serializer: &mut dyn Serializer) -> slog::Result {
        self.0.iter().rev().try_for_each(|(key, value)| match value {
            Value::None => serializer.emit_none(key),
            Value::Bool(value) => serializer.emit_bool(key, *value),
            Value::Unsigned(value) => serializer.emit_u64(key, *value),
            Value::Signed(value) => serializer.emit_i64(key, *value),
            Value::Float(value) => serializer.emit_f64(key, *value),
            Value::Text(value) => serializer.emit_str(key, value),
        })
    }
}

/// Numbers of 128 bits that do not fit into 64 become text: few readers of JSON have such numbers.
impl Serializer for Reversed {
    fn emit_arguments(&mut self, key: Key, value: &fmt::Arguments<'_>) -> slog::Result {
        self.0.push((key, Value::Text(value.to_string())));
        Ok(())
    }

    fn emit_none(&mut self, key: Key) -> slog::Result {
        self.0.push((key, Value::None));
        Ok(())
    }

    fn emit_bool(&mut self, key: Key, value: bool) -> slog::Result {
        self.0.push((key, Value::Bool(value)));
        Ok(())
    }

    fn emit_u8(&mut self, key: Key, value: u8) -> slog::Result {
        self.emit_u64(key, value.into())
    }

    fn emit_u16(&mut self, key: Key, value: u16) -> slog::Result {
        self.emit_u64(key, value.into())
    }

    fn emit_u32(&mut self, key: Key, value: u32) -> slog::Result {
        self.emit_u64(key, value.into())
    }

    fn emit_u64(&mut self, key: Key, value: u64) -> slog::Result {
        self.0.push((key, Value::Unsigned(value)));
        Ok(())
    }

    fn emit_usize(&mut self, key: Key, value: usize) -> slog::Result {
        // No platform has a usize of more than 64 bits.
        self.emit_u64(key, u64::try_from(value).unwrap_or(u64::MAX))
    }

    fn emit_i8(&mut self, key: Key, value: i8) -> slog::Result {
        self.emit_i64(key, value.into())
    }

    fn emit_i16(&mut self, key: Key, value: i16) -> slog::Result {
        self.emit_i64(key, value.into())
    }

    fn emit_i32(&mut self, key: Key, value: i32) -> slog::Result {
        self.emit_i64(key, value.into())
    }

    fn emit_i64(&mut self, key: Key, value: i64) -> slog::Result {
        self.0.push((key, Value::Signed(value)));
        Ok(())
    }

    fn emit_isize(&mut self, key: Key, value: isize) -> slog::Result {
        // No platform has an isize of more than 64 bits.
        self.emit_i64(key, i64::try_from(value).unwrap_or(i64::MAX))
    }

    fn emit_u128(&mut self, key: Key, value: u128) -> slog::Result {
        match u64::try_from(value) {
            Ok(value) => self.emit_u64(key, value),
            Err(_) => self.emit_arguments(key, &format_args!("{value}")),
        }
    }

    fn emit_i128(&mut self, key: Key, value: i128) -> slog::Result {
        match i64::try_from(value) {
            Ok(value) => self.emit_i64(key, value),
            Err(_) => self.emit_arguments(key, &format_args!("{value}")),
        }
    }

    fn emit_f32(&mut self, key: Key, value: f32) -> slog::Result {
        self.emit_f64(key, value.into())
    }

    fn emit_f64(&mut self, key: Key, value: f64) -> slog::Result {
        self.0.push((key, Value::Float(value)));
        Ok(())
    }
}

enum Value {
    None,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(String),
}
