"""What earlier passes found out about images, to be looked up by their content: a renamed file is not decoded again."""

from __future__ import annotations

import hashlib
from functools import cache, lru_cache
from pathlib import Path

import cv2
import numpy as np
import PIL
import simplejpeg

from flows.dataset.manifest.inspection import THUMBNAIL_WH, ImageFacts
from flows.dataset.manifest.parts import FACTS, SUFFIX, read_part

_OURS = ("decoding", "inspection", "overlaps", "parts", "reading", "shards")
_MAKERS = (  # code that decides about a figure of an image, a box or a problem
    "bentos/detector/features.py",
    "bentos/detector/header.py",
    "bentos/detector/imaging.py",
    "flows/geometry.py",
    "flows/label_forms.py",
    "flows/dataset/labels.py",
    *(
        f"flows/dataset/manifest/{name}.py"
        for name in ("decoding", "inspection", "overlaps", "parts", "reading", "shards")
    ),
)
_LIBRARIES = (np, cv2, PIL, simplejpeg)
_KEPT_PARTS = 16  # opened parts that stay in memory, some MB each


@cache
def maker() -> str:
    """A short digest of the code and the libraries that make figures; with another one nothing old is reused."""
    root = Path(__file__).resolve().parents[3]
    digest = hashlib.sha256()
    for name in _MAKERS:
        digest.update((root / name).read_bytes() + b"\0")
    digest.update(" ".join(f"{library.__name__} {library.__version__}" for library in _LIBRARIES).encode())
    return digest.hexdigest()[:16]


class KnownImages:
    """The facts of images in the parts of a folder, by their SHA-256: 40 bytes an image, the rest stays on disk."""

    def __init__(self, folder: Path) -> None:
        self._paths = sorted(folder.glob(f"*{SUFFIX}"))
        digests, places = [], []
        for number, path in enumerate(self._paths):
            part = read_part(path)
            if part is None:
                continue
            for row, sha256 in enumerate(part.images["sha256"].to_pylist()):
                if sha256:
                    digests.append(bytes.fromhex(sha256))
                    places.append((number, row))
        self._digests = np.array(digests, dtype="S32")
        self._places = np.array(places, dtype=np.int32).reshape(-1, 2)
        order = np.argsort(self._digests)
        self._digests, self._places = self._digests[order], self._places[order]
        self._facts = lru_cache(_KEPT_PARTS)(_read_facts)

    def find(self, sha256: str) -> ImageFacts | None:
        """The facts of the image with this content; None where no part has them."""
        if not len(self._digests):
            return None
        wanted = np.frombuffer(bytes.fromhex(sha256), dtype="S32")
        at = int(np.searchsorted(self._digests, wanted)[0])
        if at >= len(self._digests) or self._digests[at] != wanted[0]:
            return None
        number, row = self._places[at]
        facts = self._facts(self._paths[number])
        # the part may have been replaced since it was listed
        return facts[row] if row < len(facts) and facts[row].sha256 == sha256 else None


def _read_facts(path: Path) -> list[ImageFacts]:
    part = read_part(path)
    if part is None:
        return []
    rows = part.images.select(FACTS).to_pylist()
    shape = THUMBNAIL_WH[::-1]
    return [
        ImageFacts(**row, thumbnail=thumbnail.reshape(shape))
        for row, thumbnail in zip(rows, part.thumbnails, strict=True)
    ]
