"""The book: charts, computed sentences, contents, links to terms, credits, and notebooks to hand out."""
