"""Measurements against ground truth: kept apart from the tests, because they need data that cannot travel along."""
