//! The scripts that Redis executes, each in one step.
//!
//! The keys of a channel `c` are, after the prefix of the setting:
//!
//! * `m:{c}`, a hash: the epoch `e`, the offset `s`, the history of replication `r` of the last publication, the version `v` and
//!   its epoch `w`.
//! * `s:{c}`, a stream: the id of an entry is its offset, its field `d` the encoded publication.
//! * `i:{c}:KEY`, a string: the result of the publication with this idempotency key.
//! * `p:{c}`, a hash: the clients that are present, by `LEASE/CLIENT`.
//!
//! A lease is 16 hexadecimal digits. `leases` is a sorted set, `pk:LEASE` the set of the channels in which a lease has clients.
//! `nodes` is a hash with the description of a node by its lease. `rv` is the stream of revocations.
//!
//! `u:{USER}` is a hash with the connections of a user, by `LEASE/CONNECTION`: the time of the admission in milliseconds and the
//! node. Its field `since` is the time at which there were too many, while there are. `uk:LEASE` is the set of the users with connections of a lease.

/// Publishes. `KEYS`: hash, stream, idempotency key (the hash if there is none). `ARGV`: name for `PUBLISH`, body, size (0: no
/// history), time of the stream, time of the hash, time of the idempotency key (0: none), new epoch, history of replication,
/// version (0: none), its epoch. All times are in milliseconds.
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
  -- Without memory this fails, and nothing is published.
  if key_ttl > 0 then redis.call('SET', KEYS[3], '', 'PX', key_ttl) end
  redis.call('PUBLISH', ARGV[1], '-:' .. ARGV[2])
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

/// Reads. `KEYS`: hash, stream. `ARGV`: new epoch, history of replication, time of the hash, first id, last id, most entries
/// (empty: any number), 1 to read backwards.
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

/// Renews a lease. `KEYS`: the sorted set of leases, by the times at which they expire, the hash of nodes. `ARGV`: lease,
/// milliseconds, description of the node (empty: none). A lease is valid without a description.
///
/// Returns whether the lease was unknown, and leases that have expired.
pub const RENEW_LEASE: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local added = redis.call('ZADD', KEYS[1], string.format('%.0f', now + tonumber(ARGV[2])), ARGV[1])
if ARGV[3] ~= '' then redis.pcall('HSET', KEYS[2], ARGV[1], ARGV[3]) end
return {added, redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, 10)}
";

/// Reads the descriptions of nodes. `KEYS`: the sorted set of leases, the hash of nodes.
///
/// Returns the descriptions whose leases have not expired.
pub const READ_NODES: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local found = {}
for _, lease in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. string.format('%.0f', now), '+inf')) do
  local description = redis.call('HGET', KEYS[2], lease)
  if description then table.insert(found, description) end
end
return found
";

/// Removes the entries of a lease in some channels and of some users, and then its node. `KEYS`: the sorted set of leases, the set of
/// the lease's channels, the hash of nodes, the set of the lease's users. `ARGV`: lease, 1 to do it only if the lease has expired and to announce that the clients have left, prefix.
///
/// Returns 1 if nothing is left.
pub const REAP: &str = r"
if ARGV[2] == '1' then
  local time = redis.call('TIME')
  local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
  if score and tonumber(score) > time[1] * 1000 + math.floor(time[2] / 1000) then return 1 end
end
for _, channel in ipairs(redis.call('SRANDMEMBER', KEYS[2], 20)) do
  local key = ARGV[3] .. 'p:{' .. channel .. '}'
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if string.sub(field, 1, 17) == ARGV[1] .. '/' then
      local info = redis.call('HGET', key, field)
      redis.call('HDEL', key, field)
      if ARGV[2] == '1' then
        redis.call('PUBLISH', ARGV[3] .. 'ch:{' .. channel .. '}', '~0000000000000000:' .. info)
      end
    end
  end
  redis.call('SREM', KEYS[2], channel)
end
for _, user in ipairs(redis.call('SRANDMEMBER', KEYS[4], 20)) do
  local key = ARGV[3] .. 'u:{' .. user .. '}'
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if field == 'since' or string.sub(field, 1, 17) == ARGV[1] .. '/' then redis.call('HDEL', key, field) end
  end
  redis.call('SREM', KEYS[4], user)
end
if redis.call('SCARD', KEYS[2]) + redis.call('SCARD', KEYS[4]) > 0 then return 0 end
redis.pcall('HDEL', KEYS[3], ARGV[1])
redis.call('ZREM', KEYS[1], ARGV[1])
return 1
";

/// Writes clients. `KEYS`: the hash of the channel's clients, the set of the lease's channels, the sorted set of leases. `ARGV`:
/// channel, name for `PUBLISH`, message (empty: none), lease, its milliseconds, then fields and values.
///
/// The lease is added if the server does not know it any more. Otherwise nothing removes the clients if the node ends now. Returns
/// whether that was so.
pub const ADD_PRESENCE: &str = r"
for index = 6, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[index], ARGV[index + 1]) end
redis.call('SADD', KEYS[2], ARGV[1])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local added = redis.call('ZADD', KEYS[3], 'NX', string.format('%.0f', now + tonumber(ARGV[5])), ARGV[4])
if ARGV[3] ~= '' then redis.call('PUBLISH', ARGV[2], ARGV[3]) end
return added
";

