"""Requests as bytes: what no HTTP library would send."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from tests.chaos.pictures import save, scene

POST = b"POST /v1/detect HTTP/1.1\r\nhost: x\r\n"
FRAME = POST + b"content-type: image/jpeg\r\n"
REFUSED = frozenset({400, 404, 405, 408, 411, 413, 415, 422, 431})


@dataclass(frozen=True)
class Raw:
    """Bytes of a connection, sent at once; the first answer has one of `statuses`."""

    name: str
    data: bytes
    statuses: frozenset[int] = frozenset({400})


def raw_requests(num: int, seed: int) -> Iterator[Raw]:
    """The known oddities, then damaged requests until there are `num`."""
    known = list(known_oddities())
    yield from known[:num]
    dice = random.Random(seed)
    jpeg = save(Image.fromarray(scene()), "JPEG", quality=90)
    whole = FRAME + b"x-camera-id: gate\r\ncontent-length: %d\r\n\r\n" % len(jpeg) + jpeg
    length = whole.index(b"\r\n\r\n")
    for index in range(num - len(known)):
        damaged = bytearray(whole)
        for _ in range(dice.choice((1, 1, 2, 3, 8))):
            at = dice.randrange(length)
            part = dice.choice((b"", dice.randbytes(1), b"\r\n", b"\0", b" ", b":", dice.randbytes(dice.randrange(60))))
            damaged[at : at + dice.choice((0, 1, 1, 5))] = part
        yield Raw(f"damaged header {index}", bytes(damaged), REFUSED | {200, 501, 505})


def known_oddities() -> Iterator[Raw]:
    """One of a kind."""
    jpeg = save(Image.fromarray(scene()), "JPEG", quality=90)
    size = b"content-length: %d\r\n" % len(jpeg)
    frame = FRAME + size + b"\r\n" + jpeg
    chunked = FRAME + b"transfer-encoding: chunked\r\n\r\n"
    chunks = b"%x\r\n" % len(jpeg) + jpeg + b"\r\n0\r\n\r\n"
    good = frozenset({200})
    yield Raw("a frame", frame, good)
    yield Raw(
        "a frame that wishes for HTTP/2", FRAME + b"connection: upgrade\r\nupgrade: h2c\r\n" + frame[len(FRAME) :], good
    )
    yield Raw("chunks", chunked + chunks, good)
    yield Raw("chunks with extensions", chunked + chunks.replace(b"\r\n", b";a=b\r\n", 1), good)
    yield Raw("a trailer", chunked + chunks[:-2] + b"x: y\r\n\r\n", good)
    yield Raw("bytes one by one", chunked + b"".join(b"1\r\n%c\r\n" % byte for byte in jpeg) + b"0\r\n\r\n", good)
    yield Raw("an expectation", FRAME + b"expect: 100-continue\r\n" + size + b"\r\n" + jpeg, frozenset({100}))
    yield Raw("HTTP/1.0", frame.replace(b"HTTP/1.1", b"HTTP/1.0"), good)
    yield Raw("two frames at once", frame + frame, good)
    yield Raw("a frame and nonsense", frame + b"\0\1nonsense\r\n\r\n", good | {400})
    yield Raw("no HTTP", b"hello\r\n\r\n")
    yield Raw("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500))
    yield Raw("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    yield Raw("CONNECT", b"CONNECT a:1 HTTP/1.1\r\nhost: x\r\n\r\n")
    yield Raw("a path that is no text", b"GET /\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n")
    yield Raw("a path that leads out", b"GET /../../etc/passwd HTTP/1.1\r\nhost: x\r\n\r\n", frozenset({404}))
    yield Raw("an absolute path", b"GET http://[::1 HTTP/1.1\r\nhost: x\r\n\r\n")
    yield Raw("OPTIONS *", b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n", frozenset({404}))
    for value in (b"abc", b"-5", b"1e3", b"5, 6", b"9" * 30, b"0x10", b"+5", b""):
        yield Raw(f"length {value!r}", FRAME + b"content-length: " + value + b"\r\n\r\nxxxxx")
    yield Raw("a huge length", FRAME + b"content-length: 18446744073709551615\r\n\r\nx", frozenset({413}))
    yield Raw("two lengths", FRAME + b"content-length: 5\r\ncontent-length: 6\r\n\r\nxxxxxx")
    yield Raw("length and chunks", FRAME + size + b"transfer-encoding: chunked\r\n\r\n" + chunks)
    yield Raw("chunks of no length", chunked + b"ZZ\r\nxx\r\n0\r\n\r\n")
    yield Raw("chunks of a huge length", chunked + b"ffffffffffffffffff\r\nxx\r\n")
    yield Raw("another encoding", FRAME + b"transfer-encoding: gzip\r\n\r\nxx")
    yield Raw("no body at all", POST + b"content-type: image/jpeg\r\n\r\n", frozenset({411}))
    large = frozenset({431})
    yield Raw("one long header", FRAME + b"x: " + b"a" * 60_000 + b"\r\n" + size + b"\r\n" + jpeg, large)
    yield Raw("a header without end", FRAME + b"x: " + b"a" * 3_000_000, large)
    yield Raw("many headers", FRAME + b"".join(b"x%d: y\r\n" % i for i in range(20_000)) + size + b"\r\n" + jpeg, large)
    yield Raw("some headers", FRAME + b"".join(b"x%d: y\r\n" % i for i in range(1_000)) + size + b"\r\n" + jpeg, good)
    yield Raw("a long path", b"GET /" + b"a" * 60_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", large)
    yield Raw(
        "a long query", b"POST /v1/detect?" + b"conf=0.5&" * 300 + frame[frame.index(b" HTTP") :], frozenset({422})
    )
    for query in (b"conf=nan", b"conf=1e999", b"max_det=0", b"iou=%ff", b"conf", b"max_det=" + b"9" * 5000, b"\xe9=1"):
        yield Raw(f"query {query[:20]!r}", b"POST /v1/detect?" + query + frame[frame.index(b" HTTP") :], REFUSED)
    for name, value in ((b"x-camera-id", b"\xff" * 9), (b"x-camera-id", b"a" * 5000)):
        yield Raw(
            f"camera {value[:3]!r}", FRAME + name + b": " + value + b"\r\n" + size + b"\r\n" + jpeg, frozenset({422})
        )
    yield Raw("an odd request id", FRAME + b"x-request-id: \xff<script>\r\n" + size + b"\r\n" + jpeg, good)
    for media in (b"", b"\xff/\xff", b"image/gif", b"text/html; charset=\xe9"):
        yield Raw(
            f"type {media!r}", POST + b"content-type: " + media + b"\r\n" + size + b"\r\n" + jpeg, frozenset({415})
        )
    for path in (b"/detect", b"/v1/model", b"/livez", b"/readyz", b"/metrics", b"/", b"/docs.json"):
        for media in (b"multipart/form-data", b"application/json", b"text/plain", b"image/jpeg"):
            head = b"POST " + path + b" HTTP/1.1\r\nhost: x\r\ncontent-type: " + media
            yield Raw(f"POST {path!r} {media!r}", head + b"\r\ncontent-length: 2\r\n\r\nxx", REFUSED)
