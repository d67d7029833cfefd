//! The wire format of Protobuf: fields with numbers, and lengths.

use super::super::Malformed;

/// A position in a message.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

/// The value of a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Value<'a> {
    /// Wire type 0: integers, truth values.
    Varint(u64),
    /// Wire type 2: strings, bytes, messages.
    Bytes(&'a [u8]),
    /// Wire types 1, 3 and 5: no field of the protocol has them.
    Other,
}

impl<'a> Reader<'a> {
    pub(super) fn new(message: &'a [u8]) -> Reader<'a> {
        Reader { rest: message }
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Returns the number of bytes that are left.
    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Reads the next field, or returns `None` at the end of the message.
    ///
    /// # Errors
    /// The message is truncated, or contains a wire type or a number that does not exist.
    pub(super) fn field(&mut self) -> Result<Option<(u32, Value<'a>)>, Malformed> {
        if self.is_at_end() {
            return Ok(None);
        }
        let (number, wire_type) = self.key()?;
        let value = match wire_type {
            0 => Value::Varint(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Other
            }
            2 => Value::Bytes(self.length_delimited()?),
            3 => {
                self.skip_group(number)?;
                Value::Other
            }
            5 => {
                self.take(4)?;
                Value::Other
            }
            _ => return Err(Malformed::Syntax),
        };
        Ok(Some((number, value)))
    }

    /// Reads bytes after their length.
    ///
    /// # Errors
    /// The message is truncated.
    pub(super) fn length_delimited(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.varint()?;
        self.take(usize::try_from(len).map_err(|_| Malformed::Syntax)?)
    }

    /// Reads the number and the wire type of a field.
    fn key(&mut self) -> Result<(u32, u64), Malformed> {
        let key = u32::try_from(self.varint()?).map_err(|_| Malformed::Syntax)?;
        if key < 8 {
            return Err(Malformed::Syntax);
        }
        Ok((key >> 3, u64::from(key & 7)))
    }

    /// Skips a group, a form of messages that newer schemas do not have, after its start. Groups can be inside each other.
    fn skip_group(&mut self, number: u32) -> Result<(), Malformed> {
        let mut open = vec![number];
        while let Some(&innermost) = open.last() {
            let (number, wire_type) = self.key()?;
            match wire_type {
                0 => _ = self.varint()?,
                1 => _ = self.take(8)?,
                2 => _ = self.length_delimited()?,
                3 if open.len() < MAX_GROUPS => open.push(number),
                4 if number == innermost => _ = open.pop(),
                5 => _ = self.take(4)?,
                _ => return Err(Malformed::Syntax),
            }
        }
        Ok(())
    }

    /// Reads an integer of at most 64 bits, in at most ten bytes.
    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(Malformed::Syntax)?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && byte > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::Syntax)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Syntax)?;
        self.rest = rest;
        Ok(taken)
    }
}

impl<'a> Value<'a> {
    /// Returns an integer.
    ///
    /// # Errors
    /// The value has another wire type.
    pub(super) fn varint(self) -> Result<u64, Malformed> {
        match self {
            Value::Varint(value) => Ok(value),
            Value::Bytes(_) | Value::Other => Err(Malformed::Syntax),
        }
    }

    /// Returns bytes.
    ///
    /// # Errors
    /// The value has another wire type.
    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Value::Bytes(value) => Ok(value),
            Value::Varint(_) | Value::Other => Err(Malformed::Syntax),
        }
    }

    /// Returns a string.
    ///
    /// # Errors
    /// The value has another wire type, or is not UTF-8.
    pub(super) fn string(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed::Syntax)
    }
}

/// Appends an integer.
pub(super) fn write_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Returns the number of bytes of an integer.
pub(super) fn varint_len(value: u64) -> usize {
    // One byte for each 7 bits that have begun; 0 has one bit.
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// The highest number of groups inside each other in an unknown field.
const MAX_GROUPS: usize = 100;
