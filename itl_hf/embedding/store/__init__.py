"""The feature store: feature rows on disk in checksummed shards."""
