"""The tables of the journal."""

from __future__ import annotations

SCHEMA_VERSION = 1
"""A table or column more, and this rises; journals of earlier versions get what they lack when they are opened."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS promotions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    challenger_version TEXT NOT NULL, challenger_digest TEXT NOT NULL,
    champion_version TEXT, champion_digest TEXT,
    params TEXT NOT NULL,
    state TEXT NOT NULL, step INTEGER NOT NULL, held_state TEXT, held_step INTEGER,
    sentence TEXT NOT NULL, opened_at REAL NOT NULL, closed_at REAL,
    abort_reason TEXT
);
CREATE TABLE IF NOT EXISTS transitions (
    id INTEGER PRIMARY KEY, promotion INTEGER NOT NULL REFERENCES promotions,
    state TEXT NOT NULL, step INTEGER NOT NULL,
    event TEXT NOT NULL, reason TEXT NOT NULL, verdict INTEGER REFERENCES verdicts, at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS effects (
    promotion INTEGER NOT NULL REFERENCES promotions, name TEXT NOT NULL, status TEXT NOT NULL,
    intended_at REAL NOT NULL, done_at REAL, PRIMARY KEY (promotion, name)
);
CREATE TABLE IF NOT EXISTS verdicts (
    id INTEGER PRIMARY KEY, promotion INTEGER NOT NULL REFERENCES promotions,
    state TEXT NOT NULL, step INTEGER NOT NULL,
    body TEXT NOT NULL, at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS approvals (
    id INTEGER PRIMARY KEY, promotion INTEGER NOT NULL REFERENCES promotions,
    gate TEXT NOT NULL, agreed INTEGER NOT NULL, who TEXT NOT NULL, how TEXT NOT NULL, token_id TEXT UNIQUE,
    at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS hold_requests (
    promotion INTEGER PRIMARY KEY REFERENCES promotions, reason TEXT NOT NULL, at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS lease (
    one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, token TEXT NOT NULL, pid INTEGER NOT NULL,
    host TEXT NOT NULL, since REAL NOT NULL, expires REAL NOT NULL
);
"""
