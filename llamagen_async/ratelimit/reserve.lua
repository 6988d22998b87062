-- One account: which slots are held, which are spent, who is next. All of it, atomically.
--
-- This is `Account` of account.py a second time, on the server. That class is the specification:
-- a test feeds the same operations to both and compares every answer. What is here and not there
-- is what only a store shared by hosts needs: its clock, and finding out that it forgot.
--
-- KEYS[1]  the account's key, the only one that is touched. It expires by itself.
-- ARGV[1]  doubles, the same in every call: lease, ahead, grace, speed, ttl (real milliseconds), and
--          limit, per, aligned (0 or 1) of each window. All times and durations but the ttl are
--          seconds of the ledger's clock.
-- ARGV[2]  JSON: generation (0: never seen one), fresh (a random number, should a new one begin),
--          expected and latest (the time that the caller thinks it is, and may be at most),
--          operations. For tests: time, which replaces this server's clock.
-- Returns  JSON: [generation, now, the answers in order]; no answers if the generation is not the
--          caller's: nothing was done then, and it has to restore first what it remembers.
--
-- Arguments are JSON because cjson reads doubles exactly; it writes 14 digits of them only, hence
-- cmsgpack for the state and %.17g for the answer.

local FORMAT = 1
local LONGEST_PAUSE, PATIENCE, MOST_PATIENCE, HOUR = 60, 5, 160, 3600
local QUICKEST_START = 0.01 -- real seconds in which no server starts or is elected
local floor, max, min, huge = math.floor, math.max, math.min, math.huge

