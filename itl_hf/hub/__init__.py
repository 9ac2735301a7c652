"""Publishes selections as datasets on the Hugging Face Hub, and loads them from there.

`Selection.push_to_hub` and `Selection.from_hub` are the public functions. What is published is the folder that
`Selection.save` writes, together with a card, pictures and, on request, features; a snapshot of the repository can be
opened with `Selection.load`. Not supported: edits of a card by hand, which the next push overwrites.
"""

from __future__ import annotations
