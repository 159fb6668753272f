"""How answers look to people: short, aligned, and a unit on every number."""
