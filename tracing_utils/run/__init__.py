"""A study, its plan and cost, its jobs and which GPU each gets, records, and whether a rerun reproduced."""
