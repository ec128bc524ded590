"""Paper B: performances and scores, synchronised through repeats, skips and jumps."""
