//! The scripts of tables with unique values. Those that also write rows are the scripts of other tables with further parts.
//!
//! A marker is a field of a hash: the field is the value, and its content names the row that claims it. A row lists its
//! claims in the field 0xFF, packed: name, value, token, name, and so on.

use crate::protocol::scripts::{
    ADD_ENTRIES, CLEAN, CLEAN_CHANGES, CLEAN_CHECKS, DESCRIBE, DROP, PUT, PUT_NEW, REMOVE,
    REMOVE_CHANGES, REMOVE_CHECKS, SETTLE, SNAPSHOT, Script, TRANSACT, TRANSACT_CHANGES,
    TRANSACT_CHECKS, TRANSACT_OUTCOME, UNDESCRIBE, WRITE, WRITE_CHANGES, WRITE_CHECKS,
};

/// Takes the last argument: the prefix of the keys of markers, then the claims of the row, packed.
const TAKE_CLAIMS: &str = r"
local claims = cmsgpack.unpack(table.remove(ARGV))
";

/// Defines a function that removes the markers of a row, except those that it keeps: values by name.
const RELEASE_MARKERS: &str = r"
local function release(prefix, row, member, kept)
  local held = redis.call('HGET', row, '\255')
  held = held and cmsgpack.unpack(held) or {}
  for i = 1, #held, 3 do
    local set, value = prefix .. held[i], held[i + 1]
    if kept[held[i]] ~= value and redis.call('HGET', set, value) == member then
      redis.call('HDEL', set, value)
    end
  end
end
";

const SET_MARKERS: &str = r"
for i = 2, #claims, 3 do
  local holder = redis.call('HGET', claims[1] .. claims[i], claims[i + 1])
  if holder and holder ~= ARGV[3] then
    return { redis.status_reply('TAKEN'), claims[i], claims[i + 1], holder }
  end
end
local claimed = {}
for i = 2, #claims, 3 do
  redis.call('HSET', claims[1] .. claims[i], claims[i + 1], ARGV[3])
  claimed[claims[i]] = claims[i + 1]
end
if kind == 'hash' then release(claims[1], row, ARGV[3], claimed) end
";

/// Does what `WRITE` does, and claims the unique values of the row. The field with the claims is among the fields to set.
///
/// Also returns `TAKEN` with the name of unique values, a value, and the member of the row set of the row that has its
/// marker.
pub static WRITE_UNIQUE: Script = Script::new(&[
    TAKE_CLAIMS,
    RELEASE_MARKERS,
    WRITE_CHECKS,
    SET_MARKERS,
    WRITE_CHANGES,
]);

