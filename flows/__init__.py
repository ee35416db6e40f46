"""The offline half: what an engineer or CI triggers, one verb a flow."""
