-- One account: which slots are held, which are spent, which waiter is next. All of it, atomically.
--
-- This is `WindowLog` of window_log.py, with its `Throttle`, a second time, on the server. They are
-- the specification: a test feeds the same operations to both and compares every answer. Only this
-- script has what a store shared by hosts needs beside it: its clock, and finding out that it forgot.
--
-- KEYS[1]  the account's key, the only one that is touched. It expires by itself. When a 429 is
--          reported, the seconds that the pause lasts are published on a channel of the same name.
-- ARGV[1]  doubles, the same in every call: lease, ahead, grace, speed, ttl (real milliseconds), and
--          limit, per, aligned (0 or 1) of each window. All times and durations but the ttl are
--          seconds of the ledger's clock.
-- ARGV[2]  doubles: epoch (0: never seen one), new_epoch (a random number, should a new one begin),
--          expected and latest (the time that the caller thinks it is, and may be at most; infinite
--          if it knows nothing of it), time (replaces this server's clock in tests; else NaN).
-- ARGV[3]  JSON: the operations.
-- Returns  JSON: [epoch, now, the answers in order]; no answers if the epoch is not the caller's:
--          nothing was done then, and the caller has to restore its part first.
--
-- Operations are JSON because cjson reads doubles exactly; it writes 14 digits of them only, hence
-- cmsgpack for the state and %.17g for the answer. In the state `spent`, which may be long, is one
-- string of doubles: it is handed on as it is, and only the times that matter are ever read.

local FORMAT = 2
local HOUR, MAX_PAUSE, GROW_AFTER, MAX_GROW_AFTER = 3600, 60, 5, 160
local MIN_START = 0.002 -- real seconds in which no server is elected; to start takes 5 ms
local floor, max, min, huge = math.floor, math.max, math.min, math.huge
local concat, format, pack, unpacked = table.concat, string.format, struct.pack, struct.unpack

local epoch, new_epoch, expected, latest, time = unpacked('<ddddd', ARGV[2])
local lease, ahead, grace, speed, ttl, offset = unpacked('<ddddd', ARGV[1])
local windows, rate, longest, fewest, longest_short = {}, nil, 0, huge, 0
while offset <= #ARGV[1] do
  local limit, per, aligned
  limit, per, aligned, offset = unpacked('<ddd', ARGV[1], offset)
  local window = {limit = limit, per = per, aligned = aligned == 1}
  windows[#windows + 1] = window
  if not rate or per < rate.per then rate = window end
  if per > longest then longest = per end
  if per <= HOUR and per > longest_short then longest_short = per end
  if limit < fewest then fewest = limit end
end

-- The state: what was stored, the time, whether anything was lost in between.

local stored, state = redis.pcall('GET', KEYS[1]), nil
if type(stored) == 'table' then return stored end -- an error, as for a key of another type
if stored then
  local readable
  readable, state = pcall(cmsgpack.unpack, stored)
  if not readable or type(state) ~= 'table' or state.format ~= FORMAT
    or type(state.held) ~= 'table' or type(state.spent) ~= 'string' or #state.spent % 8 > 0
    or type(state.queue) ~= 'table'
    or type(state.epoch) ~= 'number' or type(state.epoch_start) ~= 'number'
    or type(state.last) ~= 'number' or type(state.clock_offset) ~= 'number'
    or type(state.slot) ~= 'number' or type(state.pauses) ~= 'number'
    or type(state.accepted) ~= 'number' then
    return redis.error_reply('CORRUPT state')
  end
end
local found = state ~= nil
-- `burst` and `grow_after` are absent until a 429 has changed them.
state = state or {
  format = FORMAT, epoch = new_epoch, clock_offset = 0, last = -huge, slot = new_epoch,
  held = {}, spent = '', queue = {}, pauses = 0, accepted = 0,
}

local server_time, is_test = time, time == time
if not is_test then
  local clock = redis.call('TIME')
  server_time = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
end
server_time = server_time * speed
local now, last = server_time + state.clock_offset, state.last
local since = server_time + state.clock_offset - last -- by this server's clock, set or not
if now < last then
  now = last -- the clock was set back: time stands still, then goes on from here
elseif now > latest then
  now = max(last, expected) -- it was set forward: slots must not come back early
end
if now ~= server_time + state.clock_offset then state.clock_offset = now - server_time end
state.last = now
local wall_offset = server_time - now

-- Everything before `state.lost` may be forgotten: windows of up to an hour count as full as of
-- then, and a client that remembers more finds another epoch and restores its part.
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
    state.epoch, state.epoch_start, state.carried_over = new_epoch, state.lost, state.spent
  end
  state.run = run or state.run
end
state.epoch_start = state.epoch_start or now
local known = epoch == state.epoch
if epoch ~= 0 and not known then
  state.lost = max(state.lost or -huge, state.epoch_start)
end

local held, spent, queue = state.held, state.spent, state.queue
local paused_until, pause_set_at = state.paused_until or -huge, state.pause_set_at or -huge
local burst = min(state.burst or rate.limit, rate.limit)
-- Whether a window may count as full because of what was lost.
local lost = state.lost ~= nil and state.lost + longest_short > now

local refused = false
local operations, answers = cjson.decode(ARGV[3]), {}
local shown = format('%.17g', now)

if known or epoch == 0 then
  local grow_after, interval = state.grow_after or GROW_AFTER * rate.limit, rate.per / rate.limit

  -- The count. The order of things, and of every sum, is that of window_log.py.

  local function answered()
    return #spent / 8
  end

  local function response(index)
    return (unpacked('<d', spent, index * 8 - 7))
  end

  local function back_at(window, at)
    if not window.aligned then return at + window.per end
    return (floor((at + wall_offset) / window.per) + 1) * window.per - wall_offset
  end

  local function lost_until(window)
    if not lost or window.per > HOUR then return -huge end
    return back_at(window, state.lost)
  end

  local function counted(window)
    local low, high = 1, answered() + 1
    while low < high do
      local middle = floor((low + high) / 2)
      if back_at(window, response(middle)) > now then high = middle else low = middle + 1 end
    end
    return answered() - low + 1 + #held
  end

  local function used(window)
    local number = counted(window)
    return lost_until(window) > now and max(number, window.limit) or number
  end

  local function record(at, number)
    local before = answered()
    while before > 0 and response(before) > at do before = before - 1 end
    local times = pack('<d', at):rep(number)
    spent = spent:sub(1, before * 8) .. times .. spent:sub(before * 8 + 1)
  end

  local function drop_old()
    local gone = 0
    while gone < answered() and response(gone + 1) + longest <= now do gone = gone + 1 end
    if gone > 0 then spent = spent:sub(gone * 8 + 1) end
  end

  local function drop(entries, column, value)
    for index = 1, #entries do
      if entries[index][column] == value then return table.remove(entries, index) end
    end
  end

  local function text(...)
    local parts = {...}
    for index, value in ipairs(parts) do
      if type(value) == 'number' then
        parts[index] = value == -huge and 'null' or value == huge and '1e999'
          or format('%.17g', value)
      else
        parts[index] = tostring(value)
      end
    end
    return '[' .. concat(parts, ',') .. ']'
  end

  local function waiting(at, index)
    return text(false, at, index, burst)
  end

  local function expire()
    while held[1] and held[1][2] <= now do record(table.remove(held, 1)[2], 1) end
    drop_old()
    for index = #queue, 1, -1 do
      if queue[index][2] <= now then table.remove(queue, index) end
    end
  end

  local function free_at(window, position)
    local at, exact, known = now, true, answered() + #held
    local turn, windows_later = known + position - window.limit, 0
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
    at = at + windows_later * window.per
    return max(at, lost_until(window)), exact
  end

  -- Returns when, the index of the full window (0: a pause; one more than there are: the burst,
  -- which is no window of the plan), and whether the time is exact.
  local function earliest(position)
    local at, index, exact = max(now, paused_until), 0, true
    for number = 1, #windows + (burst < rate.limit and 1 or 0) do
      local window = windows[number] or {limit = burst, per = burst * interval}
      local free, sure = free_at(window, position)
      exact = exact and sure
      if free > at then at, index = free, number end
    end
    return at, index, exact
  end

  local function hold(at, nonce)
    local slot = state.slot + 1
    state.slot = slot
    held[#held + 1] = {slot, at + lease, nonce}
    local is_last_slot = (lost or answered() + #held >= rate.limit) and used(rate) >= rate.limit
    local quota_left = 'null'
    if longest >= HOUR then
      quota_left = huge
      for index = 1, #windows do
        local window = windows[index]
        if window.per >= HOUR then
          quota_left = min(quota_left, max(0, window.limit - used(window)))
        end
      end
      quota_left = format('%.17g', quota_left)
    end
    return format('[true,%.17g,%.17g,%s,%s]', at, slot, tostring(is_last_slot), quota_left)
  end

  -- The verbs. `again` marks an operation that was sent before, without an answer: it may have
  -- been done already.

  local verbs = {}

  -- Slots for up to `number` requests that share a waiter id; a position for the first without one.
  function verbs.reserve(operation)
    local nonce, answers = operation.nonce, {}
    if operation.again then repeat until not drop(held, 3, nonce) end
    drop_old()
    for taken = 1, operation.number do
      local at = now
      -- Room in every window is room even if no slot came back since.
      if answered() + #held >= fewest or queue[1] or paused_until > now or burst < rate.limit
        or lost then
        expire()
        local before_it, entry, index, exact = #queue, nil, nil, nil
        for position = 1, #queue do
          if queue[position][1] == operation.waiter_id then
            before_it, entry = position - 1, queue[position]
            break
          end
        end
        at, index, exact = earliest(before_it)
        if not (exact and at <= now + ahead) then
          if not entry then
            entry = {operation.waiter_id}
            queue[#queue + 1] = entry
          end
          entry[2] = at + grace
          answers[taken] = waiting(at, index)
          break
        end
        if entry then drop(queue, 1, operation.waiter_id) end
      end
      answers[taken] = hold(at, nonce)
    end
    return '[' .. concat(answers, ',') .. ']'
  end

  local function refuse(operation)
    if operation.granted_at >= pause_set_at then
      state.pauses, pause_set_at = state.pauses + 1, now
    end
    local pause = operation.retry_after
      or min(MAX_PAUSE, interval * 2 ^ min(state.pauses - 1, 32))
    paused_until, state.accepted = max(paused_until, now + pause), 0
    refused = true
    if operation.is_last_slot then return end
    if burst == 1 or grow_after > GROW_AFTER * rate.limit then
      grow_after = min(2 * grow_after, MAX_GROW_AFTER * rate.limit)
      state.grow_after = grow_after
    end
    burst = max(1, floor(burst / 2))
    state.burst = burst
  end

  local function accept(operation)
    if operation.granted_at < pause_set_at then return end
    state.pauses = 0
    if burst < rate.limit then
      state.accepted = state.accepted + 1
      if state.accepted >= grow_after then
        state.accepted, burst = 0, burst + 1
        state.burst = burst < rate.limit and burst or nil
      end
    end
  end

  function verbs.commit(operation)
    if drop(held, 1, operation.slot) then record(now, 1) elseif operation.again then return end
    if operation.refused then refuse(operation) else accept(operation) end
    local window = windows[operation.window]
    if window then
      expire()
      record(now, max(0, window.limit - max(0, operation.left) - counted(window)))
    end
  end

  function verbs.cancel_wait(operation)
    drop(queue, 1, operation.waiter_id)
  end

  -- Undoes a reservation whose answer nobody took.
  function verbs.revoke(operation)
    repeat until not drop(held, 3, operation.nonce)
    if operation.waiter_id then drop(queue, 1, operation.waiter_id) end
  end

  function verbs.give_back(operation)
    drop(held, 1, operation.slot)
  end

  function verbs.record(operation)
    expire()
    record(now, operation.number)
  end

  -- Restores a client's part of an epoch that was lost: its requests in flight, and when its others
  -- were answered. Times that this state has carried over from it are not counted twice.
  function verbs.restore(operation)
    for _, slot in ipairs(operation.held) do
      drop(held, 1, slot[1])
      held[#held + 1] = {slot[1], now + lease, slot[2]}
    end
    -- Two clients may have been answered at the same time: each takes one of two equal ones.
    local missing, carried_over, kept = {}, state.carried_over or '', {}
    for _, at in ipairs(operation.spent) do missing[at] = (missing[at] or 0) + 1 end
    for index = 1, #carried_over, 8 do
      local at = unpacked('<d', carried_over, index)
      if (missing[at] or 0) > 0 then
        missing[at] = missing[at] - 1
      else
        kept[#kept + 1] = pack('<d', at)
      end
    end
    for at, number in pairs(missing) do record(min(at, now), number) end
    state.carried_over = kept[1] and concat(kept) or nil
  end

  function verbs.projected(operation)
    expire()
    return waiting(earliest(operation.position))
  end

  function verbs.snapshot()
    expire()
    local parts = {paused_until, burst, #held}
    for _, window in ipairs(windows) do
      parts[#parts + 1] = used(window)
      parts[#parts + 1] = (free_at(window, 0))
    end
    return text(unpack(parts))
  end

  for index = 1, #operations do
    local operation = operations[index]
    answers[index] = verbs[operation.verb](operation) or 'null'
  end
end

state.spent = spent
if state.carried_over and state.epoch_start + longest <= now then state.carried_over = nil end
state.paused_until = paused_until > -huge and paused_until or nil
state.pause_set_at = pause_set_at > -huge and pause_set_at or nil
redis.call('SET', KEYS[1], cmsgpack.pack(state), 'PX', ttl)
-- For clients with a slot that was granted early. Publishing may be forbidden; they ask then.
if refused then redis.pcall('PUBLISH', KEYS[1], format('%.17g', paused_until - now)) end
return format('[%.17g,%s,[%s]]', state.epoch, shown, concat(answers, ','))
