-- Replaces everything; returns {1, its revision, what kept it from being announced or ''}, or {0, the
-- store's revision} if that is not the expected one, or {} if the store is gone. Redis runs it as a
-- whole and alone.
-- KEYS: meta, raws, revisions, history.
-- ARGV: expected ('' for any), revision, mark, channel ('' for none), how many settings, name
-- and raw of each in turns, then of each entry of the history, oldest first: revision, name, at, and
-- old_raw, new_raw, author, reason, each beginning with '=' if there is one, else ''.
local current = redis.call('HGET', KEYS[1], 'revision')
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not current or not epoch then
  return {}
end
if ARGV[1] ~= '' and ARGV[1] ~= current then
  return {0, current}
end
local refusal = refused({
  {'del', KEYS[2], KEYS[3], KEYS[4]},
  {'hset', KEYS[2], '', ''},
  {'zadd', KEYS[3], '1', ''},
  {'xadd', KEYS[4], '1-0', 'name', ''},
  {'hset', KEYS[1], '', ''},
})
if refusal then
  return refusal
end
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
local revision = ARGV[2]
-- Rows of revision 0 would be newer than nothing.
local score = revision == '0' and '1' or revision
local last = 5 + 2 * tonumber(ARGV[5])
for i = 6, last, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  redis.call('ZADD', KEYS[3], score, ARGV[i])
end
local fields = {'old_raw', 'new_raw', 'author', 'reason'}
local before, number = '', 0
for i = last + 1, #ARGV, 7 do
  local entry = {'name', ARGV[i + 1], 'at', ARGV[i + 2], 'mark', ARGV[3]}
  for place, field in ipairs(fields) do
    local value = ARGV[i + 2 + place]
    if value ~= '' then
      entry[#entry + 1] = field
      entry[#entry + 1] = string.sub(value, 2)
    end
  end
  number = ARGV[i] == before and number + 1 or 0
  before = ARGV[i]
  redis.call('XADD', KEYS[4], before .. '-' .. number, unpack(entry))
end
redis.call('HSET', KEYS[1], 'revision', revision, 'mark', ARGV[3])
return {1, revision, publish(ARGV[4], revision, epoch, ARGV[3])}
