-- Makes one change; returns {1, its revision, what kept it from being announced or ''}, or {0, the
-- store's revision} if that is not the expected one, or {} if the store is gone. Redis runs it as a
-- whole and alone.
-- KEYS: meta, raws, revisions, history.
-- ARGV: expected ('' for any), how many changes the history keeps, the most it drops at once,
-- channel ('' for none), mark, at, author, reason, then name and raw of each setting in turns, in
-- descending order of names. An author, a reason or a raw begins with '=' if there is one, and is
-- '' if there is none.
local current = redis.call('HGET', KEYS[1], 'revision')
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not current or not epoch then
  return {}
end
if ARGV[1] ~= '' and ARGV[1] ~= current then
  return {0, current}
end
-- Redis takes nothing back: keys of a wrong type must fail before the first one is written.
redis.call('HLEN', KEYS[2])
redis.call('ZCARD', KEYS[3])
redis.call('XLEN', KEYS[4])
local refusal = refused({
  {'xadd', KEYS[4], '1-0', 'name', ''},
  {'hset', KEYS[2], '', ''},
  {'hdel', KEYS[2], ''},
  {'zadd', KEYS[3], '1', ''},
  {'hset', KEYS[1], '', ''},
  {'xtrim', KEYS[4], 'MAXLEN', '1'},
})
if refusal then
  return refusal
end
local revision = string.format('%.0f', tonumber(current) + 1)
for i = 9, #ARGV, 2 do
  local name, raw = ARGV[i], ARGV[i + 1]
  local entry = {'name', name, 'at', ARGV[6], 'mark', ARGV[5]}
  local function add(field, value)
    entry[#entry + 1] = field
    entry[#entry + 1] = value
  end
  local old = redis.call('HGET', KEYS[2], name)
  if old then
    add('old_raw', old)
  end
  if ARGV[7] ~= '' then
    add('author', string.sub(ARGV[7], 2))
  end
  if ARGV[8] ~= '' then
    add('reason', string.sub(ARGV[8], 2))
  end
  if raw ~= '' then
    raw = string.sub(raw, 2)
    add('new_raw', raw)
  end
  -- Newest first means by revision, then by name: within a revision the numbers run backwards.
  redis.call('XADD', KEYS[4], revision .. '-' .. (i - 9) / 2, unpack(entry))
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[2], name)
  else
    redis.call('HSET', KEYS[2], name, raw)
  end
  redis.call('ZADD', KEYS[3], revision, name)
end
redis.call('HSET', KEYS[1], 'revision', revision, 'mark', ARGV[5])
-- The oldest changes over the limit, each of them whole, and a bounded number of them.
local oldest = redis.call('XRANGE', KEYS[4], '-', '+', 'COUNT', 1)[1]
if oldest then
  local first = tonumber(string.match(oldest[1], '^%d+'))
  local last = math.min(tonumber(revision) - tonumber(ARGV[2]), first + tonumber(ARGV[3]) - 1)
  if last >= first then
    local gone = #redis.call('XRANGE', KEYS[4], '-', string.format('%.0f', last))
    redis.call('XTRIM', KEYS[4], 'MAXLEN', redis.call('XLEN', KEYS[4]) - gone)
  end
end
return {1, revision, publish(ARGV[4], revision, epoch, ARGV[5])}
