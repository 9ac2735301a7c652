"""The feature store: feature rows on disk, in files with checksums."""
