//! The scripts that change several keys in one atomic step.
//!
//! Every one first looks whether the table's catalog is still the one that the caller knows, and
//! whether all it will write to is of the right type, so that it either fails before its first write
//! or not at all. No value of an item is ever turned into a number here, and no number handed to a command:
//! a text costs the server less than a number that it has to format.
//!
//! No script looks at a key again that it may have emptied: while a slot of a Cluster moves, the server
//! takes a key that is not there for one that has moved already, and would break the script off halfway.
//! So a row that is put over another is never deleted in between, and entries are added before old ones go.

use std::sync::OnceLock;

/// A script and its name on the server.
#[derive(Debug)]
pub struct Script {
    text: &'static str,
    digest: OnceLock<String>,
}

impl Script {
    const fn new(text: &'static str) -> Self {
        Self {
            text,
            digest: OnceLock::new(),
        }
    }

    /// The script itself.
    pub const fn text(&self) -> &'static str {
        self.text
    }

    /// What the server knows it by.
    pub fn digest(&self) -> &str {
        self.digest
            .get_or_init(|| sha1_smol::Sha1::from(self.text).digest().to_string())
    }
}

/// Puts a row whole, over another or only if there is none, or swaps one that has not changed.
///
/// Keys: the row, the table's order, the catalog. Arguments: the catalog's epoch; `any`, `absent` or
/// `same`; the row's member of the order; milliseconds to live or nothing; the start of the names of
/// the index sets; the row's index entries, packed (index, member, …), or nothing; the number of
/// fields the stored row must have, and these with their values; the number of fields to remove, and
/// these; the fields to set with their values.
///
/// Answers `OK`, `STALE` (another catalog), `MOVED` (the row is not the same), or the row in the way.
pub static WRITE: Script = Script::new(
    r"
local row, order, mode, base = KEYS[1], KEYS[2], ARGV[2], ARGV[5]
if redis.call('HGET', KEYS[3], 'epoch') ~= ARGV[1] then return redis.status_reply('STALE') end
local place = 8
local kind = redis.call('TYPE', row).ok
if kind ~= 'none' and kind ~= 'hash' then return redis.call('HLEN', row) end
if mode == 'absent' then
  if kind ~= 'none' then return redis.call('HGETALL', row) end
elseif mode == 'same' then
  local count = tonumber(ARGV[7])
  if redis.call('HLEN', row) ~= count then return redis.status_reply('MOVED') end
  for i = place, place + 2 * count - 1, 2 do
    if redis.call('HGET', row, ARGV[i]) ~= ARGV[i + 1] then return redis.status_reply('MOVED') end
  end
  place = place + 2 * count
end
local new = ARGV[6] ~= '' and cmsgpack.unpack(ARGV[6]) or {}
for i = 1, #new, 2 do
  local set = redis.call('TYPE', base .. new[i]).ok
  if set ~= 'none' and set ~= 'zset' then return redis.call('ZCARD', base .. new[i]) end
end
redis.call('ZADD', order, '0', ARGV[3])
local old = kind == 'hash' and redis.call('HGET', row, '')
local gone = tonumber(ARGV[place])
for i = place + 1, place + gone do redis.call('HDEL', row, ARGV[i]) end
place = place + gone + 1
for from = place, #ARGV, 1000 do
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
  local wanted = (#ARGV - place + 1) / 2
  if ARGV[6] ~= '' then wanted = wanted + 1 end
  if redis.call('HLEN', row) ~= wanted then
    local known = { [''] = ARGV[6] ~= '' }
    for i = place, #ARGV, 2 do known[ARGV[i]] = true end
    for _, name in ipairs(redis.call('HKEYS', row)) do
      if not known[name] then redis.call('HDEL', row, name) end
    end
  end
end
if ARGV[4] ~= '' then redis.call('PEXPIRE', row, ARGV[4])
elseif kind == 'hash' then redis.call('PERSIST', row) end
return redis.status_reply('OK')
",
);

/// Puts rows whole, of a table without indexes: several in one step cost little more than one.
///
/// Keys: the table's order, the catalog, the rows. Arguments: the catalog's epoch; then for each row
/// `any`, `absent` or `new` (it cannot be there, so nobody looks), its member of the order, milliseconds
/// to live or nothing, the number of arguments that follow, and these: its fields with their values.
///
/// Answers `STALE` (another catalog), or for each row `OK`, an error, or the row in the way; for a lone
/// row that is new, which is the most frequent, `OK` itself.
pub static PUT: Script = Script::new(
    r"
local call, ok = redis.call, redis.status_reply('OK')
if call('HGET', KEYS[2], 'epoch') ~= ARGV[1] then return redis.status_reply('STALE') end
if #KEYS == 3 and #ARGV < 1000 and call('EXISTS', KEYS[3]) == 0 then
  call('ZADD', KEYS[1], '0', ARGV[3])
  call('HSET', KEYS[3], unpack(ARGV, 6))
  if ARGV[4] ~= '' then call('PEXPIRE', KEYS[3], ARGV[4]) end
  return ok
end
local answers, places, stood, members, place = {}, {}, {}, {}, 2
for i = 3, #KEYS do
  local row, mode = KEYS[i], ARGV[place]
  local met = mode ~= 'new' and call('EXISTS', row) == 1
    and redis.pcall(mode == 'absent' and 'HGETALL' or 'HLEN', row)
  if type(met) == 'table' then
    answers[i - 2] = met
  else
    answers[i - 2], places[i], stood[i] = ok, place, met
    members[#members + 1] = '0'
    members[#members + 1] = ARGV[place + 1]
  end
  place = place + 4 + ARGV[place + 3]
end
if #members > 0 then call('ZADD', KEYS[1], unpack(members)) end
for i = 3, #KEYS do
  place = places[i]
  if place then
    local row, life, met = KEYS[i], ARGV[place + 2], stood[i]
    local first = place + 4
    local last = first + ARGV[place + 3] - 1
    for from = first, last, 1000 do
      call('HSET', row, unpack(ARGV, from, math.min(from + 999, last)))
    end
    if met and call('HLEN', row) ~= (last - first + 1) / 2 then
      local known = {}
      for j = first, last, 2 do known[ARGV[j]] = true end
      for _, name in ipairs(call('HKEYS', row)) do
        if not known[name] then call('HDEL', row, name) end
      end
    end
    if life ~= '' then call('PEXPIRE', row, life) elseif met then call('PERSIST', row) end
  end
end
return answers
",
);

/// Puts new rows without an end, of a table without indexes: what belongs to a row comes packed, which costs
/// the server less than arguments of their own.
///
/// Keys: the table's order, the catalog, the rows. Arguments: the catalog's epoch; `absent` or `new` (it
/// cannot be there, so nobody looks); the score 0 and the member of the order of every row, packed; then for each
/// row its fields with their values, packed. Answers as the script above, or one `OK` if that is the answer for
/// every row.
pub static PUT_NEW: Script = Script::new(
    r"
local call, ok, open, met = redis.call, redis.status_reply('OK'), cmsgpack.unpack, {}
if call('HGET', KEYS[2], 'epoch') ~= ARGV[1] then return redis.status_reply('STALE') end
if ARGV[2] ~= 'new' then
  for i = 3, #KEYS do
    if call('EXISTS', KEYS[i]) == 1 then met[i] = redis.pcall('HGETALL', KEYS[i]) end
  end
end
if next(met) == nil then
  call('ZADD', KEYS[1], open(ARGV[3]))
  for i = 3, #KEYS do call('HSET', KEYS[i], open(ARGV[i + 1])) end
  return ok
end
local all, members, answers = { open(ARGV[3]) }, {}, {}
for i = 3, #KEYS do
  answers[i - 2] = met[i] or ok
  if not met[i] then
    members[#members + 1] = '0'
    members[#members + 1] = all[2 * (i - 2)]
  end
end
if #members > 0 then call('ZADD', KEYS[1], unpack(members)) end
for i = 3, #KEYS do
  if not met[i] then call('HSET', KEYS[i], open(ARGV[i + 1])) end
end
return answers
",
);

/// Removes a row with all its entries, whatever it is or only if it has not changed.
///
/// Keys: the row, the table's order, the catalog. Arguments: the catalog's epoch; `any` or `same`;
/// the row's member of the order; the start of the names of the index sets; the number of fields the
/// stored row must have, and these with their values. Answers `OK`, `STALE` or `MOVED`.
pub static REMOVE: Script = Script::new(
    r"
local row, base = KEYS[1], ARGV[4]
if redis.call('HGET', KEYS[3], 'epoch') ~= ARGV[1] then return redis.status_reply('STALE') end
local old = redis.call('HGET', row, '')
if ARGV[2] == 'same' then
  local count = tonumber(ARGV[5])
  if redis.call('HLEN', row) ~= count then return redis.status_reply('MOVED') end
  for i = 6, 5 + 2 * count, 2 do
    if redis.call('HGET', row, ARGV[i]) ~= ARGV[i + 1] then return redis.status_reply('MOVED') end
  end
end
redis.call('ZREM', KEYS[2], ARGV[3])
if old then
  old = cmsgpack.unpack(old)
  for i = 1, #old, 2 do redis.call('ZREM', base .. old[i], old[i + 1]) end
end
redis.call('DEL', row)
return redis.status_reply('OK')
",
);

/// Clears what a row that is gone or has expired left in the orders.
///
/// Keys: the row, the table's order. Arguments: the row's member of the order; the start of the names
/// of the index sets; an index or nothing, and the member found there; the attribute of expiry or
/// nothing, and the value that was judged as expired.
pub static CLEAN: Script = Script::new(
    r"
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
if index ~= '' then redis.call('ZREM', base .. index, member) end
if over or not there then redis.call('ZREM', KEYS[2], ARGV[1]) end
if over then
  for i = 1, #old, 2 do redis.call('ZREM', base .. old[i], old[i + 1]) end
  redis.call('DEL', row)
end
return 1
",
);

/// Puts a catalog in the place of the one that the caller knows.
///
/// Keys: the catalog. Arguments: the epoch it must have, or nothing if there must be none; the fields
/// to set with their values. Answers `OK` or `MOVED`.
pub static DESCRIBE: Script = Script::new(
    r"
if (redis.call('HGET', KEYS[1], 'epoch') or '') ~= ARGV[1] then return redis.status_reply('MOVED') end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return redis.status_reply('OK')
",
);

/// Removes some rows of a table that is dropped, and all that is left once no row is there.
///
/// Keys: the table's order, the catalog, the index sets, then rows. Arguments: the number of index
/// sets; the members of the rows. Answers 1 when the table is gone.
pub static DROP: Script = Script::new(
    r"
local sets = tonumber(ARGV[1])
for i = 2, #ARGV do
  redis.call('UNLINK', KEYS[sets + i + 1])
  redis.call('ZREM', KEYS[1], ARGV[i])
end
if redis.call('ZCARD', KEYS[1]) > 0 then return 0 end
redis.call('UNLINK', unpack(KEYS, 1, sets + 2))
return 1
",
);

/// Computes all names now: a child of a fork must not find one half computed.
pub fn prepare() {
    for script in [&WRITE, &PUT, &PUT_NEW, &REMOVE, &CLEAN, &DESCRIBE, &DROP] {
        script.digest();
    }
}
