"""Files and folders that are written whole: checks before the work, temporary paths, locks."""
