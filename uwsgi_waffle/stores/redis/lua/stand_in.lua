-- Keeps which epochs this store stands in for; returns {1, its revision}, or {} if there is none.
-- KEYS: meta, raws, revisions, history. ARGV: the words of the epochs.
local current = redis.call('HGET', KEYS[1], 'revision')
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not current or not epoch then
  return {}
end
local kept = redis.call('HGET', KEYS[1], 'replaced') or ''
for i = 1, #ARGV do
  -- A word has nothing that a pattern would take otherwise.
  if not string.find(' ' .. kept .. ' ', ' ' .. ARGV[i] .. ' ', 1, true) then
    kept = kept == '' and ARGV[i] or kept .. ' ' .. ARGV[i]
  end
end
redis.call('HSET', KEYS[1], 'replaced', kept)
return {1, current}
