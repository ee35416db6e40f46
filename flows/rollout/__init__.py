"""Bringing a challenger to the throne under live traffic, on evidence."""
