-- One account: which slots are held, which are spent, who goes first. All of it, atomically.
--
-- This is `WindowLog` of window_log.py, with its `WaitQueue` and its `Throttle`, a second time, on
-- the server. They are the specification: a test feeds the same operations to both and compares
-- every answer. Only this script has what a store shared by hosts needs beside it: its clock, and
-- finding out that it forgot.
--
-- KEYS[1]  the account's key, the only one that is touched. It expires by itself.
-- ARGV[1]  doubles, the same in every call: lease, grace, client_lease, silence, speed, ttl (real
--          seconds), and limit, per, aligned (0 or 1) of each window. All times and durations but
--          the ttl are seconds of the ledger's clock.
-- ARGV[2]  doubles: seen (the time in the last answer that the caller had; NaN if none), elapsed
--          (real seconds since then by the caller's clock), time (replaces this server's clock in
--          tests; else NaN).
-- ARGV[3]  JSON: the operation.
-- Returns  JSON: [now, the answer].
--
-- Operations are JSON because cjson reads doubles exactly; it writes 14 digits of them only, hence
-- cmsgpack for the state and %.17g for the answer. In the state `spent`, which may be long, is one
-- string of doubles: it is handed on as it is, and only the times that matter are ever read. Clients
-- are an array because they have an order, which decides between equals.

local FORMAT = 3
local HOUR, DAY, MAX_PAUSE, GROW_AFTER, MAX_GROW_AFTER = 3600, 86400, 60, 5, 160
local OVERDUE, IS_CHECK, LAST_PRIORITY = 2, {[2] = true, [3] = true, [5] = true}, 5
local MIN_START = 0.002 -- real seconds in which no server is elected; to start takes 5 ms
local TOLERANCE = 0.5 -- real seconds by which this clock may seem to be ahead: an answer was slow
local DRIFT = 0.01 -- part by which the clocks of two machines may differ in speed
local floor, max, min, huge = math.floor, math.max, math.min, math.huge
local concat, format, pack, unpacked = table.concat, string.format, struct.pack, struct.unpack

