"""Drawn people: their attributes and scenes (people), and painting them (portrait, hair, maps, brushes)."""
