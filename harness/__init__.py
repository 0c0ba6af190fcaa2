"""How an image model is measured. Plain Python in rooms, each a folder; it never imports pytest.

`docs/architecture.md` draws the rooms and which of them may import which.
"""

# Before anything else is imported: it reads on which cores this process may run, which a library may change.
from harness.host.cores import start as _start  # noqa: F401
