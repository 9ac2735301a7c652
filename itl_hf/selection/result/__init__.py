"""The result of a selection: the rows, why each was picked, the record, and the files on disk."""
