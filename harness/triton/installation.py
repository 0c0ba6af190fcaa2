"""Finds a tritonserver and the Python that runs its backends, and checks whether they can be trusted.

Run as a script (`python -m harness.triton.installation`), it says why no server can be installed, and needs nothing but
Python. It knows two layouts: NVIDIA's container or a build (bin/ and backends/ beside each other), and the wheel
nvidia-pytriton, which keeps the stubs for the Python backend in another place.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SETUP = "run `make setup-triton`, put a tritonserver on PATH, or give --triton-server PATH"
ENVIRONMENT = ".venv-triton"
STUB = "triton_python_backend_stub"
# A stub whose pybind11 supports numpy 2 looks for this module. A stub without it reads zeros from numpy 2's arrays,
# sends nothing back and raises no error.
_KNOWS_NUMPY_2 = b"numpy._core"
PROBE_S = 30.0
LEAST_GLIBC = (2, 35)
PYTHONS = ((3, 10), (3, 12))
_CUDA_PROVIDER = "libonnxruntime_providers_cuda.so"
_PROBE = """
import importlib.metadata as m, importlib.util, json, pathlib, sys, sysconfig
def version(name):
    try: return m.version(name)
    except m.PackageNotFoundError: return None
found = importlib.util.find_spec("onnxruntime")
folder = pathlib.Path(found.origin).parent / "capi" if found and found.origin else None
cuda = bool(folder and (folder / "libonnxruntime_providers_cuda.so").exists())
print(json.dumps({"cuda": cuda, "python": "%d.%d" % sys.version_info[:2],
  "libdir": sysconfig.get_config_var("LIBDIR") or "",
  "library": sysconfig.get_config_var("INSTSONAME") or "", "numpy": version("numpy"),
  "onnxruntime": version("onnxruntime-gpu") or version("onnxruntime")}))
