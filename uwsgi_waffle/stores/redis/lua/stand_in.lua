-- Keeps which epochs this store stands in for; returns {1, its revision, what kept it from being
-- announced or ''}, or {} if there is none.
-- KEYS: meta, raws, revisions, history. ARGV: channel ('' for none), the words of the epochs.
local current = redis.call('HGET', KEYS[1], 'revision')
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not current or not epoch then
  return {}
end
local kept = redis.call('HGET', KEYS[1], 'replaced') or ''
for i = 2, #ARGV do
  -- A word has nothing that a pattern would take otherwise.
  if not string.find(' ' .. kept .. ' ', ' ' .. ARGV[i] .. ' ', 1, true) then
    kept = kept == '' and ARGV[i] or kept .. ' ' .. ARGV[i]
  end
end
redis.call('HSET', KEYS[1], 'replaced', kept)
local mark = redis.call('HGET', KEYS[1], 'mark') or ''
return {1, current, publish(ARGV[1], current, epoch, mark)}
