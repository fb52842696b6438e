"""Frozen values that flow through the planner. No files, no libraries, no clock."""
