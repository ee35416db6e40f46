"""The only rooms that talk to DVC, MLflow, Prefect, processes and the bento store."""
