-- Returns revision, epoch, 1 if complete else 0, then name and raw (false if reset) in turns.
-- KEYS: meta, raws, revisions. ARGV: since, epoch.
local meta = redis.call('HMGET', KEYS[1], 'revision', 'epoch')
local revision, epoch = meta[1], meta[2]
if not revision or not epoch then
  return {}
end
local since = tonumber(ARGV[1])
local complete = since == 0 or ARGV[2] ~= epoch or since > tonumber(revision)
local reply = {revision, epoch, complete and 1 or 0}
if complete then
  local raws = redis.call('HGETALL', KEYS[2])
  for i = 1, #raws do
    reply[#reply + 1] = raws[i]
  end
elseif since < tonumber(revision) then
  local names = redis.call('ZRANGEBYSCORE', KEYS[3], '(' .. ARGV[1], '+inf')
  for i = 1, #names do
    reply[#reply + 1] = names[i]
    reply[#reply + 1] = redis.call('HGET', KEYS[2], names[i])
  end
end
return reply
