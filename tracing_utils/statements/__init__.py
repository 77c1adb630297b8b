"""Statements about the five dimensions: the sets, where they come from, and the user's own files."""
