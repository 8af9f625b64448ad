-- Returns revision, epoch, mark, 1 if complete else 0, then name and raw (false if reset) in turns.
-- KEYS: meta, raws, revisions, history. ARGV: since, epoch, mark.
local meta = redis.call('HMGET', KEYS[1], 'revision', 'epoch', 'mark')
local revision, epoch, mark = meta[1], meta[2], meta[3] or ''
if not revision or not epoch then
  return {}
end
-- Whether the history has this mark at this revision: if not, the revision came back with other
-- content, or nobody knows any more what it had.
local function known()
  if ARGV[2] ~= epoch or ARGV[3] == '' then
    return false
  end
  if ARGV[1] == revision then
    return ARGV[3] == mark
  end
  if tonumber(ARGV[1]) > tonumber(revision) then
    return false
  end
  local entry = redis.call('XRANGE', KEYS[4], ARGV[1], ARGV[1], 'COUNT', 1)[1]
  if entry then
    for i = 1, #entry[2], 2 do
      if entry[2][i] == 'mark' then
        return entry[2][i + 1] == ARGV[3]
      end
    end
  end
  return false
end
local complete = ARGV[1] == '0' or not known()
local reply = {revision, epoch, mark, complete and 1 or 0}
if complete then
  local raws = redis.call('HGETALL', KEYS[2])
  for i = 1, #raws do
    reply[#reply + 1] = raws[i]
  end
elseif ARGV[1] ~= revision then
  local names = redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. ARGV[1], '+inf')
  for i = 1, #names do
    reply[#reply + 1] = names[i]
    reply[#reply + 1] = redis.call('HGET', KEYS[2], names[i])
  end
end
return reply
