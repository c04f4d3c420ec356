"""Hostile and damaged inputs for every reader: few of them with each test run, many by hand.

python -m tests.fuzz --cases 100000 --loads 500 --seed 0
"""
