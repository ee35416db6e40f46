"""What is seen of a training."""
