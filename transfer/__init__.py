"""Notebook 6: transfer learning and heatmaps on 300-W (2012 cut-outs from three of its sources: AFW, HELEN, LFPW)."""
