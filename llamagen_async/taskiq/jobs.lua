-- The jobs of a `RedisJobs`, all under one prefix: each call is one verb, done whole or not at all.
--
-- job:<key>      hash: the columns of a row, and owner, until (its lease), rev, kicks
-- all            the keys, by number            state:<state>  the keys in that state, by number
-- turn           the queued ones, urgent first  due            when a task is to be sent (again)
-- lease          when leases end, by key        gid:<id>       the job that was answered with an id
-- of:<key>       changes that wait for a job    target:<id>    changes of a comic, by number
-- ended          [key, target] of jobs that are to be forgotten, by when they are
-- since          since when the newest job waits, which is later than it came if others came, too
-- upload:<digest> the URL of a content
-- told           the channel on which each row is told after it was changed

local P, verb, a = KEYS[1] .. ':', ARGV[1], cjson.decode(ARGV[2])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1e6
local SOON = 10 -- seconds in which whoever has changed something sends the tasks that follow from it
local FIRST, LONGEST = 60, 3600 -- seconds until a task that nobody has begun is sent again
local APART = 0.1 -- seconds between jobs that come at once, so that ledgers can tell which was first
local UPLOADED = 172800 -- seconds for which a URL is kept: it is used again for a day
local URGENT = 2 ^ 50 -- more than any number of a job
local kick = {}

local function text(number) return string.format('%.6f', number) end

local function load(key)
  local flat, job = redis.call('HGETALL', P .. 'job:' .. key), {}
  if #flat == 0 then return nil end
  for i = 1, #flat, 2 do job[flat[i]] = flat[i + 1] end
  return job
end

local function reply(word, key)
  return {word, key and redis.call('HGETALL', P .. 'job:' .. key) or {}, kick}
end

