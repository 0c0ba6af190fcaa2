"""How an image model is measured. Plain Python in rooms, each a folder; it never imports pytest.

`docs/architecture.md` draws the rooms and which of them may import which.
"""
