-- One account: which slots are held, which are spent, who is next. All of it, atomically.
--
-- This is `Account` of account.py, with its `Refusals`, a second time, on the server. They are the
-- specification: a test feeds the same operations to both and compares every answer. What is here
-- and not there is what only a store shared by hosts needs: its clock, and finding out that it
-- forgot.
--
-- KEYS[1]  the account's key, the only one that is touched. It expires by itself. On a channel of
--          the same name it is said how long a pause lasts from now, when a refusal was reported.
-- ARGV[1]  doubles, the same in every call: lease, ahead, grace, speed, ttl (real milliseconds), and
--          limit, per, aligned (0 or 1) of each window. All times and durations but the ttl are
--          seconds of the ledger's clock.
-- ARGV[2]  doubles: generation (0: never seen one), fresh (a random number, should a new one begin),
--          expected and latest (the time that the caller thinks it is, and may be at most; infinite
--          if it knows nothing of it), time (replaces this server's clock in tests; else NaN).
-- ARGV[3]  JSON: the operations.
-- Returns  JSON: [generation, now, the answers in order]; no answers if the generation is not the
--          caller's: nothing was done then, and it has to restore first what it remembers.
--
-- Operations are JSON because cjson reads doubles exactly; it writes 14 digits of them only, hence
-- cmsgpack for the state and %.17g for the answer. In the state `spent`, which may be long, is one
-- string of doubles: it is handed on as it is, and only those that matter are ever looked at.
--
-- Nearly every call is a plain answer and a slot that is free. These are dealt with first and
-- without any function: making the functions that everything else needs is a good part of what a
-- call costs, and only who needs them pays for it.

local FORMAT = 2
local HOUR, LONGEST_PAUSE, PATIENCE, MOST_PATIENCE = 3600, 60, 5, 160
local LONGEST_LINE = 32 * 1024
local QUICKEST_START = 0.002 -- real seconds in which no server is elected; to start takes 5 ms
local floor, max, min, huge = math.floor, math.max, math.min, math.huge
local concat, format, pack, unpacked = table.concat, string.format, struct.pack, struct.unpack

local generation, fresh, expected, latest, time = unpacked('<ddddd', ARGV[2])
local lease, ahead, grace, speed, ttl, place = unpacked('<ddddd', ARGV[1])
local windows, rate, longest, fewest, longest_short = {}, nil, 0, huge, 0
while place <= #ARGV[1] do
  local limit, per, aligned
  limit, per, aligned, place = unpacked('<ddd', ARGV[1], place)
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
    or type(state.line) ~= 'table'
    or type(state.generation) ~= 'number' or type(state.born) ~= 'number'
    or type(state.last) ~= 'number' or type(state.shift) ~= 'number'
    or type(state.slot) ~= 'number' or type(state.pauses) ~= 'number'
    or type(state.accepted) ~= 'number' then
    return redis.error_reply('CORRUPT state')
  end
end
local found = state ~= nil
-- `burst` and `patience` are absent until a refusal has changed them.
state = state or {
  format = FORMAT, generation = fresh, shift = 0, last = -huge, slot = fresh,
  held = {}, spent = '', line = {}, pauses = 0, accepted = 0,
}

local raw, is_test = time, time == time
if not is_test then
  local clock = redis.call('TIME')
  raw = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
end
raw = raw * speed
local now, last = raw + state.shift, state.last
local since = raw + state.shift - last -- by this server's clock, whatever is made of it
if now < last then
  now = last -- the clock was set back: time stands still, then goes on from here
elseif now > latest then
  now = max(last, expected) -- it was set forward: slots must not come back early
end
if now ~= raw + state.shift then state.shift = now - raw end
state.last = now
local wall_offset = raw - now

-- Everything before `state.lost` may be forgotten: windows of up to an hour count as full as of
-- then, and whoever remembers more finds another generation and restores it.
if not is_test and (since < 0 or since > QUICKEST_START * speed) then
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
    state.generation, state.born, state.inherited = fresh, state.lost, state.spent
  end
  state.run = run or state.run
end
state.born = state.born or now
local known = generation == state.generation
if generation ~= 0 and not known then
  state.lost = max(state.lost or -huge, state.born)
end

local held, spent, line = state.held, state.spent, state.line
local paused_until, pause_set_at = state.paused_until or -huge, state.pause_set_at or -huge
local burst = min(state.burst or rate.limit, rate.limit)
-- Whether a window may count as full because of what was lost.
local lost = state.lost ~= nil and state.lost + longest_short > now

local refused = false
local operations, answers, done = cjson.decode(ARGV[3]), {}, 0
local shown = format('%.17g', now)

-- What is common, as long as there is room in every window, whatever has come back since: plain
-- answers, and slots of which there is nothing to say.

local welcome = known or generation == 0
local simple = welcome and longest < HOUR and not lost
  and not line[1] and paused_until <= now and burst >= rate.limit
while simple and done < #operations do
  local operation = operations[done + 1]
  if operation.again then break end
  if operation.verb == 'commit' and not operation.refused and not operation.window then
    for place = 1, #held do
      if held[place][1] == operation.slot then
        table.remove(held, place)
        spent = spent .. pack('<d', now)
        break
      end
    end
    if operation.granted_at >= pause_set_at then state.pauses = 0 end
    answers[done + 1] = 'null'
  elseif operation.verb == 'reserve' then
    local gone = 0
    while gone < #spent and unpacked('<d', spent, gone + 1) + longest <= now do gone = gone + 8 end
    if gone > 0 then spent = spent:sub(gone + 1) end
    -- Of the last slot of a window there is something to say.
    if #spent / 8 + #held + operation.number >= fewest then break end
    local grants, slot = {}, state.slot
    for taken = 1, operation.number do
      slot = slot + 1
      held[#held + 1] = {slot, now + lease, operation.nonce}
      grants[taken] = format('[true,%s,%.17g,false,null]', shown, slot)
    end
    state.slot = slot
    answers[done + 1] = '[' .. concat(grants, ',') .. ']'
  else
    break
  end
  done = done + 1
end

if welcome and done < #operations then
  local patience, interval = state.patience or PATIENCE * rate.limit, rate.per / rate.limit

  -- The count, for everything else. The order of things, and of every sum, is that of account.py.

  local function answered()
    return #spent / 8
  end

  local function response(place)
    return (unpacked('<d', spent, place * 8 - 7))
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

  local function forget()
    local gone = 0
    while gone < answered() and response(gone + 1) + longest <= now do gone = gone + 1 end
    if gone > 0 then spent = spent:sub(gone * 8 + 1) end
  end

  local function drop(entries, column, value)
    for place = 1, #entries do
      if entries[place][column] == value then return table.remove(entries, place) end
    end
  end

  local function text(...)
    local parts = {...}
    for place, value in ipairs(parts) do
      if type(value) == 'number' then
        parts[place] = value == -huge and 'null' or value == huge and '1e999'
          or format('%.17g', value)
      else
        parts[place] = tostring(value)
      end
    end
    return '[' .. concat(parts, ',') .. ']'
  end

  local function waiting(at, index)
    return text(false, at, index, burst)
  end

  local function settle()
    while held[1] and held[1][2] <= now do record(table.remove(held, 1)[2], 1) end
    forget()
    for place = #line, 1, -1 do
      if line[place][2] <= now then table.remove(line, place) end
    end
  end

  local function free_at(window, position)
    local at, exact, known = now, true, answered() + #held
    local turn, windows_later = known + position - window.limit, 0
    if turn >= known then
      -- It takes the slot of one who is before it in the line, a window after that one.
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

  -- The index is that of the window that is full; 0 during a pause; one more than there are for
  -- the burst, which is no window of the plan.
  local function earliest(position)
    local at, index, exact = max(now, paused_until), 0, true
    for place = 1, #windows + (burst < rate.limit and 1 or 0) do
      local window = windows[place] or {limit = burst, per = burst * interval}
      local free, sure = free_at(window, position)
      exact = exact and sure
      if free > at then at, index = free, place end
    end
    return at, index, exact
  end

  local function hold(at, nonce)
    local slot = state.slot + 1
    state.slot = slot
    held[#held + 1] = {slot, at + lease, nonce}
    local took_last = (lost or answered() + #held >= rate.limit) and used(rate) >= rate.limit
    local quota_left = 'null'
    if longest >= HOUR then
      quota_left = huge
      for place = 1, #windows do
        local window = windows[place]
        if window.per >= HOUR then
          quota_left = min(quota_left, max(0, window.limit - used(window)))
        end
      end
      quota_left = format('%.17g', quota_left)
    end
    return format('[true,%.17g,%.17g,%s,%s]', at, slot, tostring(took_last), quota_left)
  end

  -- The verbs. `again` marks what was sent before, with no answer: it may have been done already.

  local verbs = {}

  -- Slots for up to `number` who share a ticket; a place in the line for the first who has none.
  function verbs.reserve(operation)
    local nonce, answers = operation.nonce, {}
    if operation.again then repeat until not drop(held, 3, nonce) end
    forget()
    for taken = 1, operation.number do
      local at = now
      -- If there is room in every window, then whatever has come back since.
      if answered() + #held >= fewest or line[1] or paused_until > now or burst < rate.limit
        or lost then
        settle()
        local before_it, entry, index, exact = #line, nil, nil, nil
        for place = 1, #line do
          if line[place][1] == operation.ticket then
            before_it, entry = place - 1, line[place]
            break
          end
        end
        at, index, exact = earliest(before_it)
        if not (exact and at <= now + ahead) then
          if not entry then
            entry = {operation.ticket}
            line[#line + 1] = entry
          end
          entry[2] = at + grace
          answers[taken] = waiting(at, index)
          break
        end
        if entry then drop(line, 1, operation.ticket) end
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
      or min(LONGEST_PAUSE, interval * 2 ^ min(state.pauses - 1, 32))
    paused_until, state.accepted = max(paused_until, now + pause), 0
    refused = true
    if operation.took_last then return end
    if burst == 1 or patience > PATIENCE * rate.limit then
      patience = min(2 * patience, MOST_PATIENCE * rate.limit)
      state.patience = patience
    end
    burst = max(1, floor(burst / 2))
    state.burst = burst
  end

  local function accept(operation)
    if operation.granted_at < pause_set_at then return end
    state.pauses = 0
    if burst < rate.limit then
      state.accepted = state.accepted + 1
      if state.accepted >= patience then
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
      settle()
      record(now, max(0, window.limit - max(0, operation.left) - counted(window)))
    end
  end

  function verbs.leave(operation)
    drop(line, 1, operation.ticket)
  end

  -- A reservation whose answer nobody took: whatever it led to is undone.
  function verbs.revoke(operation)
    repeat until not drop(held, 3, operation.nonce)
    if operation.ticket then drop(line, 1, operation.ticket) end
  end

  function verbs.give_back(operation)
    drop(held, 1, operation.slot)
  end

  function verbs.record(operation)
    settle()
    record(now, operation.number)
  end

  -- What a client remembers of a generation that was lost: its requests that are on their way, and
  -- when its others were answered. What this state has inherited of it is not counted twice.
  function verbs.restore(operation)
    for _, slot in ipairs(operation.held) do
      drop(held, 1, slot[1])
      held[#held + 1] = {slot[1], now + lease, slot[2]}
    end
    -- Two clients may have been answered at the same time: each takes one of two equal ones.
    local missing, inherited, kept = {}, state.inherited or '', {}
    for _, at in ipairs(operation.spent) do missing[at] = (missing[at] or 0) + 1 end
    for place = 1, #inherited, 8 do
      local at = unpacked('<d', inherited, place)
      if (missing[at] or 0) > 0 then
        missing[at] = missing[at] - 1
      else
        kept[#kept + 1] = pack('<d', at)
      end
    end
    for at, number in pairs(missing) do record(min(at, now), number) end
    state.inherited = kept[1] and concat(kept) or nil
  end

  function verbs.projected(operation)
    settle()
    return waiting(earliest(operation.position))
  end

  function verbs.snapshot()
    settle()
    local parts = {paused_until, burst, #held}
    for _, window in ipairs(windows) do
      parts[#parts + 1] = used(window)
      parts[#parts + 1] = (free_at(window, 0))
    end
    return text(unpack(parts))
  end

  for place = done + 1, #operations do
    local operation = operations[place]
    answers[place] = verbs[operation.verb](operation) or 'null'
  end
end

state.spent = spent
if state.inherited and state.born + longest <= now then state.inherited = nil end
state.paused_until = paused_until > -huge and paused_until or nil
state.pause_set_at = pause_set_at > -huge and pause_set_at or nil
redis.call('SET', KEYS[1], cmsgpack.pack(state), 'PX', ttl)
-- For who has a slot that may be used later. It may be forbidden; they ask then.
if refused then redis.pcall('PUBLISH', KEYS[1], format('%.17g', paused_until - now)) end
local answer = format('[%.17g,%s,[%s]]', state.generation, shown, concat(answers, ','))
-- One line is read with less effort; but how long a line may be is up to the reader.
return #answer < LONGEST_LINE and redis.status_reply(answer) or answer
