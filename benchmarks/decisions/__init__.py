"""How often decisions are wrong: offline.py simulates evaluations, online.py promotions. Run either with -m."""
