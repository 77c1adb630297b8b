"""Linear probes on every layer, with their controls."""
