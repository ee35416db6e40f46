"""What a file is that was given as a checkpoint, by its name and first bytes: PyTorch is not needed to say no."""

from __future__ import annotations

import zipfile
from pathlib import Path

from flows.errors import CheckpointError

REMEDY = "Expected a YOLO11 checkpoint (.pt) that Ultralytics saved"
_SUFFIXES = {
    ".onnx": "an ONNX export",
    ".engine": "a TensorRT engine",
    ".torchscript": "a TorchScript export",
    ".xml": "an OpenVINO export",
    ".safetensors": "a file of tensors without a model",
    ".tflite": "a TensorFlow Lite export",
}
_FIRST_BYTES = (
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89PNG", "a PNG image"),
    (b"%PDF", "a PDF"),
    (b"\x7fELF", "a program"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself: run git lfs pull"),
)


def check_kind(path: Path) -> None:
    """Refuse what is plainly no checkpoint. Reads the head of the file and, of an archive, the list of its members.

    Raises:
        CheckpointError: The file is missing, or is something else; the message says what.
    """
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder, not a checkpoint", "Give the path of a .pt file")
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint at {path}", "Give the path of a .pt file")
    if export := _SUFFIXES.get(path.suffix.lower()):
        raise CheckpointError(f"{path} is {export}, not a checkpoint", "Give the .pt file that it was made from")
    if path.suffix != ".pt":
        raise CheckpointError(f"{path} is no checkpoint: its name does not end in .pt", REMEDY)
    try:
        kind = _other_kind(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}", REMEDY) from None
    if kind:
        raise CheckpointError(f"{path} is no checkpoint ({kind})", REMEDY)


def _other_kind(path: Path) -> str:
    """What the file is, if not a PyTorch archive; empty if it may be one."""
    with path.open("rb") as stream:
        head = stream.read(512)
    if not head:
        return "the file is empty"
    if head.startswith(b"PK\x03\x04"):
        return _kind_of_archive(path)
    if head.startswith(b"\x80"):  # a pickle, as PyTorch wrote them before 1.6
        return ""
    for start, kind in _FIRST_BYTES:
        if head.startswith(start):
            return f"it is {kind}"
    if b"onnx" in head[:64] or b"pytorch" in head[:16]:
        return "it is an ONNX export; give the .pt file that it was made from"
    text = not (set(head) - set(range(32, 256)) - {9, 10, 13})
    return "it is a text file" if text else "it is not a PyTorch archive"


def _kind_of_archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return "the archive is damaged: was it cut off while it was copied?"
    if "constants.pkl" in names:
        return "it is a TorchScript export; give the .pt file that it was made from"
    return "" if "data.pkl" in names else "it is a ZIP archive of something else"
