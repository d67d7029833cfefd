//! The encoding JSON.

pub(super) mod decode;
pub(super) mod encode;
mod lexer;
pub(super) mod text;
