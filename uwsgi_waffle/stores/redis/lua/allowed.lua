-- Returns what refuses a change if the user may not run one of its commands on a key, else nil:
-- Redis takes nothing back, so this is asked before the first key is written. Redis 7 can.
local function refused(wanted)
  if not redis.acl_check_cmd then
    return nil
  end
  for _, call in ipairs(wanted) do
    if not redis.acl_check_cmd(unpack(call)) then
      local text = "NOPERM this user has no permissions to run the '" .. call[1] .. "' command"
      return redis.error_reply(text .. " on " .. call[2])
    end
  end
  return nil
end
