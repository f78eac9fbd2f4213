-- Posts what the environment says: PHOTO (a file, sent as image/jpeg) or a small JSON body; DELAY_MS before each request
-- makes a steady rate of connections × 1000 / DELAY_MS. Ends with one line: requests, seconds, errors, p50 and p99 in ms.
local photo = os.getenv('PHOTO')
wrk.method = 'POST'
if photo then
  local file = assert(io.open(photo, 'rb'))
  wrk.body = file:read('*a')
  wrk.headers['Content-Type'] = 'image/jpeg'
else
  wrk.body = '{"url": "http://photo.example/cat.jpg"}'
  wrk.headers['Content-Type'] = 'application/json'
end

if os.getenv('DELAY_MS') then
  local pause = tonumber(os.getenv('DELAY_MS'))
  function delay()
    return pause
  end
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('RESULT %d %.3f %d %.3f %.3f\n', summary.requests, summary.duration / 1e6,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout, latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3))
end
