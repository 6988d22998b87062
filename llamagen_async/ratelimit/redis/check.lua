-- The first part of the script, before `state.lua`: whether a stored state can be one. Another
-- program may have changed it: a wrong type would be an error in the midst of an operation, and a
-- time in the far future would have everyone wait for ever.

local AHEAD = 172800 -- seconds by which a time in the state may be ahead of the last call: two days
local LEASES = 130 -- leases of this client that another one's lease may be
local MOST_TIME = 1e15 -- seconds; with greater numbers a clock would not show single seconds
local MOST_WAITING = 1000000 -- requests that a client may have waiting

-- A number that is none (NaN) is in no range.
local function is_number(value, least, most)
  return type(value) == 'number' and value >= least and value <= most
end

local function is_count(value, most)
  return is_number(value, 0, most) and value == math.floor(value)
end

local function are_requests(all, last)
  if type(all) ~= 'table' then return false end
  for _, one in ipairs(all) do
    if type(one) ~= 'table' or not is_count(one[1], 5) or not is_count(one[2], MOST_WAITING)
      or not is_number(one[3], -math.huge, last) or not is_number(one[4], -math.huge, last) then
      return false
    end
  end
  return true
end

local function are_clients(all, last)
  for _, one in ipairs(all) do
    if type(one) ~= 'table' or type(one.name) ~= 'string' or type(one.claim) ~= 'string'
      or type(one.text) ~= 'string' or not is_number(one.seen_at, -math.huge, last)
      or not is_count(one.share, MOST_WAITING) or not is_count(one.believed, MOST_WAITING)
      or not is_number(one.ends, -math.huge, math.huge) or not are_requests(one.waiting, last)
      or (one.claimed and (not are_requests({one.claimed}, last)
        or not is_number(one.repeated_by, -math.huge, math.huge))) then
      return false
    end
  end
  return true
end

local function are_held(all, last, lease)
  for _, one in ipairs(all) do
    if type(one) ~= 'table' or type(one.id) ~= 'string'
      or not is_number(one.granted_at, -math.huge, last)
      or not is_number(one.ends, -math.huge, one.granted_at + LEASES * lease) then
      return false
    end
  end
  return true
end

local function are_spent(times, last)
  if type(times) ~= 'string' or #times % 8 ~= 0 then return false end
  -- Those between are no greater than the last one.
  return times == '' or is_number(struct.unpack('<d', times, #times - 7), -math.huge, last)
end

local function are_reads(times, last)
  if type(times) ~= 'table' then return false end
  for _, at in ipairs(times) do
    if not is_number(at, -math.huge, last) then return false end
  end
  return true
end

local function is_sound(state, lease)
  if not is_number(state.last, -MOST_TIME, MOST_TIME)
    or not is_number(state.clock_offset, -MOST_TIME, MOST_TIME) then
    return false
  end
  for _, name in ipairs({'silent_until', 'pause_set_at', 'last_call', 'lost', 'began'}) do
    if state[name] ~= nil and not is_number(state[name], -math.huge, state.last) then
      return false
    end
  end
  for _, name in ipairs({'pauses', 'accepted', 'burst', 'grow_after', 'most'}) do
    if state[name] ~= nil and not is_count(state[name], MOST_TIME) then return false end
  end
  return is_number(state.paused_until, -math.huge, state.last + AHEAD)
    and (state.burst or 1) >= 1 and is_number(state.horizon or 0, 0, MOST_TIME)
    and (state.run == nil or type(state.run) == 'string')
    and state.silent_until and state.pause_set_at and state.pauses and state.accepted
    and type(state.held) == 'table' and are_held(state.held, state.last, lease)
    and type(state.clients) == 'table' and are_clients(state.clients, state.last)
    and are_spent(state.spent, state.last)
    and (state.reads == nil or are_reads(state.reads, state.last))
end

