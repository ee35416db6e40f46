"""The page of a training: frames judged, figures drawn."""
