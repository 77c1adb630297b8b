"""What everything stands on: errors as sentences, files, paths, YAML, and statistics of held-out scores."""