/// Removes a client. `KEYS`: the hash of the channel's clients, the set of the lease's channels. `ARGV`: channel, name for
/// `PUBLISH`, message, field, 1 if the node has no other client in the channel.
///
/// The channel stays in the set of the lease if the hash has another client of it, which is not removed yet.
pub const REMOVE_PRESENCE: &str = r"
if redis.call('HDEL', KEYS[1], ARGV[4]) == 1 then redis.call('PUBLISH', ARGV[2], ARGV[3]) end
if ARGV[5] == '1' then
  local lease = string.sub(ARGV[4], 1, 17)
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(field, 1, 17) == lease then return 1 end
  end
  redis.call('SREM', KEYS[2], ARGV[1])
end
return 1
";

/// Writes the connections of a user under a lease, as they are now. `KEYS`: the hash of the user's connections, the set of the
/// lease's users, the sorted set of leases. `ARGV`: user, lease, its milliseconds, node, most connections, 1 if the newest ones above
/// that are closed, prefix, then connections and the milliseconds since their admission.
///
/// Connections of leases that have expired are removed. After its connections to the engine were lost, a node has entries of two
/// leases, which count once: its own ones are all in `ARGV`. Returns whether the lease was added, the connections of the lease that are
/// too many, and, for the newest ones, the milliseconds for which any node has had too many. A node with others that are too many
/// gets a message, and then asks itself. If nothing has changed, it has got one already: two nodes with connections that are too many
/// would otherwise send messages to each other without an end.
pub const WRITE_USER: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local listed = {}
for index = 8, #ARGV, 2 do listed[ARGV[2] .. '/' .. ARGV[index]] = now - tonumber(ARGV[index + 1]) end
local found, seen, gone, holds, since = {}, {}, {}, { [ARGV[2]] = true }, nil
local function count(at, field, node)
  local connection = node .. string.sub(field, 17)
  if seen[connection] then
    seen[connection][1] = math.min(seen[connection][1], at)
  else
    seen[connection] = { at, connection, field, node }
    table.insert(found, seen[connection])
  end
end
local all = redis.call('HGETALL', KEYS[1])
for index = 1, #all, 2 do
  local field, lease = all[index], string.sub(all[index], 1, 16)
  if holds[lease] == nil then
    local score = redis.call('ZSCORE', KEYS[3], lease)
    holds[lease] = score and tonumber(score) > now or false
  end
  local at, node = string.match(all[index + 1], '^(%d+)/(%x+)$')
  if field == 'since' then
    since = all[index + 1]
  elseif not at or not holds[lease] or (lease == ARGV[2] and not listed[field]) then
    table.insert(gone, field)
  elseif lease == ARGV[2] or node ~= ARGV[4] then
    -- The time stays, so that all nodes agree on the order.
    listed[field] = nil
    count(tonumber(at), field, node)
  end
end
local has_changed = #gone > 0 or next(listed) ~= nil
for _, field in ipairs(gone) do redis.call('HDEL', KEYS[1], field) end
for field, at in pairs(listed) do
  redis.call('HSET', KEYS[1], field, string.format('%.0f', at) .. '/' .. ARGV[4])
  count(at, field, ARGV[4])
end
local added = 0
if #ARGV > 7 then
  redis.call('SADD', KEYS[2], ARGV[1])
  added = redis.call('ZADD', KEYS[3], 'NX', string.format('%.0f', now + tonumber(ARGV[3])), ARGV[2])
else
  redis.call('SREM', KEYS[2], ARGV[1])
end
table.sort(found, function(one, other)
  if one[1] ~= other[1] then return one[1] < other[1] end
  return one[2] < other[2]
end)
local first, last = 1, #found - tonumber(ARGV[5])
if ARGV[6] == '1' then first, last = tonumber(ARGV[5]) + 1, #found end
local above = 0
if ARGV[6] == '1' and first <= last then
  local at = tonumber(string.match(since or '', '^%d+$') or '')
  if at and at <= now then
    above = now - at
  else
    redis.call('HSET', KEYS[1], 'since', string.format('%.0f', now))
  end
elseif since then
  redis.call('HDEL', KEYS[1], 'since')
end
local excess, told = {}, {}
for index = first, last do
  local field, node = found[index][3], found[index][4]
  if string.sub(field, 1, 16) == ARGV[2] then
    table.insert(excess, string.sub(field, 18))
  elseif has_changed and not told[node] then
    told[node] = true
    redis.call('PUBLISH', ARGV[7] .. 'n:' .. node, 'u' .. ARGV[1])
  end
end
return {added, excess, above}
";

/// All scripts.
pub const ALL: [&str; 8] =
    [PUBLISH, READ, RENEW_LEASE, READ_NODES, REAP, ADD_PRESENCE, REMOVE_PRESENCE, WRITE_USER];
