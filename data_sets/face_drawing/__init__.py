"""Draws people: who they are and what they do (people), and their portraits (portrait, hair, maps, brushes)."""
