-- The second part of the script, after `state.lua`: what is done to the account.

-- Answers.

local function encode(value)
  if value == huge then return 'null' end
  if type(value) == 'number' then return format('%.17g', value) end
  if type(value) ~= 'table' then return cjson.encode(value) end
  local parts = {}
  for index, part in ipairs(value) do parts[index] = encode(part) end
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

local function is_waiting(client)
  return client.claimed and now < client.repeated_by
end

local function requests(client)
  if not is_waiting(client) then return now < client.ends and client.waiting or {} end
  local all = {client.claimed}
  for index, waiting in ipairs(client.waiting) do all[index + 1] = waiting end
  return all
end

local function told_first(client, priority, since)
  local waiting, first = client.waiting, nil
  for index = 1, #waiting + 1 do
    local one = waiting[index] or client.claimed
    if one and one[1] == priority then
      for _, time in ipairs({one[3], one[4]}) do
        if not first or abs(time - since) < abs(first - since) then first = time end
      end
    end
  end
  return first and abs(first - since) <= settings.tolerance and first or since
end

local function report(name, workload, ends)
  local client, waiting = find(clients, 'name', name), {}
  if not client then
    client = {name = name, share = 0, believed = 0, claim = '', waiting = {}}
    clients[#clients + 1] = client
  end
  for index, one in ipairs(workload.waiting) do
    local kind, first, last = one.priority, now - one.oldest, now - one.newest
    first, last = told_first(client, kind, first), told_first(client, kind, last)
    waiting[index] = {kind, one.count, first, last}
  end
  client.seen_at, client.ends, client.text, client.waiting = now, ends, workload.text, waiting
  local others = -client.believed
  for _, other in ipairs(clients) do others = others + other.believed end
  local fair = max(1, floor(shares / #clients))
  client.share = has_unknown and 0 or max(0, min(fair, shares - others))
  client.believed = max(client.share, workload.share)
end

local function since_when(claim)
  local since, client = now - claim.waited, find(clients, 'name', claim.client)
  if client then since = told_first(client, claim.priority, since) end
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

local function longer(since, count, first, last, ties)
  if last < since or (ties and last == since) then return count end
  if first > since or (first == since and not ties) then return 0 end
  local place = (count - 1) * (since - first) / (last - first)
  return ties and floor(place) + 1 or ceil(place)
end

local function goes_behind(claimed, mine, since, ties)
  local its, first = claimed[1], claimed[3]
  if its > mine or rank(its) > rank(mine) then return true end
  return its == mine and (first > since or (first == since and not ties))
end

local function position_of(claim)
  local mine, since, ties, overdue, others = claim.priority, since_when(claim), true, 0, 0
  for _, other in ipairs(clients) do
    if other.name == claim.client then
      ties = false
    else
      local all = requests(other)
      if is_waiting(other) and goes_behind(other.claimed, mine, since, ties) then all = {all[1]} end
      for _, one in ipairs(all) do
        local count = 0
        if one[1] == mine then
          count = longer(since, one[2], one[3], one[4], ties)
        elseif one[1] < mine or one[1] == OVERDUE then
          count = one[2]
        end
        if one[1] == OVERDUE then overdue = overdue + count else others = others + count end
      end
    end
  end
  if mine > OVERDUE then return overdue + others end
  local was_check = state.last_was_check and 1 or 0
  if mine == OVERDUE then return overdue + min(others, overdue + was_check) end
  return others + min(overdue, others + 1 - was_check)
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
  -- Of what only another plan's windows may need, no more is kept than fills the largest of them.
  local old, surplus = 0, answered() - state.most
  while old < answered()
    and response(old + 1) + (old < surplus and longest or state.horizon) <= now do old = old + 1 end
  spent = spent:sub(old * 8 + 1)
  for index = #clients, 1, -1 do
    if clients[index].seen_at + client_lease <= now then table.remove(clients, index) end
  end
  if state.paused_until > now + DAY then state.paused_until = 0 end
end

local function begin()
  if now - (state.last_call or now) >= lease + longest_short then state.silent_until = now end
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
  local silent_until, share = state.silent_until, 0
  if now >= silent_until + silence or window.per >= HOUR then return 0 end
  for _, client in ipairs(clients) do
    if client.name ~= name and client.seen_at < silent_until then
      share = share + client.believed
    end
  end
  if has_unknown then share = shares end
  return -floor(-share * (window.limit - 1) / max(1, shares))
end

-- Returns when, the index of the full window (0: a pause; one more than there are: the burst,
-- which is no window of the plan), and whether the time is exact.
local function earliest(claim)
  local position = position_of(claim)
  local at, index, exact = max(now, state.paused_until), 0, true
  for number = 1, #windows + (burst < rate.limit and 1 or 0) do
    local window = windows[number] or {limit = burst, per = burst * rate.interval}
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
  if slot.granted_at >= state.pause_set_at then
    state.pauses, state.pause_set_at = state.pauses + 1, now
  end
  if retry_after == null or not (retry_after >= 0 and retry_after <= DAY) then -- not believed
    retry_after = min(MAX_PAUSE, rate.interval * 2 ^ min(state.pauses - 1, 32))
  end
  state.paused_until, state.accepted = max(state.paused_until, now + retry_after), 0
  if slot.is_last_slot then return end
  if burst == 1 or grow_after > GROW_AFTER * rate.limit then
    grow_after = min(2 * grow_after, MAX_GROW_AFTER * rate.limit)
  end
  burst = max(1, floor(burst / 2))
end

local function accept(slot)
  if slot.granted_at < state.pause_set_at then return end
  state.pauses = 0
  if burst < rate.limit then
    state.accepted = state.accepted + 1
    if state.accepted >= grow_after then state.accepted, burst = 0, burst + 1 end
  end
end

-- Returns how the key stands, as one of its clients is told.
local function told(name)
  local returning, lost, quota_left, share, peers = {}, lost_until(rate), huge, 0, {}
  for index = counted(rate) + 1, lost > now and rate.limit or 0 do
    returning[index - counted(rate)] = lost - now
  end
  for index = gone(rate) + 1, answered() do
    returning[#returning + 1] = max(back_at(rate, response(index)), lost) - now
  end
  for _ = 1, #held do returning[#returning + 1] = max(rate.per, lost - now) end
  for _, window in ipairs(windows) do
    if window.per >= HOUR then quota_left = min(quota_left, max(0, window.limit - used(window))) end
  end
  for _, client in ipairs(clients) do
    if client.name == name then
      share = client.share
    else
      local waiting = {}
      for index, one in ipairs(requests(client)) do
        waiting[index] = {one[1], one[2], max(0, now - one[3]), max(0, now - one[4])}
      end
      peers[#peers + 1] = {client.name, now - client.seen_at, waiting, client.text}
    end
  end
  return {returning, quota_left, max(0, state.paused_until - now), share, peers}
end

-- The verbs.

local verbs = {}

function verbs.reserve(claim)
  begin()
  local is_held = drop(held, 'id', claim.id) ~= nil
  local at, index, exact = earliest(claim)
  local since = since_when(claim) -- what was told before is replaced
  report(claim.client, claim.workload, now + grace)
  if (exact and at <= now) or (is_held and state.paused_until <= now) then
    withdraw(claim.id, claim.client)
    if not is_held then state.last_was_check = IS_CHECK[claim.priority] or false end
    local slot = {id = claim.id, ends = now + lease, granted_at = now}
    held[#held + 1] = slot
    slot.is_last_slot = used(rate) >= rate.limit
    return {true, told(claim.client)}
  end
  if claim.waits then
    local client = find(clients, 'name', claim.client)
    client.claim, client.claimed = claim.id, {claim.priority, 1, since, since}
    client.repeated_by = at + grace
  else
    withdraw(claim.id, claim.client)
  end
  return {false, told(claim.client), max(0, at - now), index, burst}
end

function verbs.commit(operation)
  begin()
  report(operation.client, operation.workload, now + grace)
  local slot = drop(held, 'id', operation.id)
  if slot then
    record(now, 1)
    if operation.refused then refuse(slot, operation.retry_after) else accept(slot) end
    local window, left = find(windows, 'limit', operation.server_limit), operation.server_left
    if window and left ~= null then
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
  return null
end

function verbs.record(operation)
  begin()
  record(now, min(operation.number, state.most)) -- more than fill every window change nothing
  state.paused_until = max(state.paused_until, now + min(operation.pause, DAY))
  return null
end

-- The last reads that needed no slot, as `Throttle` keeps them.
function verbs.admit_read()
  expire()
  if state.paused_until > now then return state.paused_until - now end
  local reads = state.reads or {}
  local wait = #reads >= settings.reads and reads[1] + 1 - now or 0
  if wait > 0 then return wait end
  reads[#reads + 1] = now
  while #reads > settings.reads do table.remove(reads, 1) end
  state.reads = reads
  return 0
end

function verbs.snapshot(operation)
  expire()
  local states, counts, waiting = {}, {}, {}
  for index, window in ipairs(windows) do
    local free = free_at(window, operation.position)
    states[index] = {used(window), free - now}
  end
  for _, client in ipairs(clients) do
    for _, one in ipairs(requests(client)) do counts[one[1]] = (counts[one[1]] or 0) + one[2] end
  end
  for priority = 0, LAST_PRIORITY do
    if counts[priority] then waiting[#waiting + 1] = {priority, counts[priority]} end
  end
  return {states, waiting, max(0, state.paused_until - now), burst, #held, #clients}
end

local answer = verbs[operation.verb](operation)
state.spent = spent
state.burst = burst < rate.limit and burst or nil
state.grow_after = grow_after ~= GROW_AFTER * rate.limit and grow_after or nil
local kept = settings.ttl + (state.horizon - longest + max(0, state.paused_until - now)) / speed
redis.call('SET', KEYS[1], cmsgpack.pack(state), 'PX', format('%.0f', kept * 1000))
return encode({now, answer})
