"""What reads foreign bytes in Python, each with a corpus, mutated: python -m tests.fuzz SECONDS SEED."""
