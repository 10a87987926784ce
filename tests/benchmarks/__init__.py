"""Measurements that people run; nothing here gates a build."""
