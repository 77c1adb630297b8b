"""The bundled suite: how it is trained, and its model card."""
