"""What several processes do together in one training."""
