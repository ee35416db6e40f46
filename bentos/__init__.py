"""The online half: what answers in production. Imports nothing from `flows`."""
