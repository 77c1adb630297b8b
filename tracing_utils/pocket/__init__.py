"""The bundled suites: their texts, their training, their model cards."""
