-- One step of a key's limits: everything that bears on it is looked at first, then all is counted
-- or nothing is. A bucket is a debt of time (GCRA): `limit` units pay off in 60,000 ms, so a bucket
-- is full when a minute is owed. Redis' own clock counts, so that gateways need not agree on one.
--
-- KEYS: requests, tokens, answers under way (sorted by when each is given up for lost)
-- ARGV: requests a minute, tokens a minute, answers at once (0: no limit);
--       requests, tokens and answers to count; whether to refuse; the request's id; ms until lost
-- Returns: which limit refuses (0: none), ms to wait, {left, ms until nothing is owed} of requests
--          and of tokens
local MINUTE = 60000
local clock = redis.call('TIME')
local now = clock[1] * 1000 + clock[2] / 1000
local may_refuse, id, lost_after = ARGV[7] == '1', ARGV[8], tonumber(ARGV[9])
local refused, wait, owed = 0, 0, {}

for at = 1, 2 do
  local limit, count = tonumber(ARGV[at]), tonumber(ARGV[at + 3])
  if limit > 0 then
    local debt = math.max(tonumber(redis.call('GET', KEYS[at]) or now) - now, 0)
    local after = math.max(debt + count * MINUTE / limit, 0)
    -- A millisecond's grace, because what is stored is rounded.
    if may_refuse and after > MINUTE + 1 then
      refused, wait = at, math.max(wait, after - MINUTE)
      after = debt
    end
    owed[at] = after
  end
end

local most, answers = tonumber(ARGV[3]), tonumber(ARGV[6])
if most > 0 then
  redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now)
  if may_refuse and redis.call('ZCARD', KEYS[3]) + answers > most then
    refused, wait = 3, math.max(wait, 1000)
  end
end

if refused == 0 then
  for at = 1, 2 do
    if owed[at] then
      local until_ms = string.format('%.3f', now + owed[at])
      redis.call('SET', KEYS[at], until_ms, 'PX', math.ceil(owed[at]) + 1000)
    end
  end
  if most > 0 then
    for number = 1, math.abs(answers) do
      if answers > 0 then
        redis.call('ZADD', KEYS[3], now + lost_after, id .. ':' .. number)
      else
        redis.call('ZREM', KEYS[3], id .. ':' .. number)
      end
    end
    redis.call('PEXPIRE', KEYS[3], lost_after + 1000)
  end
end

local told = {refused, math.ceil(wait)}
for at = 1, 2 do
  local limit = tonumber(ARGV[at])
  local debt = owed[at] or 0
  told[#told + 1] = math.max(math.floor((MINUTE - debt) * limit / MINUTE + 0.001), 0)
  told[#told + 1] = math.ceil(debt)
end
return told
