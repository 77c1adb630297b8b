"""Steering vectors from checkpoints, and what they do to the chat model."""
