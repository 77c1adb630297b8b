"""A study, its plan, and how its jobs are run."""
