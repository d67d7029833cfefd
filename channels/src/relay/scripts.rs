//! The scripts that Redis executes, each in one step.
//!
//! The keys of a channel `c` are, after the prefix of the setting:
//!
//! * `m:{c}`, a hash: the epoch `e`, the offset `s`, the history of replication `r` of the last publication, the version `v` and its epoch
//!   `w`.
//! * `s:{c}`, a stream: the id of an entry is its offset, its field `d` the encoded publication.
//! * `i:{c}:KEY`, a string: the result of the publication with this idempotency key.

/// Publishes. `KEYS`: hash, stream, idempotency key (the hash if there is none). `ARGV`: name for `PUBLISH`, body, size (0: no
/// history), time of the stream, time of the hash, time of the idempotency key (0: none), new epoch, history of replication, version
/// (0: none), its epoch. All times are in milliseconds.
///
/// Returns the outcome (0 published, 1 duplicate, 2 outdated), the epoch and the offset; both are empty without a position.
pub const PUBLISH: &str = r"
local size, key_ttl = tonumber(ARGV[3]), tonumber(ARGV[6])
if key_ttl > 0 then
  local known = redis.call('GET', KEYS[3])
  if known then
    local e, s = string.match(known, '^(%a+):(%d+)$')
    return {'1', e or '', s or ''}
  end
end
if size == 0 then
  redis.call('PUBLISH', ARGV[1], '-:' .. ARGV[2])
  if key_ttl > 0 then redis.call('SET', KEYS[3], '', 'PX', key_ttl) end
  return {'0', '', ''}
end
local m = redis.call('HMGET', KEYS[1], 'e', 's', 'r', 'v', 'w')
local e, s = m[1], m[2]
if not e or not s then
  e, s = ARGV[7], '0'
  redis.call('DEL', KEYS[2])
elseif ARGV[8] ~= '' and m[3] ~= ARGV[8] then
  e = ARGV[7]
end
if ARGV[9] ~= '0' and m[4] and m[5] == ARGV[10] and tonumber(m[4]) >= tonumber(ARGV[9]) then
  return {'2', e, s}
end
redis.call('HSET', KEYS[1], 'e', e, 's', s, 'r', ARGV[8])
if ARGV[9] ~= '0' then redis.call('HSET', KEYS[1], 'v', ARGV[9], 'w', ARGV[10]) end
s = string.format('%.0f', redis.call('HINCRBY', KEYS[1], 's', 1))
redis.call('PEXPIRE', KEYS[1], ARGV[5])
redis.call('XADD', KEYS[2], 'MAXLEN', size, s .. '-0', 'd', ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
redis.call('PUBLISH', ARGV[1], e .. s .. ':' .. ARGV[2])
if key_ttl > 0 then redis.call('SET', KEYS[3], e .. ':' .. s, 'PX', key_ttl) end
return {'0', e, s}
";

/// Reads. `KEYS`: hash, stream. `ARGV`: new epoch, history of replication, time of the hash, first id, last id, most entries (empty:
/// any number), 1 to read backwards.
///
/// Returns the epoch, the offset and the entries.
pub const READ: &str = r"
local m = redis.call('HMGET', KEYS[1], 'e', 's', 'r')
local e, s = m[1], m[2]
if not e or not s then
  e, s = ARGV[1], '0'
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[1], 'e', e, 's', s, 'r', ARGV[2])
elseif ARGV[2] ~= '' and m[3] ~= ARGV[2] then
  e = ARGV[1]
  redis.call('HSET', KEYS[1], 'e', e, 'r', ARGV[2])
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
local entries = {}
if ARGV[6] ~= '0' then
  local name = 'XRANGE'
  if ARGV[7] == '1' then name = 'XREVRANGE' end
  if ARGV[6] == '' then
    entries = redis.call(name, KEYS[2], ARGV[4], ARGV[5])
  else
    entries = redis.call(name, KEYS[2], ARGV[4], ARGV[5], 'COUNT', ARGV[6])
  end
end
return {e, s, entries}
";