local call = cjson.decode(ARGV[2])
local lease, ahead, grace, speed, ttl, place = struct.unpack('<ddddd', ARGV[1])
local windows, rate, longest, fewest = {}, nil, 0, huge
while place <= #ARGV[1] do
  local limit, per, aligned
  limit, per, aligned, place = struct.unpack('<ddd', ARGV[1], place)
  local window = {limit = limit, per = per, aligned = aligned == 1}
  windows[#windows + 1] = window
  if not rate or per < rate.per then rate = window end
  longest, fewest = max(longest, per), min(fewest, limit)
end
local interval = rate.per / rate.limit

-- The state: what was stored, the time, whether anything was lost in between.

local function intact(state)
  if type(state) ~= 'table' or state.format ~= FORMAT then return false end
  for _, name in ipairs({'held', 'spent', 'line'}) do
    if type(state[name]) ~= 'table' then return false end
  end
  for _, name in ipairs({'generation', 'born', 'last', 'shift', 'slot', 'pauses', 'accepted'}) do
    if type(state[name]) ~= 'number' then return false end
  end
  return true
end

local stored, state = redis.pcall('GET', KEYS[1]), nil
if type(stored) == 'table' then return stored end -- an error, as for a key of another type
if stored then
  local readable
  readable, state = pcall(cmsgpack.unpack, stored)
  if not (readable and intact(state)) then return redis.error_reply('CORRUPT state') end
end
local found = state ~= nil
-- `burst` and `patience` are absent until a refusal has changed them.
state = state or {
  format = FORMAT, generation = call.fresh, shift = 0, last = -huge, slot = call.fresh,
  held = {}, spent = {}, line = {}, pauses = 0, accepted = 0,
}

local raw = call.time
if not raw then
  local clock = redis.call('TIME')
  raw = tonumber(clock[1]) + tonumber(clock[2]) / 1000000
end
raw = raw * speed
local now, last = raw + state.shift, state.last
local since = raw + state.shift - last -- by this server's clock, whatever is made of it
if now < last then
  now = last -- the clock was set back: time stands still, then goes on from here
elseif call.latest and now > call.latest then
  now = max(last, call.expected) -- it was set forward: slots must not come back early
end
if now ~= raw + state.shift then state.shift = now - raw end
state.last = now
local wall_offset = raw - now

-- Everything before `at` may be forgotten: windows of up to an hour count as full as of then, and
-- whoever remembers more finds another generation and restores it.
local function lose(at)
  state.lost = max(state.lost or -huge, at)
end

if not call.time and (since < 0 or since > QUICKEST_START * speed) then
  -- A Redis that was started since may have lost everything, or have gone back to an older
  -- snapshot; one that was elected since may lack the last writes. Both show another run.
  local info = redis.pcall('INFO', 'server')
  local run, uptime
  if type(info) == 'string' then
    run, uptime = info:match('run_id:(%x+)'), tonumber(info:match('uptime_in_seconds:(%d+)'))
    -- A difference of whole seconds: it says 1 of a server that is 50 ms old.
    uptime = uptime and max(0, uptime - 1)
  end
  if not found then
    lose(uptime and now - uptime * speed or now)
  elseif run and state.run ~= run then
    local started = now - (uptime or 0) * speed
    lose(started >= last and started or now)
    state.generation, state.born, state.inherited = call.fresh, state.lost, state.spent
  end
  state.run = run or state.run
end
state.born = state.born or now
local known = call.generation == state.generation
if call.generation ~= 0 and not known then lose(state.born) end

local held, spent, line = state.held, state.spent, state.line
local paused_until, pause_set_at = state.paused_until or -huge, state.pause_set_at or -huge
local burst = min(state.burst or rate.limit, rate.limit)
local patience = state.patience or PATIENCE * rate.limit

-- The count. The order of things, and of every sum, is that of account.py.

local function back_at(window, response)
  if not window.aligned then return response + window.per end
  return (floor((response + wall_offset) / window.per) + 1) * window.per - wall_offset
end

local function lost_until(window)
  if not state.lost or window.per > HOUR then return -huge end
  return back_at(window, state.lost)
end

local function counted(window)
  local low, high = 1, #spent + 1
  while low < high do
    local middle = floor((low + high) / 2)
    if back_at(window, spent[middle]) > now then high = middle else low = middle + 1 end
  end
  return #spent - low + 1 + #held
end

local function used(window)
  local number = counted(window)
  return lost_until(window) > now and max(number, window.limit) or number
end

local function record(at)
  local place = #spent + 1
  while place > 1 and spent[place - 1] > at do place = place - 1 end
  table.insert(spent, place, at)
end

local function settle()
  while held[1] and held[1][2] <= now do record(table.remove(held, 1)[2]) end
  local gone = 0
  while spent[gone + 1] and spent[gone + 1] + longest <= now do gone = gone + 1 end
  if gone > 0 then
    local kept = {}
    for place = gone + 1, #spent do kept[#kept + 1] = spent[place] end
    spent = kept
  end
  for place = #line, 1, -1 do
    if line[place][2] <= now then table.remove(line, place) end
  end
end

local function free_at(window, position)
  local at, exact, known = now, true, #spent + #held
  local turn, windows_later = known + position - window.limit, 0
  if turn >= known then
    -- It takes the slot of one who is before it in the line, a window after that one.
    windows_later = floor((turn - known) / window.limit) + 1
    turn = turn - windows_later * window.limit
    exact = false
  end
  if turn >= #spent then
    at, exact = back_at(window, now), false
  elseif turn >= 0 then
    at = max(now, back_at(window, spent[turn + 1]))
  end
  at = at + windows_later * window.per
  return max(at, lost_until(window)), exact
end

-- The index is that of the window that is full; 0 during a pause; one more than there are for the
-- burst, which is no window of the plan.
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

local function quota_left()
  local left
  for _, window in ipairs(windows) do
    if window.per >= HOUR then
      left = min(left or huge, max(0, window.limit - used(window)))
    end
  end
  return left
end

local function drop(entries, column, value)
  for place, entry in ipairs(entries) do
    if entry[column] == value then return table.remove(entries, place) end
  end
end

local function place_of(ticket)
  for place, entry in ipairs(line) do
    if entry[1] == ticket then return place - 1, entry end
  end
  return #line
end

local function text(...)
  local parts = {...}
  for place, value in ipairs(parts) do
    if type(value) == 'number' then
      parts[place] = value == -huge and 'null' or value == huge and '1e999'
        or string.format('%.17g', value)
    else
      parts[place] = tostring(value)
    end
  end
  return '[' .. table.concat(parts, ',') .. ']'
end

local function waiting(at, index)
  return text(false, at, index, burst)
end

-- The verbs. `again` marks what was sent before, with no answer: it may have been done already.

local verbs = {}

function verbs.reserve(operation)
  if operation.again then drop(held, 3, operation.nonce) end
  local at, index, exact, entry = now, 0, true, nil
  if #spent + #held >= fewest or line[1] or paused_until > now or burst < rate.limit
    or (state.lost or -huge) + HOUR > now then
    settle()
    local ahead_of_it
    ahead_of_it, entry = place_of(operation.ticket)
    at, index, exact = earliest(ahead_of_it)
  end -- else there is room in every window, whatever has come back since
  if exact and at <= now + ahead then
    if entry then drop(line, 1, operation.ticket) end
    state.slot = state.slot + 1
    held[#held + 1] = {state.slot, at + lease, operation.nonce}
    local took_last = used(rate) >= rate.limit
    return text(true, at, state.slot, took_last, quota_left() or 'null')
  end
  if not entry then
    entry = {operation.ticket}
    line[#line + 1] = entry
  end
  entry[2] = at + grace
  return waiting(at, index)
end

function verbs.leave(operation)
  drop(line, 1, operation.ticket)
end

-- A reservation whose answer nobody took: whatever it led to is undone.
function verbs.revoke(operation)
  drop(held, 3, operation.nonce)
  if operation.ticket then drop(line, 1, operation.ticket) end
end

function verbs.give_back(operation)
  drop(held, 1, operation.slot)
end

local function refuse(operation)
  if operation.granted_at >= pause_set_at then
    state.pauses, pause_set_at = state.pauses + 1, now
  end
  local pause = operation.retry_after
    or min(LONGEST_PAUSE, interval * 2 ^ min(state.pauses - 1, 32))
  paused_until, state.accepted = max(paused_until, now + pause), 0
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
  if drop(held, 1, operation.slot) then record(now) elseif operation.again then return end
  if operation.refused then refuse(operation) else accept(operation) end
  local window = windows[operation.window]
  if window then
    settle()
    for _ = 1, window.limit - max(0, operation.left) - counted(window) do record(now) end
  end
end

function verbs.record(operation)
  settle()
  for _ = 1, operation.number do record(now) end
end

-- What a client remembers of a generation that was lost: its requests that are on their way, and
-- when its others were answered. What this state has inherited of it is not counted twice.
function verbs.restore(operation)
  for _, slot in ipairs(operation.held) do
    drop(held, 1, slot[1])
    held[#held + 1] = {slot[1], now + lease, slot[2]}
  end
  -- Two clients may have been answered at the same time: each takes one of two equal ones.
  local missing, inherited, kept = {}, state.inherited or {}, {}
  for _, at in ipairs(operation.spent) do missing[at] = (missing[at] or 0) + 1 end
  for _, at in ipairs(inherited) do
    if (missing[at] or 0) > 0 then missing[at] = missing[at] - 1 else kept[#kept + 1] = at end
  end
  for at, number in pairs(missing) do
    for _ = 1, number do record(min(at, now)) end
  end
  state.inherited = kept[1] and kept or nil
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

local answers = {}
if known or call.generation == 0 then
  for place, operation in ipairs(call.operations) do
    answers[place] = verbs[operation.verb](operation) or 'null'
  end
end
state.spent = spent
if state.inherited and state.born + longest <= now then state.inherited = nil end
state.paused_until = paused_until > -huge and paused_until or nil
state.pause_set_at = pause_set_at > -huge and pause_set_at or nil
redis.call('SET', KEYS[1], cmsgpack.pack(state), 'PX', ttl)
return text(state.generation, now, '[' .. table.concat(answers, ',') .. ']')