local function set(job, values)
  values.rev = tostring(tonumber(job.rev or '0') + 1)
  local flat = {}
  for name, value in pairs(values) do
    job[name] = value
    flat[#flat + 1] = name
    flat[#flat + 1] = value
  end
  redis.call('HSET', P .. 'job:' .. job.key, unpack(flat))
end

local function tell(job)
  redis.call('PUBLISH', P .. 'told', cjson.encode(redis.call('HGETALL', P .. 'job:' .. job.key)))
end

local function move(job, to)
  if job.state then redis.call('ZREM', P .. 'state:' .. job.state, job.key) end
  redis.call('ZADD', P .. 'state:' .. to, job.id, job.key)
  if to == 'queued' then
    redis.call('ZADD', P .. 'turn', tonumber(job.id) - (job.urgent == '1' and URGENT or 0), job.key)
  else
    redis.call('ZREM', P .. 'turn', job.key)
  end
end

-- Ended jobs are forgotten after a while. What is not ended, or uncertain, never is: whatever says
-- that a job goes on after all takes the end of its life away.
local function age(job)
  local is_ended = job.state == 'failed' or job.state == 'cancelled'
    or (job.state == 'succeeded' and not (a.fetch and job.files == ''))
  local is_mortal, entry = is_ended and a.forget > 0, cjson.encode({job.key, job.target})
  local names = {P .. 'job:' .. job.key}
  if job.gid ~= '' and redis.call('GET', P .. 'gid:' .. job.gid) == job.key then
    names[2] = P .. 'gid:' .. job.gid
  end
  for _, name in ipairs(names) do
    if is_mortal then
      redis.call('PEXPIRE', name, string.format('%.0f', a.forget * 1000))
    else
      redis.call('PERSIST', name)
    end
  end
  if is_mortal then
    redis.call('ZADD', P .. 'ended', text(now + a.forget), entry)
  else
    redis.call('ZREM', P .. 'ended', entry)
  end
end

-- Take a job whose life is over out of all lists, unless its key has a new one since.
local function forget(entry)
  local key, target = unpack(cjson.decode(entry))
  local job = load(key)
  redis.call('ZREM', P .. 'ended', entry)
  if target ~= '' and not (job and job.target == target) then
    redis.call('ZREM', P .. 'target:' .. target, key)
  end
  for _, state in ipairs({'succeeded', 'failed', 'cancelled'}) do
    if not (job and job.state == state) then redis.call('ZREM', P .. 'state:' .. state, key) end
  end
  if not job then redis.call('ZREM', P .. 'all', key) end
end

local function due(job, seconds)
  redis.call('ZADD', P .. 'due', text(now + seconds), job.key)
end

-- After a restart of Redis leases have ended while nobody could renew them: their owners come first.
local function is_held(job)
  if job.owner == '' then return false end
  if tonumber(job['until']) > now then return true end
  local info = redis.pcall('INFO', 'server')
  local uptime = type(info) == 'string' and info:match('uptime_in_seconds:(%d+)')
  return uptime and tonumber(uptime) <= a.lease
end

local function free(job)
  redis.call('ZREM', P .. 'lease', job.key)
  set(job, {owner = '', ['until'] = '0'})
end

local function lend(job, token)
  redis.call('ZADD', P .. 'lease', text(now + a.lease), job.key)
  set(job, {owner = token, ['until'] = text(now + a.lease)})
end

-- Of the changes of a comic one at a time, in their order, and none while another may be at work.
local function is_ready(job)
  if job.state ~= 'queued' or (job.of ~= '' and job.target == '') then return false end
  if job.target == '' then return true end
  local comic = redis.call('GET', P .. 'gid:' .. job.target)
  if comic and comic ~= job.key then
    if redis.call('HGET', P .. 'job:' .. comic, 'state') == 'running' then return false end
  end
  for _, key in ipairs(redis.call('ZRANGE', P .. 'target:' .. job.target, 0, -1)) do
    local other = key ~= job.key and load(key)
    if other and (other.state == 'sending' or other.state == 'running'
      or (other.state == 'uncertain' and (tonumber(other.sent_at) or 0) > now - a.timeout)
      or (other.state == 'queued' and tonumber(other.id) < tonumber(job.id))) then
      return false
    end
  end
  return true
end

local function call(job)
  if is_ready(job) then
    due(job, SOON)
    kick[#kick + 1] = {job.key, job.type, job.task}
  else
    due(job, a.timeout)
  end
end

-- Have the changes of a comic begun whose turn it is.
local function settle(id)
  for _, key in ipairs(redis.call('ZRANGE', P .. 'target:' .. id, 0, -1)) do
    local job = load(key)
    if job and job.state == 'queued' and job.owner == '' then call(job) end
  end
end

local function finish(job, state, error)
  move(job, state)
  redis.call('ZREM', P .. 'due', job.key)
  set(job, {state = state, error = error, ended_at = state == 'uncertain' and '' or text(now)})
  age(job)
end

local function follow(job)
  local behind = P .. 'of:' .. job.key
  if job.state == 'succeeded' then
    for _, key in ipairs(redis.call('SMEMBERS', behind)) do
      local change = load(key)
      if change then
        set(change, {target = job.gid})
        redis.call('ZADD', P .. 'target:' .. job.gid, change.id, key)
      end
    end
    redis.call('DEL', behind)
  elseif job.state == 'failed' or job.state == 'cancelled' then
    for _, key in ipairs(redis.call('SMEMBERS', behind)) do
      local change = load(key)
      if change and change.state == 'queued' then
        finish(change, 'failed', cjson.encode({
          type = 'InvalidRequestError', message = 'there is no such comic', field = 'of',
          value = job.key, allowed = 'the key of a job that has not failed'
        }))
        tell(change)
        follow(change)
      end
    end
    redis.call('DEL', behind)
  end
  if job.target ~= '' then settle(job.target) end
  if job.gid ~= '' and job.gid ~= job.target then settle(job.gid) end
end

local function lose(job, reason)
  finish(job, 'uncertain', cjson.encode({type = 'SubmissionUncertainError', message = reason}))
  free(job)
  tell(job)
  follow(job)
end

local function is_unfinished(job)
  return job.state == 'queued' or (job.state == 'running' and job.error == '')
    or (job.state == 'succeeded' and a.fetch and job.files == '' and job.error == '')
end

local verbs = {}

function verbs.add()
  local known = load(a.key)
  if known then
    if known.state == 'queued' and known.digest == a.digest and known.request ~= a.request then
      set(known, {request = a.request})
    end
    return reply('known', a.key)
  end
  local target = a.target
  if a.of ~= '' then
    local comic = load(a.of)
    if not comic then return {'no comic', {}, {}} end
    if comic.type == 'animation' then return {'an animation', {}, {}} end
    if comic.state == 'failed' or comic.state == 'cancelled' then return {'failed', {}, {}} end
    if comic.state == 'succeeded' then target = comic.gid end
  end
  local since = math.max(now, (tonumber(redis.call('GET', P .. 'since') or '') or 0) + APART)
  redis.call('SET', P .. 'since', text(since))
  forget(cjson.encode({a.key, ''})) -- an older job may have had this key
  local job = {key = a.key, id = tostring(redis.call('INCR', P .. 'number')), urgent = a.urgent}
  set(job, {
    id = job.id, key = a.key, digest = a.digest, request = a.request, type = a.type, of = a.of,
    target = target, urgent = a.urgent, state = 'queued', attempts = '0', gid = '',
    generation = '', error = '', files = '', queued_at = text(now), since = text(since),
    sent_at = '', accepted_at = '', ended_at = '', credits = '', task = a.task, owner = '',
    ['until'] = '0', kicks = '0'
  })
  job.state = nil
  move(job, 'queued')
  job.state = 'queued'
  redis.call('ZADD', P .. 'all', job.id, a.key)
  if target ~= '' then
    redis.call('ZADD', P .. 'target:' .. target, job.id, a.key)
  elseif a.of ~= '' then
    redis.call('SADD', P .. 'of:' .. a.of, a.key)
  end
  call(job)
  tell(job)
  return reply('new', a.key)
end

-- The lease is the asker's; the time here says there, too, for how long the job has waited.
local function mine()
  local answer = reply('mine', a.key)
  answer[4] = text(now)
  return answer
end

function verbs.claim()
  local job = load(a.key)
  if not job then return {'gone', {}, {}} end
  if job.owner == a.token then return mine() end
  if job.state == 'sending' and not is_held(job) then lose(job, 'its worker ended') end
  if job.state ~= 'sending' and not is_unfinished(job) then
    redis.call('ZREM', P .. 'due', a.key)
    return reply('done', a.key)
  end
  if is_held(job) then return reply('held', a.key) end
  if job.state == 'queued' and not is_ready(job) then
    due(job, a.timeout)
    return reply('behind', a.key)
  end
  redis.call('ZREM', P .. 'due', a.key)
  lend(job, a.token)
  return mine()
end

function verbs.change()
  local job = load(a.key)
  if not job then return {'gone', {}, {}} end
  local from, to, is_mine = job.state, a.state, a.token ~= '' and job.owner == a.token
  -- The fence: only who holds the lease may send, or say of a queued job what became of it.
  if to == 'sending' and not is_mine then return reply('lost', a.key) end
  local is_allowed = false
  for _, state in ipairs(a.origins) do is_allowed = is_allowed or state == from end
  if not is_allowed or (from == 'queued' and not is_mine) then return reply('kept', a.key) end
  if a.gid ~= '' and job.gid == '' and a.gid ~= job.target then
    local other = redis.call('GET', P .. 'gid:' .. a.gid)
    if other and other ~= a.key then return {'second', {other}, {}} end
    redis.call('SET', P .. 'gid:' .. a.gid, a.key)
  end
  local gid = a.gid ~= '' and a.gid or job.gid
  local free_of_charge = to == 'queued' or (to == 'failed' and gid == '')
  move(job, to)
  set(job, {
    state = to, attempts = tostring(tonumber(job.attempts) + (to == 'sending' and 1 or 0)),
    gid = gid, generation = a.generation ~= '' and a.generation or job.generation,
    error = a.error, files = a.files ~= '' and a.files or job.files,
    sent_at = to == 'sending' and text(now) or job.sent_at,
    accepted_at = job.accepted_at == '' and a.gid ~= '' and text(now) or job.accepted_at,
    ended_at = (to == 'succeeded' or to == 'failed') and a.files == '' and text(now) or job.ended_at,
    credits = free_of_charge and '' or (a.credits ~= '' and a.credits or job.credits)
  })
  age(job)
  if to == 'sending' then lend(job, a.token) end
  tell(job)
  follow(job)
  return reply('changed', a.key)
end

-- How far a comic that runs is drawn; whoever works at it says so.
function verbs.progress()
  local job = load(a.key)
  if job and job.state == 'running' and a.token ~= '' and job.owner == a.token then
    set(job, {generation = a.generation})
    tell(job)
  end
  return {'done', {}, {}}
end

function verbs.cancel()
  local job = load(a.key)
  if not job then return {'gone', {}, {}} end
  if job.state == 'queued' then
    finish(job, 'cancelled', a.error)
    tell(job)
    follow(job)
  end
  return reply('done', a.key)
end

function verbs.resend()
  local job = load(a.key)
  if not job then return {'gone', {}, {}} end
  if job.state == 'uncertain' then
    move(job, 'queued')
    set(job, {state = 'queued', error = '', credits = '', kicks = '0'})
    age(job)
    tell(job)
    call(job)
  end
  return reply('done', a.key)
end

-- Go on with a job that was given up: its wait was too long, or its pictures could not be fetched.
function verbs.again()
  local job = load(a.key)
  if not job then return {'gone', {}, {}} end
  local is_given_up = job.state == 'running' or (job.state == 'succeeded' and job.files == '')
  if is_given_up and job.error ~= '' and not is_held(job) then
    set(job, {error = '', kicks = '0'})
    due(job, SOON)
    kick[#kick + 1] = {a.key, job.type, job.task}
  end
  return reply('done', a.key)
end

function verbs.renew()
  local lost = {}
  for _, one in ipairs(a.jobs) do
    local job = load(one[1])
    if job and job.owner == one[2] and job.state ~= 'cancelled' then
      lend(job, one[2])
    else
      lost[#lost + 1] = one[1]
    end
  end
  return {'done', lost, {}}
end

function verbs.release()
  local job = load(a.key)
  if job and job.owner == a.token then
    free(job)
    if is_unfinished(job) then due(job, 0) end
  end
  return {'done', {}, {}}
end

-- Take the leases of dead workers, and find what nobody has begun.
function verbs.sweep()
  local limit = {'LIMIT', 0, 100}
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', P .. 'lease', '-inf', text(now), unpack(limit))) do
    local job = load(key)
    if not job then
      redis.call('ZREM', P .. 'lease', key)
    elseif not is_held(job) then
      if job.state == 'sending' then
        lose(job, 'its worker ended')
      else
        free(job)
        if is_unfinished(job) then due(job, 0) end
      end
    end
  end
  for _, key in ipairs(redis.call('ZRANGEBYSCORE', P .. 'due', '-inf', text(now), unpack(limit))) do
    local job = load(key)
    if not job then
      redis.call('ZREM', P .. 'due', key)
    elseif is_unfinished(job) and (job.state ~= 'queued' or is_ready(job)) then
      local kicks = tonumber(job.kicks)
      set(job, {kicks = tostring(kicks + 1)})
      due(job, math.min(LONGEST, FIRST * 2 ^ math.min(kicks, 10)))
      kick[#kick + 1] = {key, job.type, job.task}
    elseif job.state == 'queued' then
      due(job, a.timeout)
    else
      redis.call('ZREM', P .. 'due', key)
    end
  end
  for _, entry in ipairs(redis.call('ZRANGEBYSCORE', P .. 'ended', '-inf', text(now), unpack(limit))) do
    forget(entry)
  end
  return {'done', {}, kick}
end

-- Tasks were sent for these jobs: they are sent again only if nobody begins for long.
function verbs.kicked()
  for _, key in ipairs(a.keys) do
    if redis.call('ZSCORE', P .. 'due', key) then due({key = key}, FIRST) end
  end
  return {'done', {}, {}}
end

function verbs.get()
  return reply('done', a.key)
end

-- The newest jobs first, of some states or of all, older than the one of the number `before`.
function verbs.list()
  local found, before = {}, a.before == '' and '+inf' or '(' .. a.before
  local sets = {}
  for _, state in ipairs(a.states) do sets[#sets + 1] = 'state:' .. state end
  if #sets == 0 then sets = {'all'} end
  for _, name in ipairs(sets) do
    for _, key in ipairs(redis.call(
      'ZREVRANGEBYSCORE', P .. name, before, '-inf', 'LIMIT', 0, a.limit
    )) do
      local id = redis.call('HGET', P .. 'job:' .. key, 'id')
      if id then found[#found + 1] = {tonumber(id), key} end
    end
  end
  table.sort(found, function(one, other) return one[1] > other[1] end)
  local rows = {}
  for i = 1, math.min(#found, a.limit) do
    rows[i] = redis.call('HGETALL', P .. 'job:' .. found[i][2])
  end
  return {'done', rows, {}}
end

-- Where queued jobs stand, how many there are, since when others run, and why none is sent.
function verbs.turns()
  local places, since = {}, {}
  for i, key in ipairs(a.keys) do
    places[i] = tostring(redis.call('ZRANK', P .. 'turn', key) or 'none')
  end
  for i, key in ipairs(redis.call('ZREVRANGE', P .. 'state:running', 0, 99)) do
    since[i] = redis.call('HGET', P .. 'job:' .. key, 'accepted_at')
  end
  return {
    tostring(redis.call('ZCARD', P .. 'turn')), places, since, redis.call('GET', P .. 'held') or ''
  }
end

-- The job that was last seen to end of those that a comic's id was the answer to.
function verbs.newest()
  local best, at = nil, -1
  local keys = redis.call('ZRANGE', P .. 'target:' .. a.gid, 0, -1)
  keys[#keys + 1] = redis.call('GET', P .. 'gid:' .. a.gid) or nil
  for _, key in ipairs(keys) do
    local job = load(key)
    local is_ended = job and (job.state == 'succeeded' or (a.failed and job.state == 'failed'))
    if is_ended and job.gid == a.gid and (tonumber(job.ended_at) or 0) >= at then
      best, at = key, tonumber(job.ended_at) or 0
    end
  end
  return reply('done', best)
end

function verbs.find()
  return reply('done', redis.call('GET', P .. 'gid:' .. a.gid) or nil)
end

-- Why nothing is sent for a while; nobody says so when nobody is left who holds back.
function verbs.hold()
  if a.error == '' then
    redis.call('DEL', P .. 'held')
  else
    redis.call('SET', P .. 'held', a.error, 'EX', a.seconds)
  end
  return {'done', {}, {}}
end

function verbs.uploaded()
  return {redis.call('GET', P .. 'upload:' .. a.digest) or '', {}, {}}
end

function verbs.upload()
  redis.call('SET', P .. 'upload:' .. a.digest, a.value, 'EX', UPLOADED)
  return {'done', {}, {}}
end

-- Whose jobs these are is written by the first worker.
function verbs.bind()
  redis.call('HSETNX', P .. 'account', 'base_url', a.base_url)
  redis.call('HSETNX', P .. 'account', 'account', a.account)
  return {'done', redis.call('HMGET', P .. 'account', 'base_url', 'account'), {}}
end

return verbs[verb]()
