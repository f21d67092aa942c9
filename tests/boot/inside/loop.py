"""Ask for metadata, again and again, until stdin ends; print how it went.

A first line comes once a request has ended: from then on it is counted.
"""

from __future__ import annotations

import http.client
import json
import select
import sys
import time

# More than 50 requests a second (greedy_rate, logged_rate) are a problem that
# agent-status reports.
_PAUSE_S = 0.025

count, failures, longest = 0, [], 0.0
last = time.monotonic()
while not select.select([sys.stdin], [], [], _PAUSE_S)[0]:
    connection = http.client.HTTPConnection("169.254.169.254", timeout=5)
    try:
        connection.request("GET", "/")
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            failures.append(str(answer.status))
    except OSError as error:
        failures.append(repr(error))
    finally:
        connection.close()
    count += 1
    if count == 1:
        print("asking", flush=True)
    now = time.monotonic()
    longest, last = max(longest, now - last), now
json.dump({"count": count, "failures": failures, "gap": longest}, sys.stdout)
