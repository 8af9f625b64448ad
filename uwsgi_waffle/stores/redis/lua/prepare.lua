-- Makes revision and epoch unless they are there. Settings that outlived them stay in force.
-- KEYS: meta, raws, revisions, history. ARGV: epoch.
if redis.call('HEXISTS', KEYS[1], 'revision') == 0 then
  local revision = '0'
  local last = redis.call('ZREVRANGE', KEYS[3], 0, 0, 'WITHSCORES')
  if #last > 0 then
    revision = last[2]
  end
  redis.call('HSET', KEYS[1], 'revision', revision, 'epoch', ARGV[1])
end
return 1
