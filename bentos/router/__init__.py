"""Champion, candidate and shadow traffic on one machine: one asyncio process in front of the detectors.

    listener.py      HTTP/1.1 server: bodies read whole, limits, drain
    backends.py      pooled HTTP/1.1 client connections to the detectors
    routing.py       the snapshot that says who answers, its fencing and its persistence
    cameras.py       which cameras the canary takes; the set only grows
    forwarding.py    a frame to its answer: canary, fallback, copies
    observations.py  what each arm answered, for the judge
    metrics.py       counters, histograms, and the answer to /stats
    admin.py         the controller's door
    app.py           all of it put together

It imports nothing of the detector: a detector is an address that answers POST /v1/detect and GET /readyz.
"""
