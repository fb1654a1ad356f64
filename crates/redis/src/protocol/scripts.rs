//! The Lua scripts that change several keys atomically.
//!
//! Each script first checks that the table's catalog entry is the one that the caller knows, and that all keys that it
//! will write have the right type. So it fails before its first write, or not at all. A script never converts the value of
//! an attribute to a number. It passes strings to commands, never numbers, because the server would have to format them.
//!
//! No script reads a key again that it may have deleted. While a slot of a Cluster migrates, the server treats a missing
//! key as one that has migrated already, and would stop the script halfway. So a row that replaces another is never
//! deleted in between, and index entries are added before old ones are removed.

use std::sync::OnceLock;

/// A script, with the digest that servers know it by.
#[derive(Debug)]
pub struct Script {
    parts: &'static [&'static str],
    source: OnceLock<String>,
    digest: OnceLock<String>,
}

impl Script {
    /// The script of these parts. Several scripts may share a part.
    pub(super) const fn new(parts: &'static [&'static str]) -> Self {
        Self {
            parts,
            source: OnceLock::new(),
            digest: OnceLock::new(),
        }
    }

    pub fn source(&self) -> &str {
        self.source.get_or_init(|| self.parts.concat())
    }

    /// The digest that servers know it by.
    pub fn digest(&self) -> &str {
        self.digest
            .get_or_init(|| sha1_smol::Sha1::from(self.source()).digest().to_string())
    }
}

/// Writes a row: unconditionally, only if there is none, or only if the stored row has not changed.
///
/// Keys: the row, the table's row set, the catalog entry. Arguments: the epoch of the catalog entry; `any`, `absent` or
/// `same`; the row's member of the row set; milliseconds to live, or an empty string; the prefix of the keys of the index
/// sets; the row's index entries, packed (index, member, …), or an empty string; the number of fields that the stored row
/// must have, and these with their values; the number of fields to remove, and these; the fields to set, with their
/// values.
///
/// Returns `OK`, `STALE` (the catalog entry has changed), `CHANGED` (the row has changed), or the existing row.
pub static WRITE: Script = Script::new(&[WRITE_CHECKS, WRITE_CHANGES]);

pub(super) const WRITE_CHECKS: &str = r"
local row, order, mode, base = KEYS[1], KEYS[2], ARGV[2], ARGV[5]
if redis.call('HGET', KEYS[3], 'epoch') ~= ARGV[1] then return redis.status_reply('STALE') end
local pos = 8
local kind = redis.call('TYPE', row).ok
if kind ~= 'none' and kind ~= 'hash' then return redis.call('HLEN', row) end
if mode == 'absent' then
  if kind ~= 'none' then return redis.call('HGETALL', row) end
elseif mode == 'same' then
  local count = tonumber(ARGV[7])
  if redis.call('HLEN', row) ~= count then return redis.status_reply('CHANGED') end
  for i = pos, pos + 2 * count - 1, 2 do
    if redis.call('HGET', row, ARGV[i]) ~= ARGV[i + 1] then return redis.status_reply('CHANGED') end
  end
  pos = pos + 2 * count
end
local new = ARGV[6] ~= '' and cmsgpack.unpack(ARGV[6]) or {}
for i = 1, #new, 2 do
  local set = redis.call('TYPE', base .. new[i]).ok
  if set ~= 'none' and set ~= 'zset' then return redis.call('ZCARD', base .. new[i]) end
end
";

