"""Labels that a reference model doubts."""
