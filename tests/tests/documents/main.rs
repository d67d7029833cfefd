//! README.md and the other documents: their commands, links, settings, metrics, codes and log records are correct.

mod channels;
mod codes;
mod commands;
mod links;
mod operation;
mod security;
mod settings;
