"""What can go wrong, one class a kind; the exit code follows the branch.

    TcaError
    ├── InputError            exit 2: what the user gave is wrong
    │   ├── ParamsError       params.yaml or an override
    │   ├── DataError         images, labels or the layout they lie in
    │   ├── CheckpointError   a weights file that is not what it should be
    │   └── ProjectError      not inside a project, or a step that must run first is missing
    ├── GateRefused           exit 1: a gate said no, with its reasons
    └── OutsideError          exit 3: something outside failed
        ├── EngineUnavailable the engine or precision asked for cannot be built or run here
        ├── ServiceError      a process or server did not start, answer or stop
        ├── Conflict          somebody else holds what is needed: a lease, a port, a lock
        ├── MemoryShort       a step of a training did not fit into memory
        └── Preempted         a training was asked to stop; what it had done is saved

A lost comparison is a verdict, not an exception: `GateRefused` is raised only where going on would ignore it.
"""

from __future__ import annotations


class TcaError(Exception):
    """Root of every error a user may see: what happened, and how to mend it."""

    exit_code = 3

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message.rstrip('.')}. {self.remedy}" if self.remedy else self.message


class InputError(TcaError):
    """What the user gave is wrong; the message says where and what was expected."""

    exit_code = 2


class ParamsError(InputError):
    """params.yaml or an override names an unknown key, or a value out of its range."""


class DataError(InputError):
    """Images, labels or their layout are not what the product reads."""


class CheckpointError(InputError):
    """A weights file is missing, is not a checkpoint, or was made for another task."""


class ProjectError(InputError):
    """The command is not inside a project, or the step it builds on has not run."""


class GateRefused(TcaError):
    """A gate said no: the message carries the verdict and its reasons."""

    exit_code = 1


class OutsideError(TcaError):
    """Something outside this program failed."""


class EngineUnavailable(OutsideError):
    """The engine or precision asked for cannot be built or run on this machine."""


class ServiceError(OutsideError):
    """A process or server did not start, answer or stop in time."""


class Conflict(OutsideError):
    """Somebody else holds what is needed: a lease, a port, a lock."""


class MemoryShort(OutsideError):
    """A step of a training did not fit into the memory of the device."""


class Preempted(OutsideError):
    """A training was asked to stop; it has saved what it had done, and the same command goes on from there."""