"""


class NoServer(RuntimeError):
    """There is no server here; the message says why and what to do."""


class UntrustworthyServer(RuntimeError):
    """There is a server, but it would answer wrongly or not at all; the message says why and what to do."""


@dataclass(frozen=True)
class Installation:
    """A server that can be started.

    Attributes:
        binary: the program tritonserver.
        backends: the folder of its backends, None for the server's own default.
        caches: the folder of its response caches, None for the server's own default.
        stub: the stub program of its Python backend, None if it has none.
        python: the interpreter that the stub must find as its Python, None for the one on PATH.
    """

    binary: Path
    backends: Path | None
    caches: Path | None
    stub: Path | None
    python: Path | None


@dataclass(frozen=True)
class Serving:
    """The Python that runs the Python backend's models.

    Attributes:
        python: its version, such as `3.11`.
        library_folder: the folder of its libpython.
        numpy: the version of numpy, None if it is not installed.
        onnxruntime: the version of ONNX Runtime, None if it is not installed.
        has_cuda: whether that ONNX Runtime has a provider for CUDA.
    """

    python: str
    library_folder: str
    numpy: str | None
    onnxruntime: str | None
    has_cuda: bool


def find_installation(asked: Path | None, root: Path, environment: Mapping[str, str] = os.environ) -> Installation:
    """Return the server that was asked for, else the one on PATH, else the one in the wheel in `.venv-triton`.

    Args:
        asked: a tritonserver, or the folder of an environment with the wheel or of an installation with bin/.
        root: the checkout, in which .venv-triton lies.
        environment: the environment variables, of which PATH is used.

    Raises:
        NoServer: if there is none.
    """
    if asked is not None:
        found = asked if asked.is_file() else _in_folder(asked)
        if found is None:
            raise NoServer(f"no tritonserver at {asked}; give the program or the environment it is installed in")
        return describe_installation(found)
    on_path = shutil.which("tritonserver", path=environment.get("PATH"))
    in_wheel = _in_folder(root / ENVIRONMENT)
    if on_path:
        return describe_installation(Path(on_path))
    if in_wheel:
        return describe_installation(in_wheel)
    reason = not_installable()
    if reason:
        raise NoServer(
            f"no tritonserver on PATH, and none can be installed: {reason}; give --triton-server PATH or --triton-url"
        )
    raise NoServer(f"no tritonserver on PATH and none in {ENVIRONMENT}; {SETUP}")


def not_installable() -> str | None:
    """Return why `make setup-triton` cannot install the wheel with this Python on this machine, None if it can."""
    library, version = platform.libc_ver()
    if (platform.system(), platform.machine(), library) != ("Linux", "x86_64", "glibc"):
        return (
            f"the wheel nvidia-pytriton is for Linux on x86-64 with glibc, not {platform.system()} {platform.machine()}"
        )
    if tuple(map(int, version.split("."))) < LEAST_GLIBC:
        return f"the wheel nvidia-pytriton needs glibc {'.'.join(map(str, LEAST_GLIBC))}, not {version}"
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return "it needs numpy below 2, so Python 3.10 to 3.12: make setup-triton TRITON_PYTHON=python3.12"
    return None


def _in_folder(folder: Path) -> Path | None:
    places = ("bin/tritonserver", "lib/python3*/site-packages/pytriton/tritonserver/bin/tritonserver")
    found = [path for place in places for path in sorted(folder.glob(place))]
    return found[0] if found else None


def describe_installation(binary: Path) -> Installation:
    """Return the parts that belong to a tritonserver, found by the layout around it.

    Raises:
        NoServer: if this user cannot run the program, or if the environment of its wheel has no Python.
    """
    binary = binary.resolve()
    if not os.access(binary, os.X_OK):
        raise NoServer(f"{binary} is no program that can be run; {SETUP}")
    home = binary.parent.parent
    backends, caches = home / "backends", home / "caches"
    wheel_stubs = home / "python_backend_stubs"
    python = home.parents[4] / "bin" / "python" if wheel_stubs.is_dir() and len(home.parents) > 4 else None
    if python is not None and not python.exists():
        raise NoServer(f"{binary} is of a wheel whose environment has no {python}; {SETUP}")
    stub = backends / "python" / STUB
    if python is not None:
        stub = wheel_stubs / probe(python).python / STUB
    return Installation(
        binary=binary,
        backends=backends if backends.is_dir() else None,
        caches=caches if caches.is_dir() else None,
        stub=stub if stub.is_file() else None,
        python=python,
    )


def probe(python: Path | str) -> Serving:
    """Return a Python's version, its library, and the versions of the packages that served models need.

    Raises:
        NoServer: if the Python cannot be run.
    """
    done = subprocess.run([str(python), "-c", _PROBE], capture_output=True, text=True, timeout=PROBE_S, check=False)
    if done.returncode:
        raise NoServer(f"{python} cannot be run ({done.stderr.strip().rpartition(chr(10))[2]}); {SETUP}")
    told = json.loads(done.stdout)
    return Serving(told["python"], told["libdir"], told["numpy"], told["onnxruntime"], told["cuda"])


def require_trustworthy(installation: Installation) -> Serving | None:
    """Return the Python that will run models of the Python backend, checked; None if the server has no such backend.

    Raises:
        UntrustworthyServer: if the stub or a needed package is missing, or if the stub would misread the Python's
            numpy.
    """
    backends = installation.backends
    if backends is None or not (backends / "python").is_dir():
        return None
    serving = probe(installation.python or "python3")
    where = installation.python or "the python3 on PATH"
    if installation.stub is None:
        raise UntrustworthyServer(
            f"{installation.binary} has no Python backend stub for Python {serving.python} ({where}); {SETUP}"
        )
    is_needed = not (backends / "onnxruntime").is_dir()  # else the server has a backend of its own for ONNX files
    if is_needed and (serving.numpy is None or serving.onnxruntime is None):
        missing = " and ".join(name for name in ("numpy", "onnxruntime") if getattr(serving, name) is None)
        raise UntrustworthyServer(f"{where} has no {missing}, which served models need; {SETUP}")
    if (
        serving.numpy
        and int(serving.numpy.partition(".")[0]) >= 2
        and _KNOWS_NUMPY_2 not in installation.stub.read_bytes()
    ):
        raise UntrustworthyServer(
            f"{where} has numpy {serving.numpy}, and the stub {installation.stub} was built before numpy 2: it would "
            f"read zeros and answer zeros without an error; install numpy below 2 there, or {SETUP}"
        )
    return serving


def lacks_cuda(installation: Installation, serving: Serving | None) -> str | None:
    """Return why this server cannot serve ONNX files on CUDA devices, None if it can.

    Args:
        installation: the server.
        serving: the Python of its Python backend, None if it has no such backend.
    """
    own = None if installation.backends is None else installation.backends / "onnxruntime"
    if own is not None and own.is_dir():
        return None if (own / _CUDA_PROVIDER).exists() else f"the server's backend in {own} has no {_CUDA_PROVIDER}"
    if serving is not None and serving.has_cuda:
        return None
    where = installation.python or "the python3 on PATH"
    return f"ONNX Runtime of {where} has no provider for CUDA: install onnxruntime-gpu there, or use --device cpu"


if __name__ == "__main__":
    sys.exit(not_installable())
