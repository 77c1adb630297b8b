"""The paper's claims as tests on results, their simulated power, and the faults of the released files."""