/// Puts new rows of a table without indexes, and claims their unique values. A row that is there already, or that claims a
/// value that is taken, is not written; the others are.
///
/// Keys: the table's row set, the catalog entry, the rows. Arguments: the epoch of the catalog entry; the prefix of the keys
/// of markers; `any`, `absent` or `new` (the keys are certain to be unused: no check); the score 0 and the member of the row
/// set of every row, packed; then for each row its fields with their values, packed, and a packed list: milliseconds to
/// live or an empty string, then the claims of the row.
///
/// Returns `STALE` (the catalog entry has changed), `OK`, or for each row `OK`, `CHANGED` (it is there: `any`), the existing
/// row (`absent`), an error, or `TAKEN` as `WRITE_UNIQUE` does.
pub static PUT_UNIQUE: Script = Script::new(&[r"
local call, ok, open = redis.call, redis.status_reply('OK'), cmsgpack.unpack
if call('HGET', KEYS[2], 'epoch') ~= ARGV[1] then return redis.status_reply('STALE') end
local prefix, mode, members = ARGV[2], ARGV[3], { open(ARGV[4]) }
local results, refused, lives, claimed = {}, false, {}, {}
local function claim(own, member)
  for j = 2, #own, 3 do
    local set, value = prefix .. own[j], own[j + 1]
    claimed[set] = claimed[set] or {}
    local holder = claimed[set][value] or call('HGET', set, value)
    if holder and holder ~= member then
      return { redis.status_reply('TAKEN'), own[j], value, holder }
    end
  end
  for j = 2, #own, 3 do claimed[prefix .. own[j]][own[j + 1]] = member end
  return ok
end
for i = 3, #KEYS do
  local own = open(ARGV[2 * i])
  if mode ~= 'new' and call('EXISTS', KEYS[i]) == 1 then
    results[i] = mode == 'any' and redis.status_reply('CHANGED') or redis.pcall('HGETALL', KEYS[i])
  else
    results[i] = claim(own, members[2 * (i - 2)])
  end
  lives[i] = own[1]
  refused = refused or results[i] ~= ok
end
local new, replies = members, ok
if refused then
  new, replies = {}, {}
  for i = 3, #KEYS do
    replies[i - 2] = results[i]
    if results[i] == ok then
      new[#new + 1] = '0'
      new[#new + 1] = members[2 * (i - 2)]
    end
  end
end
if #new > 0 then call('ZADD', KEYS[1], unpack(new)) end
for set, values in pairs(claimed) do
  local pairs_of_set = {}
  for value, member in pairs(values) do
    pairs_of_set[#pairs_of_set + 1] = value
    pairs_of_set[#pairs_of_set + 1] = member
  end
  if #pairs_of_set > 0 then call('HSET', set, unpack(pairs_of_set)) end
end
for i = 3, #KEYS do
  if results[i] == ok then
    call('HSET', KEYS[i], open(ARGV[2 * i - 1]))
    if lives[i] ~= '' then call('PEXPIRE', KEYS[i], lives[i]) end
  end
end
return replies
"]);

/// Does what `REMOVE` does, and removes the markers of the row.
pub static REMOVE_UNIQUE: Script = Script::new(&[
    TAKE_CLAIMS,
    RELEASE_MARKERS,
    REMOVE_CHECKS,
    "release(claims[1], row, ARGV[3], {})\n",
    REMOVE_CHANGES,
]);

/// Does what `CLEAN` does, and removes the markers of an expired row.
pub static CLEAN_UNIQUE: Script = Script::new(&[
    TAKE_CLAIMS,
    RELEASE_MARKERS,
    CLEAN_CHECKS,
    "if over then release(claims[1], row, ARGV[1], {}) end\n",
    CLEAN_CHANGES,
]);

/// Removes a marker of a row that does not list the value. Only for a single server.
///
/// Keys: the hash of the markers, the row. Arguments: the value; what the marker must hold; the name of the unique values.
/// Returns 1 if the marker was removed.
pub static RELEASE: Script = Script::new(&[r"
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
local held = redis.call('HGET', KEYS[2], '\255')
held = held and cmsgpack.unpack(held) or {}
for i = 1, #held, 3 do
  if held[i] == ARGV[3] and held[i + 1] == ARGV[1] then return 0 end
end
return redis.call('HDEL', KEYS[1], ARGV[1])
"]);

const SET_MARKERS_OF_ALL: &str = r"
local freed, taken = {}, { redis.status_reply('TAKEN') }
for i, own in ipairs(rows) do
  own.prefix, own.member = claims[tonumber(ARGV[own.pos])], ARGV[own.pos + 2]
  own.held = own.action ~= '' and list(call('HGET', own.row, '\255')) or {}
  own.claims = own.action == 'put' and list(claims[tables + i]) or {}
  for j = 1, #own.held, 3 do
    local set = own.prefix .. own.held[j]
    freed[set] = freed[set] or {}
    freed[set][own.held[j + 1]] = own.member
  end
end
for i, own in ipairs(rows) do
  for j = 1, #own.claims, 3 do
    local set, value = own.prefix .. own.claims[j], own.claims[j + 1]
    local holder = call('HGET', set, value)
    if holder and holder ~= own.member and (freed[set] or {})[value] ~= holder then
      taken[#taken + 1], taken[#taken + 2] = tostring(i), own.claims[j]
      taken[#taken + 1], taken[#taken + 2] = value, holder
    end
  end
end
if #taken > 1 then return taken end
local claimed = {}
for _, own in ipairs(rows) do
  for j = 1, #own.claims, 3 do
    local set, value = own.prefix .. own.claims[j], own.claims[j + 1]
    call('HSET', set, value, own.member)
    claimed[set] = claimed[set] or {}
    claimed[set][value] = true
  end
end
for _, own in ipairs(rows) do
  for j = 1, #own.held, 3 do
    local set, value = own.prefix .. own.held[j], own.held[j + 1]
    if not (claimed[set] or {})[value] and call('HGET', set, value) == own.member then
      call('HDEL', set, value)
    end
  end
end
";

/// Does what `TRANSACT` does, and claims the unique values of the rows. What the rows give up counts as free.
///
/// The last argument is a packed list: the prefix of the keys of markers of each table, then the claims of each row, packed,
/// or an empty string.
///
/// Also returns `TAKEN`, and for each value that has the marker of another row: the number of the row that claims it, the
/// name of the unique values, the value, and the member of the row set of the other row.
pub static TRANSACT_UNIQUE: Script = Script::new(&[
    TAKE_CLAIMS,
    TRANSACT_OUTCOME,
    TRANSACT_CHECKS,
    SET_MARKERS_OF_ALL,
    TRANSACT_CHANGES,
]);

/// Does what `TRANSACT` does, if an intent is still there. It deletes the intent in any case.
///
/// The last key is the intent.
pub static TRANSACT_INTENT: Script = Script::new(&[
    TRANSACT_OUTCOME,
    "if call('DEL', KEYS[#KEYS]) == 0 then return 'void' end\n",
    TRANSACT_CHECKS,
    TRANSACT_CHANGES,
]);

/// Claims a value in a Cluster: sets a marker that is absent, or that is the one that the caller names.
///
/// Keys: the hash of the markers, the catalog entry. Arguments: the epoch of the catalog entry; the value; the marker; the
/// marker that it may replace, or an empty string. Returns `OK`, `STALE` (the catalog entry has changed), or the other
/// marker.
pub static CLAIM: Script = Script::new(&[r"
if redis.call('HGET', KEYS[2], 'epoch') ~= ARGV[1] then return redis.status_reply('STALE') end
local found = redis.call('HGET', KEYS[1], ARGV[2])
if found and found ~= ARGV[3] and found ~= ARGV[4] then return found end
if found ~= ARGV[3] then redis.call('HSET', KEYS[1], ARGV[2], ARGV[3]) end
return redis.status_reply('OK')
"]);

/// Removes a marker in a Cluster, if it is the one that the caller names.
///
/// Keys: the hash of the markers. Arguments: the value; the marker. Returns 1 if it was removed.
pub static RELEASE_EXACT: Script = Script::new(&[r"
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
"]);

/// Finds out whether the row of a marker lists the value, in a Cluster.
///
/// Keys: the intent of the marker, the row. Arguments: the name of the unique values; the value; `cancel`, or an empty
/// string. Returns the row if it lists the value, `OPEN` if the intent is there, and `FREE` if it is not, or is cancelled
/// now.
pub static INSPECT: Script = Script::new(&[r"
local held = redis.call('HGET', KEYS[2], '\255')
held = held and cmsgpack.unpack(held) or {}
for i = 1, #held, 3 do
  if held[i] == ARGV[1] and held[i + 1] == ARGV[2] then return redis.call('HGETALL', KEYS[2]) end
end
if redis.call('EXISTS', KEYS[1]) == 1 then
  if ARGV[3] ~= 'cancel' then return redis.status_reply('OPEN') end
  redis.call('DEL', KEYS[1])
end
return redis.status_reply('FREE')
"]);

/// Removes all markers of unique values that a table no longer has.
///
/// Keys: the catalog entry, the hashes of the markers. Arguments: the epoch of the catalog entry. Returns 0 if that has
/// changed.
pub static DROP_MARKERS: Script = Script::new(&[r"
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
redis.call('UNLINK', unpack(KEYS, 2))
return 1
"]);

/// All scripts, here and in `scripts`.
static ALL: [&Script; 23] = [
    &WRITE,
    &PUT,
    &PUT_NEW,
    &REMOVE,
    &ADD_ENTRIES,
    &CLEAN,
    &DESCRIBE,
    &UNDESCRIBE,
    &DROP,
    &TRANSACT,
    &SETTLE,
    &SNAPSHOT,
    &WRITE_UNIQUE,
    &PUT_UNIQUE,
    &REMOVE_UNIQUE,
    &CLEAN_UNIQUE,
    &RELEASE,
    &TRANSACT_UNIQUE,
    &TRANSACT_INTENT,
    &CLAIM,
    &RELEASE_EXACT,
    &INSPECT,
    &DROP_MARKERS,
];

/// Computes all digests now: a forked child must not find one half computed.
pub fn compute_digests() {
    for script in ALL {
        script.digest();
    }
}

/// The commands of scripts that write.
const WRITING: [&str; 10] = [
    "DEL", "HDEL", "HSET", "PERSIST", "PEXPIRE", "SADD", "SREM", "UNLINK", "ZADD", "ZREM",
];

/// The command at the line of a script that an error reply names, as in `… script: DIGEST, on @user_script:18.`
pub fn failed_command(text: &str) -> Option<&'static str> {
    let (script, line) = failed_line(text)?;
    let line = script.source().lines().nth(line)?;
    let is_command = |word: &&str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_uppercase());
    line.split('\'').find(is_command)
}

/// Whether the script that an error reply names may have written something before it failed. A reply that names no line
/// of a script says nothing about that.
pub fn may_follow_write(text: &str) -> bool {
    let Some((script, line)) = failed_line(text) else {
        return text.contains("user_script:");
    };
    let mut words = script
        .source()
        .lines()
        .take(line)
        .flat_map(|line| line.split('\''));
    words.any(|word| WRITING.contains(&word))
}

/// The script that an error reply names, and the number of lines before the one that failed.
fn failed_line(text: &str) -> Option<(&'static Script, usize)> {
    let script = ALL.iter().find(|script| text.contains(script.digest()))?;
    let (_, line) = text.rsplit_once("user_script:")?;
    let line = line
        .trim_start()
        .split(|c: char| !c.is_ascii_digit())
        .next();
    Some((script, line?.parse::<usize>().ok()?.checked_sub(1)?))
}
