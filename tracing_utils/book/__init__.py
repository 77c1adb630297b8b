"""What the book needs: charts, words, pages."""