pub(super) const WRITE_CHANGES: &str = r"
redis.call('ZADD', order, '0', ARGV[3])
local old = kind == 'hash' and redis.call('HGET', row, '')
local removed = tonumber(ARGV[pos])
for i = pos + 1, pos + removed do redis.call('HDEL', row, ARGV[i]) end
pos = pos + removed + 1
for from = pos, #ARGV, 1000 do
  redis.call('HSET', row, unpack(ARGV, from, math.min(from + 999, #ARGV)))
end
local kept = {}
if ARGV[6] ~= '' then
  redis.call('HSET', row, '', ARGV[6])
  for i = 1, #new, 2 do
    redis.call('ZADD', base .. new[i], '0', new[i + 1])
    kept[new[i]] = new[i + 1]
  end
elseif mode == 'same' then
  redis.call('HDEL', row, '')
end
if old and old ~= ARGV[6] then
  old = cmsgpack.unpack(old)
  for i = 1, #old, 2 do
    if kept[old[i]] ~= old[i + 1] then redis.call('ZREM', base .. old[i], old[i + 1]) end
  end
end
if mode == 'any' and kind == 'hash' then
  local wanted = (#ARGV - pos + 1) / 2
  if ARGV[6] ~= '' then wanted = wanted + 1 end
  if redis.call('HLEN', row) ~= wanted then
    local known = { [''] = ARGV[6] ~= '' }
    for i = pos, #ARGV, 2 do known[ARGV[i]] = true end
    for _, name in ipairs(redis.call('HKEYS', row)) do
      if not known[name] then redis.call('HDEL', row, name) end
    end
  end
end
if ARGV[4] ~= '' then redis.call('PEXPIRE', row, ARGV[4])
elseif kind == 'hash' then redis.call('PERSIST', row) end
return redis.status_reply('OK')
";

/// Puts rows of a table without indexes. Several in one call cost little more than one.
///
/// Keys: the table's row set, the catalog entry, the rows. Arguments: the epoch of the catalog entry; then for each row
/// `any`, `absent` or `new` (its key is certain to be unused: no check), its member of the row set, milliseconds to live
/// or an empty string, the number of arguments that follow, and these: its fields with their values.
///
/// Returns `STALE` (the catalog entry has changed), or for each row `OK`, an error, or the existing row. For a single row
/// that is new, the most frequent case, it returns `OK` itself.
pub static PUT: Script = Script::new(&[r"
local call, ok = redis.call, redis.status_reply('OK')
if call('HGET', KEYS[2], 'epoch') ~= ARGV[1] then return redis.status_reply('STALE') end
if #KEYS == 3 and #ARGV < 1000 and call('EXISTS', KEYS[3]) == 0 then
  call('ZADD', KEYS[1], '0', ARGV[3])
  call('HSET', KEYS[3], unpack(ARGV, 6))
  if ARGV[4] ~= '' then call('PEXPIRE', KEYS[3], ARGV[4]) end
  return ok
end
local results, positions, existing, members, pos = {}, {}, {}, {}, 2
for i = 3, #KEYS do
  local row, mode = KEYS[i], ARGV[pos]
  local found = mode ~= 'new' and call('EXISTS', row) == 1
    and redis.pcall(mode == 'absent' and 'HGETALL' or 'HLEN', row)
  if type(found) == 'table' then
    results[i - 2] = found
  else
    results[i - 2], positions[i], existing[i] = ok, pos, found
    members[#members + 1] = '0'
    members[#members + 1] = ARGV[pos + 1]
  end
  pos = pos + 4 + ARGV[pos + 3]
end
if #members > 0 then call('ZADD', KEYS[1], unpack(members)) end
for i = 3, #KEYS do
  pos = positions[i]
  if pos then
    local row, ttl, found = KEYS[i], ARGV[pos + 2], existing[i]
    local first = pos + 4
    local last = first + ARGV[pos + 3] - 1
    for from = first, last, 1000 do
      call('HSET', row, unpack(ARGV, from, math.min(from + 999, last)))
    end
    if found and call('HLEN', row) ~= (last - first + 1) / 2 then
      local known = {}
      for j = first, last, 2 do known[ARGV[j]] = true end
      for _, name in ipairs(call('HKEYS', row)) do
        if not known[name] then call('HDEL', row, name) end
      end
    end
    if ttl ~= '' then call('PEXPIRE', row, ttl) elseif found then call('PERSIST', row) end
  end
end
return results
"]);

/// Puts new rows that do not expire, of a table without indexes. The fields of a row are one packed argument, which costs
/// the server less than an argument for each.
///
/// Keys: the table's row set, the catalog entry, the rows. Arguments: the epoch of the catalog entry; `absent` or `new`
/// (the keys are certain to be unused: no check); the score 0 and the member of the row set of every row, packed; then for
/// each row its fields with their values, packed. Returns what `PUT` returns, or a single `OK` for all rows.
pub static PUT_NEW: Script = Script::new(&[r"
local call, ok, open, found = redis.call, redis.status_reply('OK'), cmsgpack.unpack, {}
if call('HGET', KEYS[2], 'epoch') ~= ARGV[1] then return redis.status_reply('STALE') end
if ARGV[2] ~= 'new' then
  for i = 3, #KEYS do
    if call('EXISTS', KEYS[i]) == 1 then found[i] = redis.pcall('HGETALL', KEYS[i]) end
  end
end
if next(found) == nil then
  call('ZADD', KEYS[1], open(ARGV[3]))
  for i = 3, #KEYS do call('HSET', KEYS[i], open(ARGV[i + 1])) end
  return ok
end
local all, members, results = { open(ARGV[3]) }, {}, {}
for i = 3, #KEYS do
  results[i - 2] = found[i] or ok
  if not found[i] then
    members[#members + 1] = '0'
    members[#members + 1] = all[2 * (i - 2)]
  end
end
if #members > 0 then call('ZADD', KEYS[1], unpack(members)) end
for i = 3, #KEYS do
  if not found[i] then call('HSET', KEYS[i], open(ARGV[i + 1])) end
end
return results
"]);

/// Deletes a row with its index entries: unconditionally, or only if the stored row has not changed.
///
/// Keys: the row, the table's row set, the catalog entry. Arguments: the epoch of the catalog entry; `any` or `same`; the
/// row's member of the row set; the prefix of the keys of the index sets; the number of fields that the stored row must
/// have, and these with their values. Returns `OK`, `STALE` or `CHANGED`.
pub static REMOVE: Script = Script::new(&[REMOVE_CHECKS, REMOVE_CHANGES]);

pub(super) const REMOVE_CHECKS: &str = r"
local row, base = KEYS[1], ARGV[4]
if redis.call('HGET', KEYS[3], 'epoch') ~= ARGV[1] then return redis.status_reply('STALE') end
local old = redis.call('HGET', row, '')
if ARGV[2] == 'same' then
  local count = tonumber(ARGV[5])
  if redis.call('HLEN', row) ~= count then return redis.status_reply('CHANGED') end
  for i = 6, 5 + 2 * count, 2 do
    if redis.call('HGET', row, ARGV[i]) ~= ARGV[i + 1] then return redis.status_reply('CHANGED') end
  end
end
";

pub(super) const REMOVE_CHANGES: &str = r"
redis.call('ZREM', KEYS[2], ARGV[3])
if old then
  old = cmsgpack.unpack(old)
  for i = 1, #old, 2 do redis.call('ZREM', base .. old[i], old[i + 1]) end
end
redis.call('DEL', row)
return redis.status_reply('OK')
";

/// Removes what a deleted or expired row has left in the row set and in the index sets.
///
/// Keys: the row, the table's row set. Arguments: the row's member of the row set; the prefix of the keys of the index
/// sets; an index or an empty string, and the member that was found there; the attribute with the expiry or an empty
/// string, and the value that has expired.
pub static CLEAN: Script = Script::new(&[CLEAN_CHECKS, CLEAN_CHANGES]);

pub(super) const CLEAN_CHECKS: &str = r"
local row, base, index, member = KEYS[1], ARGV[2], ARGV[3], ARGV[4]
local old = redis.call('HGET', row, '')
old = old and cmsgpack.unpack(old) or {}
local there = redis.call('EXISTS', row) == 1
local over = there and ARGV[5] ~= '' and redis.call('HGET', row, ARGV[5]) == ARGV[6]
for i = 1, #old, 2 do
  if old[i] == index and old[i + 1] == member then
    if not over then return 0 end
    index = ''
  end
end
";

pub(super) const CLEAN_CHANGES: &str = r"
if index ~= '' then redis.call('ZREM', base .. index, member) end
if over or not there then redis.call('ZREM', KEYS[2], ARGV[1]) end
if over then
  for i = 1, #old, 2 do redis.call('ZREM', base .. old[i], old[i + 1]) end
  redis.call('DEL', row)
end
return 1
";

/// Replaces the catalog entry that the caller knows.
///
/// Keys: the catalog entry; the set of the names of tables, if the entry is of a whole table. Arguments: the epoch that it
/// must have, or an empty string if there must be none; the name of the table; the fields to set, with their values. Returns `OK`, or `STALE` (it has changed).
pub static DESCRIBE: Script = Script::new(&[r"
if (redis.call('HGET', KEYS[1], 'epoch') or '') ~= ARGV[1] then return redis.status_reply('STALE') end
redis.call('HSET', KEYS[1], unpack(ARGV, 3))
if KEYS[2] then redis.call('SADD', KEYS[2], ARGV[2]) end
return redis.status_reply('OK')
"]);

/// Adds existing rows to the indexes of their table, and notes in the catalog entry how far that has come. A row that has
/// changed since it was read is left out: it was written by a process that knows the indexes. An error halfway does no harm:
/// the build begins again at these rows.
///
/// Keys: the catalog entry, the rows. Arguments: the epoch of the catalog entry; the last member of the row set that was
/// read; the prefix of the keys of the index sets; the names of the attributes that were read, packed; then for each row
/// the values that it must have, packed, an empty string for one that is absent, and its index entries, packed. Returns
/// `OK`, or `STALE` (the catalog entry has changed).
pub static ADD_ENTRIES: Script = Script::new(&[r"
local call, open = redis.call, cmsgpack.unpack
if call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return redis.status_reply('STALE') end
local base, names = ARGV[3], open(ARGV[4])
for i = 1, (#ARGV - 4) / 2 do
  local row, wanted, entries = KEYS[i + 1], open(ARGV[3 + 2 * i]), ARGV[4 + 2 * i]
  local found, is_same = call('HMGET', row, unpack(names)), true
  for j = 1, #names do is_same = is_same and (found[j] or '') == wanted[j] end
  if is_same then
    local new = open(entries)
    for j = 1, #new, 2 do call('ZADD', base .. new[j], '0', new[j + 1]) end
    call('HSET', row, '', entries)
  end
end
call('HSET', KEYS[1], 'built', ARGV[2])
return redis.status_reply('OK')
"]);

/// Deletes the catalog entry of a whole table in a Cluster.
///
/// Keys: the catalog entry, the set of the names of tables. Argument: the name of the table.
pub static UNDESCRIBE: Script = Script::new(&[r"
redis.call('SREM', KEYS[2], ARGV[1])
return redis.call('DEL', KEYS[1])
"]);

/// Deletes some rows of a table that is deleted, and everything else once there are no more rows.
///
/// Keys: the table's row set, the catalog entry, the index sets and the hashes of markers, then rows; last the set of the
/// names of tables, if it has the table because of this catalog entry. Arguments: the number of the index sets and hashes;
/// the name of the table; the members of the rows. Returns 1 when the table is gone.
pub static DROP: Script = Script::new(&[r"
local sets = tonumber(ARGV[1])
for i = 3, #ARGV do
  redis.call('UNLINK', KEYS[sets + i])
  redis.call('ZREM', KEYS[1], ARGV[i])
end
if redis.call('ZCARD', KEYS[1]) > 0 then return 0 end
redis.call('UNLINK', unpack(KEYS, 1, sets + 2))
if #KEYS > sets + #ARGV then redis.call('SREM', KEYS[#KEYS], ARGV[2]) end
return 1
"]);

/// Writes several rows, of one table or of several, if none of them has changed: all or none.
///
/// The marker is a hash that lives longer than the request. With it the call can be sent again: the first copy that reaches
/// the server decides, and later ones return what became of it. The marker is new, so that no copy is carried out while a
/// slot of a Cluster migrates: the server replies `TRYAGAIN`.
///
/// Keys: the marker; the catalog entry and the row set of each table; the rows. Arguments: the milliseconds that the marker
/// lives; the number of tables; for each of them the epoch of its catalog entry and the prefix of the keys of its index
/// sets; then for each row eight arguments: the number of its table; `put`, `delete`, or an empty string for a row that is
/// only compared; its member of the row set; milliseconds to live, or an empty string; its index entries, packed, or an
/// empty string; the fields that the stored row must have, with their values, packed, or `none` if there must be no row, or
/// an empty string if any row is right; the fields to remove, packed, or an empty string; the fields to set, with their
/// values, packed.
///
/// Returns `OK`, `STALE` (a catalog entry has changed), the number of a row that has changed, or the outcome of an earlier
/// copy: `done` or `void`.
pub static TRANSACT: Script = Script::new(&[TRANSACT_OUTCOME, TRANSACT_CHECKS, TRANSACT_CHANGES]);

pub(super) const TRANSACT_OUTCOME: &str = r"
local call, open = redis.call, cmsgpack.unpack
local outcome = call('HGET', KEYS[1], 'outcome')
if outcome then return outcome end
";

pub(super) const TRANSACT_CHECKS: &str = r"
local none = {}
local function list(text) return text and text ~= '' and open(text) or none end
local tables, first = tonumber(ARGV[2]), 2 + 2 * ARGV[2]
for i = 1, tables do
  if call('HGET', KEYS[2 * i], 'epoch') ~= ARGV[2 * i + 1] then return redis.status_reply('STALE') end
  local kind = call('TYPE', KEYS[2 * i + 1]).ok
  if kind ~= 'none' and kind ~= 'zset' then return call('ZCARD', KEYS[2 * i + 1]) end
end
local rows = {}
for i = 1, (#ARGV - first) / 8 do
  local row, pos = KEYS[first + i - 1], first + 8 * i - 7
  local base, action, expected = ARGV[2 * ARGV[pos] + 2], ARGV[pos + 1], ARGV[pos + 5]
  local exists, old = call('EXISTS', row) == 1, none
  if exists then
    if expected == 'none' then return i end
    if call('TYPE', row).ok ~= 'hash' then return call('HLEN', row) end
    if action ~= '' then old = list(call('HGET', row, '')) end
  end
  if expected ~= '' and expected ~= 'none' then
    expected = open(expected)
    if call('HLEN', row) * 2 ~= #expected then return i end
    for j = 1, #expected, 2 do
      if call('HGET', row, expected[j]) ~= expected[j + 1] then return i end
    end
  end
  local new = list(ARGV[pos + 4])
  for _, entries in ipairs({ old, new }) do
    for j = 1, #entries, 2 do
      local set = base .. entries[j]
      local found = call('TYPE', set).ok
      if found ~= 'none' and found ~= 'zset' then return call('ZCARD', set) end
    end
  end
  rows[i] = { row = row, pos = pos, base = base, action = action, exists = exists, old = old, new = new }
end
";

pub(super) const TRANSACT_CHANGES: &str = r"
local members = {}
for _, own in ipairs(rows) do
  if own.action == 'put' then
    local order = KEYS[2 * ARGV[own.pos] + 1]
    local added = members[order] or {}
    members[order], added[#added + 1], added[#added + 2] = added, '0', ARGV[own.pos + 2]
  end
end
for order, added in pairs(members) do call('ZADD', order, unpack(added)) end
for _, own in ipairs(rows) do
  local row, pos, base, old, new = own.row, own.pos, own.base, own.old, own.new
  if own.action == 'delete' then
    call('ZREM', KEYS[2 * ARGV[pos] + 1], ARGV[pos + 2])
    for j = 1, #old, 2 do call('ZREM', base .. old[j], old[j + 1]) end
    call('DEL', row)
  elseif own.action == 'put' then
    for _, name in ipairs(list(ARGV[pos + 6])) do call('HDEL', row, name) end
    local fields, kept = list(ARGV[pos + 7]), {}
    for from = 1, #fields, 1000 do
      call('HSET', row, unpack(fields, from, math.min(from + 999, #fields)))
    end
    if #new > 0 then
      call('HSET', row, '', ARGV[pos + 4])
      for j = 1, #new, 2 do
        call('ZADD', base .. new[j], '0', new[j + 1])
        kept[new[j]] = new[j + 1]
      end
    elseif #old > 0 then
      call('HDEL', row, '')
    end
    for j = 1, #old, 2 do
      if kept[old[j]] ~= old[j + 1] then call('ZREM', base .. old[j], old[j + 1]) end
    end
    if own.exists and ARGV[pos + 5] == '' then
      local known = { [''] = #new > 0 }
      for j = 1, #fields, 2 do known[fields[j]] = true end
      for _, name in ipairs(call('HKEYS', row)) do
        if not known[name] then call('HDEL', row, name) end
      end
    end
    if ARGV[pos + 3] ~= '' then call('PEXPIRE', row, ARGV[pos + 3])
    elseif own.exists then call('PERSIST', row) end
  end
end
call('HSET', KEYS[1], 'outcome', 'done')
call('PEXPIRE', KEYS[1], ARGV[1])
return redis.status_reply('OK')
";

/// Finds out what became of a call of `TRANSACT`. If it has not been carried out, it never will be.
///
/// Keys: the marker. Arguments: the milliseconds that the marker lives. Returns `done` or `void`.
pub static SETTLE: Script = Script::new(&[r"
local outcome = redis.call('HGET', KEYS[1], 'outcome')
if outcome then return outcome end
redis.call('HSET', KEYS[1], 'outcome', 'void')
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 'void'
"]);

/// Reads several rows, of one table or of several, at one moment.
///
/// Keys: the catalog entry of each table, the rows. Arguments: the epochs of the catalog entries, empty for one that is not
/// there. Returns `STALE` (a catalog entry has changed), or the fields of each row with their values.
pub static SNAPSHOT: Script = Script::new(&[r"
for i = 1, #ARGV do
  if (redis.call('HGET', KEYS[i], 'epoch') or '') ~= ARGV[i] then return redis.status_reply('STALE') end
end
local rows = {}
for i = #ARGV + 1, #KEYS do rows[i - #ARGV] = redis.call('HGETALL', KEYS[i]) end
return rows
"]);
