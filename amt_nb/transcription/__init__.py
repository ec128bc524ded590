"""Paper A: recordings become notes with almost no supervision."""
