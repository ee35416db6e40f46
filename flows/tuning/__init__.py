"""What `tca tune` composes: study, trials, latency, and taking the best values over."""
