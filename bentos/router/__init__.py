"""Champion, candidate and shadow traffic on one machine: one asyncio process in front of the detectors.

    listener.py      HTTP/1.1 server: bodies read whole, limits, drain
    connections.py   one HTTP/1.1 client connection to a detector
    backends.py      pools of them, and who is ready
    silence.py       who hangs
    reminders.py     whose time is up
    routing.py       the snapshot that says who answers, its fencing and its persistence
    cameras.py       which cameras the canary takes; the set only grows
    arms.py          asking champion and candidate, and the budgets
    fallback.py      who answers when the one that was meant to does not
    copies.py        frames sent a second time, first to go under load
    forwarding.py    a request to its answer
    observations.py  what each arm answered, for the judge
    metrics.py       counters, histograms, and the answer to /stats
    admin.py         the controller's door
    state.py         the state directory, and its lock
    app.py           all of it put together

It imports nothing of the detector: a detector is an address that answers POST /v1/detect and GET /readyz.
"""
