"""The bundled suite of checkpoints: its corpus, its training, and its model card."""
