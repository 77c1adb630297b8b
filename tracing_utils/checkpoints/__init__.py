"""Checkpoints of a training run: suites, the hub, the ledger, loading, activations."""
