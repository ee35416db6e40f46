"""Training a detector, repeatably."""
