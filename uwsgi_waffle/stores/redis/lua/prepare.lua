-- Makes revision and epoch unless they are there. Settings that outlived them stay in force.
-- KEYS: meta, raws, revisions, history. ARGV: epoch, mark.
if redis.call('HEXISTS', KEYS[1], 'revision') == 0 then
  local revision = '0'
  local mark = ''
  local last = redis.call('ZREVRANGE', KEYS[3], 0, 0, 'WITHSCORES')
  if #last > 0 then
    revision, mark = last[2], ARGV[2]
  end
  redis.call('HSET', KEYS[1], 'revision', revision, 'epoch', ARGV[1], 'mark', mark)
end
return 1
