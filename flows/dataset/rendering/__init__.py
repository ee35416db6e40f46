"""The demo data: traffic scenes, drawn."""
