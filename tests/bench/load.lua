-- Posts what the environment says: PHOTOS (files, one a line, sent as image/jpeg in turn), BODY (a file, with HEADERS, one a
-- line) or a small JSON body. Ends with one line: requests, seconds, errors, p50 and p99 in ms.
local photos, body = os.getenv('PHOTOS'), os.getenv('BODY')
local requests, at = {}, 0
wrk.method = 'POST'

if photos then
  function init() -- wrk knows the Host header by then
    for path in photos:gmatch('[^\n]+') do
      local file = assert(io.open(path, 'rb'))
      requests[#requests + 1] = wrk.format('POST', nil, {['Host'] = wrk.headers['Host'], ['Content-Type'] = 'image/jpeg'}, file:read('*a'))
      file:close()
    end
  end

  function request()
    at = at % #requests + 1
    return requests[at]
  end
elseif body then
  local file = assert(io.open(body, 'rb'))
  wrk.body = file:read('*a')
  file:close()
  for name, value in os.getenv('HEADERS'):gmatch('([^\n:]+): ([^\n]+)') do
    wrk.headers[name] = value
  end
else
  wrk.body = '{"url": "http://photo.example/cat.jpg"}'
  wrk.headers['Content-Type'] = 'application/json'
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('RESULT %d %.3f %d %.3f %.3f\n', summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3))
end