local lease, grace, client_lease, silence, speed, ttl, offset = unpacked('<dddddd', ARGV[1])
local seen, elapsed, time = unpacked('<ddd', ARGV[2])
local windows, rate, longest, longest_short, tightest = {}, nil, 0, 0, huge
while offset <= #ARGV[1] do
  local limit, per, aligned
  limit, per, aligned, offset = unpacked('<ddd', ARGV[1], offset)
  local window = {limit = limit, per = per, aligned = aligned == 1}
  windows[#windows + 1] = window
  if not rate or per < rate.per then rate = window end
  longest = max(longest, per)
  if per < HOUR then longest_short, tightest = max(longest_short, per), min(tightest, limit) end
end
local shares = tightest < huge and tightest - 1 or 0
local interval = rate.per / rate.limit

-- The state: what was stored, the time, whether anything was lost in between.

local stored, state = redis.pcall('GET', KEYS[1]), nil
if type(stored) == 'table' then return stored end -- an error, as for a key of another type
if stored then
  local readable
  readable, state = pcall(cmsgpack.unpack, stored)
  if not readable or type(state) ~= 'table' or state.format ~= FORMAT
    or type(state.held) ~= 'table' or type(state.clients) ~= 'table'
    or type(state.spent) ~= 'string' or #state.spent % 8 > 0 or type(state.last) ~= 'number'
    or type(state.clock_offset) ~= 'number' or type(state.began) ~= 'number' then
    return redis.error_reply('CORRUPT state')
  end
end
local found = state ~= nil
-- What is absent: last_call, silent_until, paused_until, pause_set_at, lost (never), burst and
-- grow_after (not changed by a 429 so far), last_was_check, run.
state = state or {
  format = FORMAT, clock_offset = 0, last = -huge,
  held = {}, spent = '', clients = {}, pauses = 0, accepted = 0,
}

local is_test, server_time = time == time, time
if not is_test then
  local clock = redis.call('TIME')
  server_time = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
end
server_time = server_time * speed
-- A caller that was away for longer remembers nothing that still counts.
local remembers = seen == seen and elapsed <= ttl
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
  if not found then
    state.lost = started
  elseif run and state.run ~= run then
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
local paused_until, pause_set_at = state.paused_until or -huge, state.pause_set_at or -huge
local burst = min(state.burst or rate.limit, rate.limit)
local grow_after = state.grow_after or GROW_AFTER * rate.limit

-- Answers.

local function seconds(value)
  local text = format('%.17g', value)
  return text:find('[.e]') and text or text .. '.0'
end

local function list(parts)
  return '[' .. concat(parts, ',') .. ']'
end

-- The wait queue. The order of things, and of every sum, is that of the Python code.

local function find(entries, column, value)
  for index = 1, #entries do
    if entries[index][column] == value then return entries[index], index end
  end
end

local function drop(entries, column, value)
  local _, index = find(entries, column, value)
  return index and table.remove(entries, index)
end

local function requests(client)
  if client.ends <= now then return {} end
  if not client.claimed then return client.waiting end
  local all = {client.claimed}
  for index, waiting in ipairs(client.waiting) do all[index + 1] = waiting end
  return all
end

local function report(name, workload, ends)
  local client = find(clients, 'name', name)
  if not client then
    client = {name = name, share = 0, claim = '', ends = 0}
    clients[#clients + 1] = client
  end
  client.seen_at, client.ends, client.text = now, max(client.ends, ends), workload.text
  client.waiting = {}
  for index, one in ipairs(workload.waiting) do
    client.waiting[index] = {one.priority, one.count, now - one.oldest, now - one.newest}
  end
  local others = -client.share
  for _, other in ipairs(clients) do others = others + other.share end
  local fair = max(1, floor(shares / #clients))
  client.share = has_unknown and 0 or max(0, min(fair, shares - others))
end

local function since_when(claim)
  local since = now - claim.waited
  local client = find(clients, 'name', claim.client)
  if client and client.claim == claim.id and client.claimed
    and client.claimed[1] == claim.priority then
    return min(since, client.claimed[3])
  end
  return since
end

local function withdraw(id, name)
  local client = find(clients, 'name', name)
  if client and client.claim == id then client.claim, client.claimed = '', nil end
end

local function rank(priority)
  return priority == OVERDUE and not state.last_was_check and -1 or priority
end

local function requests_before(since, count, first, last, ties)
  if last < since or (ties and last == since) then return count end
  if first > since or (first == since and not ties) then return 0 end
  if last == first then return count end
  return max(1, floor(count * (since - first) / (last - first)))
end

local function position_of(claim)
  local since, own, before, is_first = since_when(claim), rank(claim.priority), 0, false
  for _, other in ipairs(clients) do
    if other.name == claim.client then
      is_first = true
    else
      for _, one in ipairs(requests(other)) do
        if one[1] == claim.priority then
          before = before + requests_before(since, one[2], one[3], one[4], not is_first)
        elseif rank(one[1]) < own then
          before = before + one[2]
        end
      end
    end
  end
  return before
end

-- The count.

local function answered()
  return #spent / 8
end

local function response(index)
  return (unpacked('<d', spent, index * 8 - 7))
end

local function record(at, count)
  if count <= 0 then return end
  local before = answered()
  while before > 0 and response(before) > at do before = before - 1 end
  spent = spent:sub(1, before * 8) .. pack('<d', at):rep(count) .. spent:sub(before * 8 + 1)
end

local function back_at(window, at)
  if not window.aligned then return at + window.per end
  return (floor((at + wall_offset) / window.per) + 1) * window.per - wall_offset
end

-- What was in flight when the count was lost may arrive until its lease is over; and what was sent
-- by shares is reported within the silence. Until a window later there may be no room.
local function lost_until(window)
  if not state.lost or window.per > HOUR then return -huge end
  return back_at(window, state.lost + max(lease, silence))
end

local function gone(window)
  local low, high = 1, answered() + 1
  while low < high do
    local middle = floor((low + high) / 2)
    if back_at(window, response(middle)) > now then high = middle else low = middle + 1 end
  end
  return low - 1
end

local function counted(window)
  return answered() - gone(window) + #held
end

local function used(window)
  return lost_until(window) > now and max(counted(window), window.limit) or counted(window)
end

local function expire()
  while held[1] and held[1].ends <= now do record(table.remove(held, 1).ends, 1) end
  local old = 0
  while old < answered() and response(old + 1) + longest <= now do old = old + 1 end
  if old > 0 then spent = spent:sub(old * 8 + 1) end
  for index = #clients, 1, -1 do
    if clients[index].seen_at + client_lease <= now then table.remove(clients, index) end
  end
end

local function begin()
  local last_call = state.last_call or now
  if now - last_call >= lease + longest_short then state.silent_until = now end
  state.last_call = now
  expire()
end

local function free_at(window, position)
  local known = answered() + #held
  local turn, windows_later, at, exact = known + position - window.limit, 0, now, true
  if turn >= known then
    -- The slot of a waiter before this one, a window after that one has used it.
    windows_later = floor((turn - known) / window.limit) + 1
    turn = turn - windows_later * window.limit
    exact = false
  end
  if turn >= answered() then
    at, exact = back_at(window, now), false
  elseif turn >= 0 then
    at = max(now, back_at(window, response(turn + 1)))
  end
  return max(at + windows_later * window.per, lost_until(window)), exact
end

-- Returns the slots that others may have used by their shares, unknown to this state.
local function unheard(name, window)
  local silent_until, share = state.silent_until or -huge, 0
  if now >= silent_until + silence or window.per >= HOUR then return 0 end
  for _, client in ipairs(clients) do
    if client.name ~= name and client.seen_at < silent_until then share = share + client.share end
  end
  if has_unknown then share = shares end
  return -floor(-share * (window.limit - 1) / max(1, shares))
end

-- Returns when, the index of the full window (0: a pause; one more than there are: the burst,
-- which is no window of the plan), and whether the time is exact.
local function earliest(claim)
  local position = position_of(claim)
  local at, index, exact = max(now, paused_until), 0, true
  for number = 1, #windows + (burst < rate.limit and 1 or 0) do
    local window = windows[number] or {limit = burst, per = burst * interval}
    local free, sure = free_at(window, position)
    local unknown = unheard(claim.client, window)
    if unknown > 0 then
      local later
      later, sure = free_at(window, position + unknown)
      free = max(free, min(later, state.silent_until + silence))
    end
    exact = exact and sure
    if free > at then at, index = free, number end
  end
  return at, index, exact
end

local function refuse(slot, retry_after)
  if slot.granted_at >= pause_set_at then state.pauses, pause_set_at = state.pauses + 1, now end
  if retry_after == cjson.null or not (retry_after <= DAY) then -- a longer one is not believed
    retry_after = min(MAX_PAUSE, interval * 2 ^ min(state.pauses - 1, 32))
  end
  paused_until, state.accepted = max(paused_until, now + retry_after), 0
  if slot.is_last_slot then return end
  if burst == 1 or grow_after > GROW_AFTER * rate.limit then
    grow_after = min(2 * grow_after, MAX_GROW_AFTER * rate.limit)
  end
  burst = max(1, floor(burst / 2))
end

local function accept(slot)
  if slot.granted_at < pause_set_at then return end
  state.pauses = 0
  if burst < rate.limit then
    state.accepted = state.accepted + 1
    if state.accepted >= grow_after then state.accepted, burst = 0, burst + 1 end
  end
end

-- Returns how the key stands, as one of its clients is told.
local function told(name)
  local returning, lost = {}, lost_until(rate)
  for _ = counted(rate) + 1, lost > now and rate.limit or 0 do
    returning[#returning + 1] = seconds(lost - now)
  end
  for index = gone(rate) + 1, answered() do
    returning[#returning + 1] = seconds(max(back_at(rate, response(index)), lost) - now)
  end
  for _ = 1, #held do returning[#returning + 1] = seconds(max(rate.per, lost - now)) end
  local quota_left = huge
  for _, window in ipairs(windows) do
    if window.per >= HOUR then quota_left = min(quota_left, max(0, window.limit - used(window))) end
  end
  local share, peers = 0, {}
  for _, client in ipairs(clients) do
    if client.name == name then
      share = client.share
    else
      local waiting = {}
      for index, one in ipairs(requests(client)) do
        local oldest, newest = max(0, now - one[3]), max(0, now - one[4])
        waiting[index] = list({one[1], one[2], seconds(oldest), seconds(newest)})
      end
      peers[#peers + 1] = list({
        cjson.encode(client.name), seconds(now - client.seen_at), list(waiting),
        cjson.encode(client.text),
      })
    end
  end
  return list({
    list(returning), quota_left < huge and quota_left or 'null',
    seconds(max(0, paused_until - now)), #clients, share, list(peers),
  })
end

-- The verbs.

local verbs = {}

function verbs.reserve(claim)
  begin()
  if find(held, 'id', claim.id) then
    if paused_until <= now then
      report(claim.client, claim.workload, now + grace)
      return list({'true', told(claim.client)})
    end
    drop(held, 'id', claim.id)
  end
  local at, index, exact = earliest(claim)
  report(claim.client, claim.workload, now + grace)
  if exact and at <= now then
    withdraw(claim.id, claim.client)
    state.last_was_check = IS_CHECK[claim.priority] or false
    local slot = {id = claim.id, ends = now + lease, granted_at = now}
    held[#held + 1] = slot
    slot.is_last_slot = used(rate) >= rate.limit
    return list({'true', told(claim.client)})
  end
  if claim.waits then
    local client, since = find(clients, 'name', claim.client), since_when(claim)
    client.claim, client.claimed = claim.id, {claim.priority, 1, since, since}
    client.ends = at + grace
  end
  return list({'false', told(claim.client), seconds(max(0, at - now)), index, burst})
end

function verbs.commit(operation)
  begin()
  report(operation.client, operation.workload, now + grace)
  local slot = drop(held, 'id', operation.id)
  if slot then
    record(now, 1)
    if operation.refused then refuse(slot, operation.retry_after) else accept(slot) end
    local window, left = find(windows, 'limit', operation.server_limit), operation.server_left
    if window and left ~= cjson.null then
      record(now, min(window.limit, window.limit - max(0, left) - counted(window)))
    end
  end
  return told(operation.client)
end

function verbs.release(operation)
  begin()
  drop(held, 'id', operation.id)
  withdraw(operation.id, operation.client)
  if operation.leaves then drop(clients, 'name', operation.client) end
  return 'null'
end

function verbs.record(operation)
  begin()
  record(now, operation.number)
  if operation.pause > 0 then paused_until = max(paused_until, now + min(operation.pause, DAY)) end
  return 'null'
end

function verbs.snapshot(operation)
  expire()
  local states, counts, waiting = {}, {}, {}
  for index, window in ipairs(windows) do
    local free = free_at(window, operation.position)
    states[index] = list({used(window), seconds(free - now)})
  end
  for _, client in ipairs(clients) do
    for _, one in ipairs(requests(client)) do counts[one[1]] = (counts[one[1]] or 0) + one[2] end
  end
  for priority = 0, LAST_PRIORITY do
    if counts[priority] then waiting[#waiting + 1] = list({priority, counts[priority]}) end
  end
  return list({
    list(states), list(waiting), seconds(max(0, paused_until - now)), burst, #held, #clients,
  })
end

local operation = cjson.decode(ARGV[3])
local answer = verbs[operation.verb](operation)

state.spent = spent
state.paused_until = paused_until > -huge and paused_until or nil
state.pause_set_at = pause_set_at > -huge and pause_set_at or nil
state.burst = burst < rate.limit and burst or nil
state.grow_after = grow_after ~= GROW_AFTER * rate.limit and grow_after or nil
local kept = max(ttl, (paused_until - now) / speed + ttl)
redis.call('SET', KEYS[1], cmsgpack.pack(state), 'PX', format('%.0f', kept * 1000))
return list({seconds(now), answer})
