-- One account: its state, the time, and whether anything was lost. `reserve.lua` goes on from here:
-- which slots are held, which are spent, who goes first. All of it, atomically.
--
-- This is `WindowLog`, with its `WaitQueue` and its `Throttle`, a second time, on the server. They
-- are the specification: a test feeds the same operations to both and compares every answer. Only
-- this script has what a store shared by hosts needs beside it: its clock, and finding out that it
-- forgot. All times and durations but the ttl are seconds of the ledger's clock.
--
-- KEYS[1]  the account's key, the only one that is touched. It expires by itself.
-- ARGV[1]  JSON, the same in every call: durations, speed, ttl (real seconds), windows of the plan.
-- ARGV[2]  JSON: a verb and its arguments; seen (the time in the last answer that the caller had),
--          elapsed (real seconds since then by the caller's clock), time (of tests: this server's).
-- Returns  JSON: [now, the answer].
--
-- cjson reads doubles exactly; it writes 14 digits of them only, hence cmsgpack for the state and
-- %.17g for the answer. In the state `spent`, which may be long, is one string of doubles: it is
-- handed on as it is, and only the times that matter are ever read. Clients are an array because
-- they have an order, which decides between equals.

local FORMAT = 3
local HOUR, DAY, MAX_PAUSE, GROW_AFTER, MAX_GROW_AFTER = 3600, 86400, 60, 5, 160
local OVERDUE, IS_CHECK, LAST_PRIORITY = 2, {[2] = true, [3] = true, [5] = true}, 5
local MIN_START = 0.002 -- real seconds in which no server is elected; to start takes 5 ms
local TOLERANCE = 0.5 -- real seconds by which this clock may seem to be ahead: an answer was slow
local DRIFT = 0.01 -- part by which the clocks of two machines may differ in speed
local abs, floor, ceil, max, min = math.abs, math.floor, math.ceil, math.max, math.min
local huge = math.huge
local null = cjson.null
local concat, format, pack, unpacked = table.concat, string.format, struct.pack, struct.unpack

local settings, operation = cjson.decode(ARGV[1]), cjson.decode(ARGV[2])
local lease, grace, client_lease = settings.lease, settings.grace, settings.client_lease
local silence, speed, windows = settings.silence, settings.speed, settings.windows
local rate, longest, longest_short, shares, most = windows[1], 0, 0, huge, 0
for _, window in ipairs(windows) do
  if window.per < rate.per then rate = window end
  longest, most = max(longest, window.per), max(most, window.limit)
  if window.per < HOUR then
    longest_short, shares = max(longest_short, window.per), min(shares, window.limit - 1)
  end
end
shares = shares < huge and shares or 0

-- The state: what was stored, the time, whether anything was lost in between.

local stored, state = redis.pcall('GET', KEYS[1]), nil
if type(stored) == 'table' then return stored end -- an error, as for a key of another type
if stored then
  local readable
  readable, state = pcall(cmsgpack.unpack, stored)
  if not readable or type(state) ~= 'table' or state.format ~= FORMAT
    or not is_sound(state, lease) then
    return redis.error_reply('CORRUPT state')
  end
end
local found = state ~= nil
-- `burst` and `grow_after` are absent until a 429 has changed them, `lost` until a loss.
state = state or {
  format = FORMAT, clock_offset = 0, last = -huge, silent_until = 0,
  last_was_check = false, held = {}, spent = '', clients = {}, paused_until = 0, pause_set_at = 0,
  pauses = 0, accepted = 0,
}

local server_time, is_test = operation.time, operation.time ~= null
if not is_test then
  local clock = redis.call('TIME')
  server_time = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
end
server_time = server_time * speed
-- A caller that was away for longer remembers nothing that still counts.
local seen, elapsed = operation.seen, operation.elapsed
local remembers = seen ~= null and elapsed <= settings.ttl
local now, last = server_time + state.clock_offset, state.last
local since = now - last -- by this server's clock, set or not
if now < last then
  now = last -- the clock was set back: time stands still, then goes on from here
elseif remembers and now > seen + elapsed * speed + (TOLERANCE + DRIFT * elapsed) * speed then
  now = max(last, seen + elapsed * speed) -- it was set forward: slots must not come back early
end
if now ~= server_time + state.clock_offset then state.clock_offset = now - server_time end
state.last, state.began = now, state.began or now
local wall_offset = server_time - now

-- Everything before `state.lost` may be forgotten.
if not is_test and (since < 0 or since > MIN_START * speed) then
  -- A Redis that was started since may have lost everything, or have gone back to an older
  -- snapshot; one that was elected since may lack the last writes. Both show another run.
  local info = redis.pcall('INFO', 'server')
  local run, uptime
  if type(info) == 'string' then
    run, uptime = info:match('run_id:(%x+)'), tonumber(info:match('uptime_in_seconds:(%d+)'))
    -- A difference of whole seconds: it says 1 of a server that is 50 ms old.
    uptime = uptime and max(0, uptime - 1)
  end
  local started = now - (uptime or 0) * speed
  if not found or (run and state.run ~= run) then
    state.lost = max(state.lost or -huge, started >= last and started or now)
  end
  state.run = run or state.run
end
if remembers and (not found or seen < state.began) then
  state.lost = max(state.lost or -huge, state.began) -- the caller has known another state
end
-- Clients that had shares before the loss may still count on them, and are not known here.
local has_unknown = state.lost ~= nil and state.lost + client_lease > now

local held, spent, clients = state.held, state.spent, state.clients
-- The longest window and the largest limit that any plan had: another client may still need them.
state.horizon, state.most = max(state.horizon or 0, longest), max(state.most or 0, most)
local burst = min(state.burst or rate.limit, rate.limit)
local grow_after = state.grow_after or GROW_AFTER * rate.limit
