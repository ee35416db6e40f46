"""What workflows need and a person has no verb for; each also runs on a developer's machine."""
