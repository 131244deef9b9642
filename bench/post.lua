-- wrk: POST the lines of $BODY_FILE in turn; one line of JSON at the end
local reqs, i = {}, 0
init = function(args)
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  for line in io.lines(os.getenv("BODY_FILE")) do reqs[#reqs + 1] = wrk.format(nil, nil, nil, line) end
end
request = function() i = i % #reqs + 1; return reqs[i] end
done = function(s, l, r)
  io.write(string.format('JSON {"requests":%d,"seconds":%.6f,"p50_us":%d,"p99_us":%d,"failed":%d}\n',
    s.requests, s.duration / 1e6, l:percentile(50), l:percentile(99),
    s.errors.connect + s.errors.read + s.errors.write + s.errors.status + s.errors.timeout))
end
