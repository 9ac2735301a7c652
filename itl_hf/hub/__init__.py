"""A selection as a dataset on the Hugging Face Hub: published in one commit with a card that explains it, and back.

`Selection.push_to_hub` and `Selection.from_hub` are the way in. The folder that is published is the one that
`Selection.save` writes, with a card, pictures and, if asked for, features beside it: a snapshot of the repository opens
with `Selection.load`. Not covered: editing a card by hand and keeping the edits; the next push writes it anew.
"""

from __future__ import annotations
