-- Announces a change on a channel ('' for none), as the notifiers do; returns what kept it from
-- that, or ''. What was written stands either way: Redis takes nothing back.
local function publish(channel, revision, epoch, mark)
  if channel == '' then
    return ''
  end
  local notice = {'{"revision":', revision, ',"epoch":', cjson.encode(epoch)}
  notice[#notice + 1] = ',"mark":' .. cjson.encode(mark) .. '}'
  local done = redis.pcall('PUBLISH', channel, table.concat(notice))
  return type(done) == 'table' and done.err or ''
end
