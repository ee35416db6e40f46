"""The detector: one inference path, used by evaluation offline and by the service online."""
