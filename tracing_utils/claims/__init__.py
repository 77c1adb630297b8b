"""Claims as tests on results, and the paper's own numbers."""
