"""What changed between two states of the project: params, data, figures, and whether dvc.lock still holds."""
