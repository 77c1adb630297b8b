"""Claims as tests on results, how often these tests err, the paper's own numbers, and the faults of its files."""
