"""The book: charts, computed sentences, table of contents, links to terms, credits, and notebooks to hand out."""
