"""What pytest must not collect: a user's script as it stands, which runs when it is imported."""

collect_ignore = ["training/existing_script.py"]
