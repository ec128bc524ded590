"""Sheet music: performances on printed pages."""
