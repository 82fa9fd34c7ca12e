"""Notebook 6: transfer learning and heatmaps on 300-W."""
