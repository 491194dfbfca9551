"""Criteria, budget, selection and surgery."""
